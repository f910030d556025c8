"""Maps of tiles to the map of the image, pixel by pixel: the oracle of blended maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from padim_zoo.features.tiles import TileLayout


def blend_by_hand(maps: Sequence[np.ndarray], tiles: TileLayout, patches: tuple[int, int]) -> np.ndarray:
    """A mean of the maps of all tiles, held beyond their edges, whose weights fall off along a line.

    Parameters
    ----------
    maps : sequence of ndarray (h, w)
        Of the tiles, row by row.
    tiles : TileLayout
    patches : (int, int)
        Rows and columns of patches of a tile: weights fall over half a patch beyond the overlap.
    """
    (height, width), (of_rows, of_columns) = tiles.tile_size, patches
    total = np.zeros((tiles.rows.length, tiles.columns.length))
    weights = np.zeros_like(total)
    numbers = [(row, column) for row in range(tiles.counts[0]) for column in range(tiles.counts[1])]
    for (row, column), tile in zip(numbers, maps, strict=True):
        for y in range(tiles.rows.length):
            for x in range(tiles.columns.length):
                weight = _weight(y, row, tiles.rows.starts, height, of_rows)
                weight *= _weight(x, column, tiles.columns.starts, width, of_columns)
                inside_y = min(max(y - tiles.rows.starts[row], 0), height - 1)
                inside_x = min(max(x - tiles.columns.starts[column], 0), width - 1)
                total[y, x] += weight * tile[inside_y, inside_x]
                weights[y, x] += weight
    return total / weights


def _weight(pixel: int, number: int, starts: tuple[int, ...], size: int, patches: int) -> float:
    half, center, weight = size / patches / 2, pixel + 0.5, 1.0
    if number > 0:
        shared = starts[number - 1] + size - starts[number] + 2 * half
        weight = min(weight, (center - starts[number] + half) / shared)
    if number < len(starts) - 1:
        shared = starts[number] + size - starts[number + 1] + 2 * half
        weight = min(weight, (starts[number] + size + half - center) / shared)
    return max(weight, 0.0)
