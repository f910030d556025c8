"""Grids that nest: which positions of coarse layers all patches that share them have in common.

Channels of a coarse layer are the same at all patches that lie on one of its positions, and so is their covariance.
With the coarse channels first, the columns of an upper triangular F with F Fᵀ = Σ⁻¹ that belong to a layer depend on
this and on coarser layers only, so that they are the same at all those patches too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from padim_zoo.features.patch_embeddings import PatchEmbeddings, nearest_positions


@dataclass(frozen=True)
class Level:
    """The layers of one grid, and all that are coarser.

    Attributes
    ----------
    grid : tuple of int
    layers : list of int
        Coarse layers first; those of this grid are the last.
    dims : Tensor (d,), int64
        Their dimensions in an embedding.
    own : int
        How many dimensions are those of this grid.
    patches : Tensor (P,), int64
        The position on this grid of every patch.
    first : Tensor (positions,), int64
        One patch of every position.
    """

    grid: tuple[int, int]
    layers: list[int]
    dims: Tensor
    own: int
    patches: Tensor
    first: Tensor


def levels(mean: PatchEmbeddings) -> list[Level]:
    """The grids of the layers, coarse ones first; none if a finer position lies on several of a coarser grid."""
    layers = used(mean)
    width = [layer.shape[2] for layer in mean.layers]
    starts = [sum(width[:number]) for number in range(len(width))]
    nested: list[Level] = []
    for grid in sorted({mean.grids[layer] for layer in layers}, key=lambda grid: grid[0] * grid[1]):
        coarser = [layer for level in nested[-1:] for layer in level.layers]
        own = [layer for layer in layers if mean.grids[layer] == grid]
        dims = [torch.arange(starts[layer], starts[layer] + width[layer]) for layer in coarser + own]
        patches = nearest_positions(grid, mean.grid)
        first = torch.full((grid[0] * grid[1],), len(patches)).scatter_reduce(
            0, patches, torch.arange(len(patches)), "amin"
        )
        if int(first.max()) == len(patches):
            return []
        if nested and not torch.equal(nested[-1].patches, nested[-1].patches[first][patches]):
            return []
        nested.append(Level(grid, coarser + own, torch.cat(dims), sum(width[layer] for layer in own), patches, first))
    return nested


def grids_do_not_nest(embeddings: PatchEmbeddings) -> bool:
    """Whether layers have different grids that do not nest."""
    return len({embeddings.grids[layer] for layer in used(embeddings)}) > 1 and not levels(embeddings)


def used(embeddings: PatchEmbeddings) -> list[int]:
    """The layers that have channels."""
    return [number for number, layer in enumerate(embeddings.layers) if layer.shape[2]]
