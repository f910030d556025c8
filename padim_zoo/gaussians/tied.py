"""Gaussians with a mean at each patch and one covariance for each block of patches: large grids in little memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from padim_zoo.core.parallel import map_blocks
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import Gaussian, PrimalGaussian
from padim_zoo.gaussians.packed_triangular import PackedTriangles, Triangles


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
