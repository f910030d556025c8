"""The highest threshold at which a map still shows a region: the score of an image that regions are decided by.

A map *shows a region* at a threshold if at least so many connected pixels, its least area, score above it. So a map
shows one exactly at thresholds below its *region peak*: the highest level at which that many connected pixels score
as high, or higher. With an area of 1 that is the maximum of the map.

Pixels are taken from the highest down, and join the regions that they touch (Tarjan's union-find): few of them are
looked at, where a search by thresholds labels the whole map dozens of times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
    width = anomaly_map.shape[1] + 1
    # Nothing is scored beyond the last row and column, so that no region goes on at the other side.
    scores = np.pad(anomaly_map, (0, 1), constant_values=np.nan).ravel()
    scored = np.flatnonzero(~np.isnan(scores))
    highest_first = scored[np.argsort(-scores[scored])]
    neighbors = (-width - 1, -width, 1 - width, -1, 1, width - 1, width, width + 1)
    peaks = dict.fromkeys(areas, scores[highest_first[-1]])
    waiting = sorted(peaks, reverse=True)
    parents: dict[int, int] = {}  # of a region one pixel stands for all: its root is its own parent
    sizes: dict[int, int] = {}
    for pixel in highest_first.tolist():
        root = parents[pixel] = pixel
        sizes[pixel] = 1
        for step in neighbors:
            other = pixel + step
            if other not in parents:
                continue
            while parents[other] != other:
                parents[other] = other = parents[parents[other]]
            if other != root:
                root, joined = (other, root) if sizes[other] > sizes[root] else (root, other)
                parents[joined] = root
                sizes[root] += sizes[joined]
        while waiting and sizes[root] >= waiting[-1]:
            peaks[waiting.pop()] = scores[pixel]
        if not waiting:
            break
    return np.array([peaks[area] for area in areas])
