"""The highest threshold at which a map still shows a region: the score of an image that regions are decided by.

A map *shows a region* at a threshold if at least so many connected pixels, its least area, score above it. So a map
shows one exactly at thresholds below its *region peak*: the highest level at which that many connected pixels score
as high, or higher. With an area of 1 that is the maximum of the map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from padim_zoo.metrics.region_overlap import label_regions


def region_peaks(anomaly_map: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """The region peak of a map for each least area.

    Parameters
    ----------
    anomaly_map : ndarray (H, W)
        NaN where nothing was scored.
    areas : sequence of int
        Pixels of a region, at least. Pixels that touch at a corner are connected.

    Returns
    -------
    ndarray (len(areas),), of the type of the map
        The lowest score where no region is as large as that.
    """
    scores = np.sort(anomaly_map[~np.isnan(anomaly_map)])[::-1]
    largest: dict[int, int] = {}

    def largest_of(count: int) -> int:
        """The area of the largest region among the ``count`` highest pixels, and those that tie with the last."""
        if count not in largest:
            labels = label_regions(anomaly_map >= scores[count - 1])
            largest[count] = int(np.bincount(labels.ravel())[1:].max())
        return largest[count]

    return np.array([scores[_fewest(largest_of, largest, area, len(scores)) - 1] for area in areas])


def _fewest(largest_of: Callable[[int], int], largest: dict[int, int], area: int, n: int) -> int:
    """The fewest of n pixels, highest first, that hold a region of an area; n where none do.

    ``largest`` is what ``largest_of`` has found already, for other areas too.
    """
    if area == 1:
        return 1
    too_few = max((count for count, found in largest.items() if found < area), default=0)
    enough = min((count for count, found in largest.items() if found >= area), default=None)
    while enough is None:
        count = min(n, max(area, 2 * too_few))
        if largest_of(count) >= area:
            enough = count
        elif count == n:
            return n
        else:
            too_few = count
    too_few = max(too_few, min(area, enough) - 1)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if largest_of(middle) >= area:
            enough = middle
        else:
            too_few = middle
    return enough
