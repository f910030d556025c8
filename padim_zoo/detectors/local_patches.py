"""Patches that know their neighbors (PatchCore, arXiv 2106.08265, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from padim_zoo.features.tiles import TileLayout


def local_patches(maps: Sequence[Tensor], tiles: TileLayout | None = None) -> Tensor:
    """Each layer averaged over 3 × 3 positions, on the grid of the finest one, (N, C, h, w).

    A patch has no neighbors beyond its tile, where maps are mosaics.
    """
    if tiles is not None:
        return tiles.assemble(local_patches([tiles.apart(layer) for layer in maps]))
    pooled = [avg_pool2d(layer, 3, stride=1, padding=1) for layer in maps]
    grids = [(int(layer.shape[2]), int(layer.shape[3])) for layer in pooled]
    finest = max(grids, key=lambda grid: grid[0] * grid[1])
    layers = [
        layer if grid == finest else interpolate(layer, finest, mode="bilinear", align_corners=False)
        for layer, grid in zip(pooled, grids, strict=True)
    ]
    return torch.cat(layers, 1)
