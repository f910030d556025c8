"""The dual form: Gaussians of no more images than channels, by Woodbury's identity.

With A the n centered samples at a patch and Σ = s·AᵀA + b·I,

    Σ⁻¹ = (I − s·Aᵀ(s·AAᵀ + b·I)⁻¹A) / b,

so that n × n matrices are factorized instead of D × D ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from padim_zoo.core.cholesky import IllConditionedError, whitening_factor
from padim_zoo.core.parallel import blocks
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import Gaussian, PatchwiseGaussian, arrays_of_samples, bytes_of, samples_about
from padim_zoo.gaussians.packed_triangular import PackedTriangles, Triangles, packed_bytes, unpacked

CANCELLATION = 1 / 128
"""What must be left of ‖δ‖² in the dual form for float32 to keep a distance to 1e-4; where less is left, it is computed
anew in float64. That happens near the normal images themselves, which lie in the span of the samples."""


class DualGaussian(PatchwiseGaussian):
    """Σ⁻¹ = (I − AᵀT TᵀA) / b, for Σ = s·AᵀA + b·I.

    Parameters
    ----------
    mean : PatchEmbeddings
    samples : PatchEmbeddings
        A: the n centered samples.
    whitener : Triangles or PackedTriangles
        T, n × n at each patch, upper triangular, with T Tᵀ = s·(s·A Aᵀ + b·I)⁻¹; float32 or float64.
    s, b : Tensor
        (P,), float64.
    """

    form = "dual"
    samples: PatchEmbeddings

    def __init__(
        self,
        mean: PatchEmbeddings,
        samples: PatchEmbeddings,
        whitener: Triangles | PackedTriangles,
        s: Tensor,
        b: Tensor,
    ) -> None:
        super().__init__(mean, samples=samples)
        self._stored = whitener
        self.s = s
        self.b = b

    @cached_property
    def whitener(self) -> Triangles:
        """T; of a model that was loaded, unpacked when first wanted."""
        return unpacked(self._stored)

    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        self.whitener  # noqa: B018 - made here, once, and not in each of the threads that score blocks
        return super().squared_distances(embeddings)

    def _block(self, deviations: PatchEmbeddings, patches: slice) -> Tensor:
        precision = self.whitener.dtype
        products = deviations.inner_products(self.samples, patches, precision)
        norms = deviations.squared_norms(patches, precision)
        outside = norms - self.whitener.squared_norms(products, patches)
        if precision == torch.float32:
            weak = outside < CANCELLATION * norms
            weak_patches = weak.any(1).nonzero().flatten()  # another device is waited for here
            # Bounded memory, since at a normal image nearly all patches are computed anew.
            for part in blocks(len(weak_patches), 32 * self.samples.n**2, deviations.device):
                block = weak_patches[part]
                anew = self._outside(deviations, block + patches.start)
                outside[block] = torch.where(weak[block], anew, outside[block])
        return (outside.clamp_min(0) / self.b[patches].to(precision).unsqueeze(1)).float()

    def _outside(self, deviations: PatchEmbeddings, patches: Tensor) -> Tensor:
        s, b = self.s[patches], self.b[patches]
        factor = dual_factor(self.samples.inner_products(self.samples, patches, torch.float64), s, b)
        products = deviations.inner_products(self.samples, patches, torch.float64)
        inside = (products @ factor).square().sum(2) * s[:, None]
        return (deviations.squared_norms(patches, torch.float64) - inside).float()

    def _working_numbers(self, n: int) -> int:
        return self.mean.D * (n + self.samples.n) + self.samples.n * (self.samples.n + 2 * n)

    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        packed = self._stored
        if isinstance(packed, Triangles):
            packed = PackedTriangles.pack(packed, packed.dtype)
        return {**arrays_of_samples(self.samples), **packed.arrays("whitener"), "s": self.s, "b": self.b}

    def size_in_bytes(self) -> int:
        others = [*self.mean.layers, *self.samples.layers, self.s, self.b]
        return packed_bytes(len(self.s), self.samples.n, self._stored.dtype) + bytes_of(others)

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        whitener = PackedTriangles.from_arrays("whitener", arrays)
        return cls(mean, samples_about(mean, arrays), whitener, arrays["s"], arrays["b"])


def dual_kernel(gram: Tensor, s: Tensor, b: Tensor, *, centered: bool) -> Tensor:
    """s·AAᵀ + b·I (p, n, n), written over AAᵀ; parameters are those of :func:`dual_factor`."""
    kernel = gram.mul_(s[:, None, None])
    diagonal = kernel.diagonal(dim1=1, dim2=2)
    diagonal += b[:, None]
    if centered:
        # Products with such rows add up to nothing too: of the factor along (1, …, 1) nothing is ever used but the
        # rounding errors that it multiplies, by 1/√b. There the kernel may be anything.
        kernel += (diagonal.mean(1) / kernel.shape[1])[:, None, None]
    return kernel


def dual_factor(gram: Tensor, s: Tensor, b: Tensor, *, limit: float | None = None, centered: bool = False) -> Tensor:
    """F with F Fᵀ = (s·AAᵀ + b·I)⁻¹.

    Parameters
    ----------
    gram : Tensor (p, n, n), float64
        AAᵀ; it is overwritten.
    s, b : Tensor (p,), float64
    limit : float, optional
        Largest tr(K)/n · tr(K⁻¹), with K the matrix that is inverted, to be accepted.
    centered : bool
        Whether the rows of A add up to nothing.

    Raises
    ------
    IllConditionedError
        If a matrix is beyond the limit.
    """
    kernel = dual_kernel(gram, s, b, centered=centered)
    factor = whitening_factor(kernel)
    diagonal = kernel.diagonal(dim1=1, dim2=2)
    if limit is not None and float((diagonal.mean(1) * factor.square().sum((1, 2))).max()) > limit:
        raise IllConditionedError
    return factor
