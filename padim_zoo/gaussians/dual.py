"""The dual form: Gaussians of no more images than channels, by Woodbury's identity.

With A the n centered samples at a patch and Σ = s·AᵀA + b·I,

    Σ⁻¹ = (I − s·Aᵀ(s·AAᵀ + b·I)⁻¹A) / b,

so that n × n matrices are factorized instead of D × D ones. From some 40 images on, the nested form of the same samples
is fewer numbers to read where s and b are the same at all patches. Then it computes the distances, and no n × n matrix
is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from padim_zoo.core.cholesky import IllConditionedError, whitening_factor
from padim_zoo.core.parallel import blocks, map_blocks
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import Gaussian, PatchwiseGaussian, bytes_of
from padim_zoo.gaussians.grid_hierarchy import factor_numbers, levels
from padim_zoo.gaussians.nested import PRIMAL_CONDITION, NestedGaussian, fit_nested
from padim_zoo.gaussians.packed_triangular import PackedTriangles, Triangles, column_blocks, packed_bytes, unpacked
from padim_zoo.statistics.samples import Samples

CANCELLATION = 1 / 128
"""What must be left of ‖δ‖² in the dual form for float32 to keep a distance to 1e-4; where less is left, it is computed
anew in float64. That happens near the normal images themselves, which lie in the span of the samples."""


REFIT_LIMIT = 2**30
"""Products of two numbers that the nested form may take to be fitted to the samples, since each process that loads a
model does it anew. 50 images of 256 × 256 take .3 of it with 64 channels and .46 with 100: up to .7 seconds of one
core."""


class DualGaussian(PatchwiseGaussian):
    """Σ⁻¹ = (I − AᵀT TᵀA) / b, for Σ = s·AᵀA + b·I.

    Parameters
    ----------
    mean : PatchEmbeddings
    samples : PatchEmbeddings
        A: the n centered samples.
    whitener : Triangles, PackedTriangles or None
        T, n × n at each patch, upper triangular, with T Tᵀ = s·(s·A Aᵀ + b·I)⁻¹; float32 or float64. None where the
        nested form computes the distances.
    s, b : Tensor
        (P,), float64.
    """

    form = "dual"

    def __init__(
        self,
        mean: PatchEmbeddings,
        samples: PatchEmbeddings,
        whitener: Triangles | PackedTriangles | None,
        s: Tensor,
        b: Tensor,
    ) -> None:
        super().__init__(mean)
        self.samples = samples
        self._stored = whitener
        self.s = s
        self.b = b

    @classmethod
    def by_nested(cls, mean: PatchEmbeddings, samples: PatchEmbeddings, b: float) -> DualGaussian | None:
        """That of Σ = S + b·I whose distances the nested form computes; None where T is better, or there is none."""
        n = samples.n
        if mean.subset is not None or 2 * n <= mean.D:  # far from it: grids need not be looked at
            return None
        nested = factor_numbers(levels(mean))
        if nested is None or nested * n > REFIT_LIMIT:
            return None
        if nested > mean.P * n * n // 2 + sum(layer.numel() for layer in samples.layers):
            return None
        numbers = torch.full((mean.P,), b, dtype=torch.float64)
        gaussian = cls(mean, samples, None, torch.full_like(numbers, 1 / max(n - 1, 1)), numbers)
        return None if gaussian.nested is None else gaussian

    @cached_property
    def nested(self) -> NestedGaussian | None:
        """The nested form of the same Gaussians, fitted to A when first wanted; None where T is at hand."""
        if self._stored is not None:
            return None
        fitted = fit_nested(Samples(self.samples), levels(self.mean), float(self.b[0]), PRIMAL_CONDITION)
        return None if fitted is None else NestedGaussian(self.mean, weights=fitted.weights)

    @cached_property
    def whitener(self) -> Triangles:
        """T; of a model that was loaded, unpacked when first wanted; made of A, in float64, where it was not kept."""
        if self._stored is not None:
            return unpacked(self._stored)

        def block(patches: slice) -> tuple[Tensor, ...]:
            gram = self.samples.inner_products(self.samples, patches, torch.float64)
            factor = dual_factor(gram, self.s[patches], self.b[patches], centered=True)
            return column_blocks(factor * self.s[patches].sqrt()[:, None, None])

        return Triangles(map_blocks(block, self.mean.P, 8 * self.samples.n * (4 * self.samples.n + self.samples.D)))

    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        if self.nested is not None:
            return self.nested.squared_distances(embeddings)
        self.whitener  # noqa: B018 - made here, once, and not in each of the threads that score blocks
        return super().squared_distances(embeddings)

    def _block(self, deviations: PatchEmbeddings, patches: slice) -> Tensor:
        precision = self.whitener.dtype
        products = deviations.inner_products(self.samples, patches, precision)
        norms = deviations.squared_norms(patches, precision)
        outside = norms - self.whitener.squared_norms(products, patches)
        if precision == torch.float32:
            weak = outside < CANCELLATION * norms
            weak_patches = weak.any(1).nonzero().flatten()
            # Bounded memory, since at a normal image nearly all patches are computed anew.
            for part in blocks(len(weak_patches), 32 * self.samples.n**2):
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
        samples = {f"samples.{number}": layer for number, layer in enumerate(self.samples.layers)}
        whitener = {} if packed is None else packed.arrays("whitener")
        return {**samples, **whitener, "s": self.s, "b": self.b}

    def size_in_bytes(self) -> int:
        others = [*self.mean.layers, *self.samples.layers, self.s, self.b]
        whitener = 0 if self._stored is None else packed_bytes(len(self.s), self.samples.n, self._stored.dtype)
        return whitener + bytes_of(others)

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        layers = tuple(arrays[f"samples.{number}"] for number in range(len(mean.layers)))
        samples = PatchEmbeddings(layers, mean.grids, mean.grid, mean.subset)
        whitener = PackedTriangles.from_arrays("whitener", arrays) if "whitener.values" in arrays else None
        return cls(mean, samples, whitener, arrays["s"], arrays["b"])


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
