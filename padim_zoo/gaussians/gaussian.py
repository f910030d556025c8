"""Fitted Gaussians, one per patch, in the forms that scoring wants; all give squared Mahalanobis distances.

========  =====================================================  ===============================
form      what it stores                                         squared distance of δ
========  =====================================================  ===============================
primal    F (D×D) with F Fᵀ = Σ⁻¹                                ‖Fᵀδ‖²
dual      the n centered samples A (n×D), and T (n×n), s, b       (‖δ‖² − ‖TᵀA δ‖²) / b
          with Σ⁻¹ = (I − AᵀT TᵀA) / b
diagonal  w (D) with Σ⁻¹ = diag(w²)                              ‖w∘δ‖²
nested    the primal form's F once per position of each layer    ‖Fᵀδ‖²
samples   A, to which the nested form's F is fitted              ‖Fᵀδ‖²
tied      the primal form's F once per block of patches          ‖Fᵀδ‖²
========  =====================================================  ===============================

The dual form is that of :mod:`padim_zoo.gaussians.dual`. The samples stay at the resolution of their layers, so n·D
numbers per patch shrink to those of the finest layer and a little more, and A δ is a sum over layers; T is the only
thing that is stored per patch.

The precision of a form's factor is that of its products: float32, or float64 where an estimator found the covariance
too ill-conditioned for float32. Files keep triangular factors without their zeros, and F in 16 bit where that is
accurate enough; T is not, since the terms of TᵀAδ cancel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from padim_zoo.core.moving import supports_devices
from padim_zoo.core.parallel import map_blocks
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.packed_triangular import PackedTriangles, Triangles, distance_error, packed_bytes, unpacked

FEW_IMAGES = 4
"""Fewer images are scored in one block: reading the factors takes the time, and batched products share that among
threads at less cost than a pool."""


@dataclass(eq=False, repr=False)
class Gaussian(ABC):
    """P Gaussians in D dimensions.

    Parameters
    ----------
    mean : PatchEmbeddings
        The mean at every patch, as the embeddings of one image.
    samples : PatchEmbeddings, optional
        The n samples about the mean, of forms that keep them.

    Attributes
    ----------
    form : str
    supports_devices : bool
        Whether its copy on a device (:func:`~padim_zoo.core.moving.moved`) takes embeddings there.
    """

    form: ClassVar[str]
    supports_devices: ClassVar[bool] = False
    mean: PatchEmbeddings
    samples: PatchEmbeddings | None = field(default=None, kw_only=True)

    @abstractmethod
    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        """Squared Mahalanobis distances of N images.

        Returns
        -------
        Tensor (P, N), float32, not negative
        """

    @abstractmethod
    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        """The arrays beside the mean as a file keeps them, by name.

        Parameters
        ----------
        half : bool
            Whether factors may be in 16 bit; they are where it keeps distances to :data:`HALF_ERROR`.
        """

    def half_error(self) -> float | None:
        """Largest relative change of a distance by factors in 16 bit; None of a form that knows none."""
        return None

    @classmethod
    @abstractmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        """The Gaussian that gave these arrays."""

    @property
    def half_rounded(self) -> bool:
        """Whether its factors come from a file that keeps them in 16 bit."""
        return False

    @property
    def movable(self) -> bool:
        """Whether it scores on another device: numbers of patches, which a subset is made of, stay in main memory."""
        return supports_devices(self) and self.mean.subset is None

    def size_in_bytes(self) -> int:
        """Size of all arrays in a file, factors in 16 bit where they may be."""
        return bytes_of([*self.mean.layers, *self.arrays(half=True).values()])


HALF_ERROR = 2e-3
"""Largest relative change of any distance at which factors are kept in 16 bit; on real images it is a third of that
bound, and of scores a thirtieth."""

MEASURED_PATCHES = 256
"""On how many patches that is measured."""


class PatchwiseGaussian(Gaussian):
    """P Gaussians each of which has arrays of its own, so that they are scored in blocks."""

    supports_devices = True

    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        deviations = embeddings - self.mean
        if embeddings.n < FEW_IMAGES:
            return self._block(deviations, slice(0, embeddings.P))
        working_bytes = 4 * self._working_numbers(embeddings.n)
        device = deviations.device
        (distances,) = map_blocks(
            lambda patches: (self._block(deviations, patches),), embeddings.P, working_bytes, device
        )
        return distances

    @abstractmethod
    def _block(self, deviations: PatchEmbeddings, patches: slice) -> Tensor:
        """Squared distances (p, N) of deviations from the mean."""

    @abstractmethod
    def _working_numbers(self, n: int) -> int:
        """How many numbers scoring n images touches at one patch."""


class PrimalGaussian(PatchwiseGaussian):
    """Σ⁻¹ = F Fᵀ.

    Parameters
    ----------
    mean : PatchEmbeddings
    factor : Triangles or PackedTriangles
        F, upper triangular, of each patch, or of one when all patches share one covariance.
    """

    form = "primal"

    def __init__(self, mean: PatchEmbeddings, factor: Triangles | PackedTriangles) -> None:
        super().__init__(mean)
        self._stored = factor
        self._packed = factor if isinstance(factor, PackedTriangles) else None
        self._half_error: float | None = None

    @cached_property
    def factor(self) -> Triangles:
        """F; of a model that was loaded, unpacked when first wanted."""
        return unpacked(self._stored)

    def half_error(self) -> float | None:
        """Measured on some patches.

        None of factors in float64, which have no bits to spare, of one for all patches, which is small, and of those
        that are in 16 bit already.
        """
        if self._packed is not None or self.factor.dtype != torch.float32 or len(self.factor) == 1:
            return None
        if self._half_error is None:
            measured = self.factor[:: -(-len(self.factor) // MEASURED_PATCHES)]
            rounded = PackedTriangles.pack(Triangles.of(measured), torch.float16).unpack()
            self._half_error = distance_error(measured, rounded[:])
        return self._half_error

    @property
    def half_rounded(self) -> bool:
        """Whether its factors come from a file that keeps them in 16 bit."""
        return self._packed is not None and self._packed.scale is not None

    def _block(self, deviations: PatchEmbeddings, patches: slice) -> Tensor:
        return self.factor.squared_norms(deviations[patches].to(self.factor.dtype), patches).float()

    def _working_numbers(self, n: int) -> int:
        return self.mean.D * (self.mean.D + 2 * n)

    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        if self._packed is not None and (half or self._packed.scale is None):
            return self._packed.arrays("factor")
        return PackedTriangles.pack(self.factor, self._dtype_in_file(half)).arrays("factor")

    def _dtype_in_file(self, half: bool) -> torch.dtype:
        error = self.half_error() if half else None
        return torch.float16 if error is not None and error <= HALF_ERROR else self.factor.dtype

    def size_in_bytes(self) -> int:
        if self._packed is not None:
            return super().size_in_bytes()
        return bytes_of(self.mean.layers) + packed_bytes(len(self.factor), self.mean.D, self._dtype_in_file(True))

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        return cls(mean, PackedTriangles.from_arrays("factor", arrays))


@dataclass(eq=False, repr=False)
class DiagonalGaussian(PatchwiseGaussian):
    """Σ⁻¹ = diag(w²).

    Parameters
    ----------
    mean : PatchEmbeddings
    weight : Tensor
        w, (P, D), or (P, 1) when all channels of a patch share one variance.
    """

    form = "diagonal"
    weight: Tensor

    def _block(self, deviations: PatchEmbeddings, patches: slice) -> Tensor:
        return (deviations[patches] * self.weight[patches].unsqueeze(1)).square().sum(2)

    def _working_numbers(self, n: int) -> int:
        return 2 * self.mean.D * n

    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        return {"weight": self.weight}

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        return cls(mean, arrays["weight"])


def bytes_of(arrays: Iterable[Tensor]) -> int:
    return sum(array.numel() * array.element_size() for array in arrays)


def arrays_of_samples(samples: PatchEmbeddings) -> dict[str, Tensor]:
    """The arrays of samples as a file keeps them, by name."""
    return {f"samples.{number}": layer for number, layer in enumerate(samples.layers)}


def samples_about(mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> PatchEmbeddings:
    """The samples about a mean that gave these arrays."""
    layers = tuple(arrays[f"samples.{number}"] for number in range(len(mean.layers)))
    return PatchEmbeddings(layers, mean.grids, mean.grid, mean.subset)


def patches_of_blocks(embeddings: PatchEmbeddings, cells: int) -> Tensor:
    """The patches of each block of ``cells`` × ``cells`` of a grid, in which any patch is.

    Returns
    -------
    Tensor (B, m), int64
        Numbers of patches, ascending; a block with fewer than m repeats its last.
    """
    height, width = embeddings.grid
    flat = torch.arange(height * width) if embeddings.subset is None else embeddings.subset.indices
    block = flat // width // cells * -(-width // cells) + flat % width // cells
    _, own, counts = torch.unique(block, return_inverse=True, return_counts=True)
    order = own.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    columns = torch.arange(int(counts.max()))
    members: Tensor = order[starts[:, None] + torch.minimum(columns, counts[:, None] - 1)]
    return members


class TiedGaussian(Gaussian):
    """Σ⁻¹ = F Fᵀ, the same for all patches of a block.

    Parameters
    ----------
    mean : PatchEmbeddings
    factor : Triangles or PackedTriangles
        F, upper triangular, of each block, in the order of :func:`patches_of_blocks`.
    cells : int
        Patches of a block along either axis.
    """

    form = "tied"
    supports_devices = True

    def __init__(self, mean: PatchEmbeddings, factor: Triangles | PackedTriangles, cells: int) -> None:
        super().__init__(mean)
        self.cells = cells
        self._blocks = PrimalGaussian(mean, factor)

    @property
    def factor(self) -> Triangles:
        """F; of a model that was loaded, unpacked when first wanted."""
        return self._blocks.factor

    @cached_property
    def members(self) -> Tensor:
        """The patches of each block, (B, m), int64."""
        return patches_of_blocks(self.mean, self.cells).to(self.mean.device)

    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        deviations, factor, members = embeddings - self.mean, self.factor, self.members
        m, n, D = members.shape[1], embeddings.n, embeddings.D

        def of_blocks(blocks: slice) -> tuple[Tensor]:
            rows = deviations.at(members[blocks].flatten()).to(factor.dtype)
            norms = factor.squared_norms(rows.view(-1, m * n, D), blocks)
            return (norms.view(-1, m, n).float(),)

        (norms,) = map_blocks(of_blocks, len(members), 4 * D * (D + 3 * m * n), members.device)
        squared = torch.empty(embeddings.P, n, device=members.device)
        squared[members.flatten()] = norms.flatten(0, 1)
        return squared

    def half_error(self) -> float | None:
        """As of the primal form."""
        return self._blocks.half_error()

    @property
    def half_rounded(self) -> bool:
        """As of the primal form."""
        return self._blocks.half_rounded

    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        return {**self._blocks.arrays(half=half), "cells": torch.tensor(self.cells)}

    def size_in_bytes(self) -> int:
        return self._blocks.size_in_bytes() + 8

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        return cls(mean, PackedTriangles.from_arrays("factor", arrays), int(arrays["cells"]))
