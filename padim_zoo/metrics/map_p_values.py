"""How rare the score of a pixel is at its place: a p-value for each pixel, from the maps of normal images.

Maps are cut into cells. A normal image says the highest score that it has in a cell. Of these an envelope is made: it
lies above the map everywhere, and has no steps at the edges of cells. The score of a pixel is compared with the
envelopes there. With m normal images, of which j have an envelope as high or higher, its conformal p-value is
(1 + j) / (m + 1). Between the ranks it is interpolated from above.

No rank tells p-values below 1 / (m + 1). Above the highest normal score an exponential tail goes on. Its mean excess is
the standard deviation of the envelopes there. So a p-value of at least 1 / (m + 1) is a promise, and a
smaller one is a model's.

Values are -log10 of p-values: 0 where nothing is rare, 2 where one of a hundred normal images scores as high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.conformal import smallest_false_alarm_rate

CELL = 8
"""Pixels along a side of a cell, at least."""
MOST_CELLS = 64
"""Along a side of a map; larger maps have larger cells."""
PARTS = 4
"""Of a cell, along a side. An envelope is one number in each part."""
LEAST_GROUPS = 3
"""Different normal images that p-values take: a spread of two, when one is compared with the others."""
LEAST_SPREAD = 0.1
"""Where a standard deviation is less than this share of a typical one, it is this share."""
LARGEST = 300.0
"""The largest value: -log10 of the smallest p-value that float64 can tell."""


def cell_size(height: int, width: int) -> int:
    """Pixels along a side of the cells of a map."""
    return max(CELL, PARTS * math.ceil(max(height, width) / (PARTS * MOST_CELLS)))


def cell_maxima(anomaly_map: np.ndarray) -> np.ndarray:
    """The highest score in each cell (R, C) of a map (H, W); NaN where all of it is."""
    return np.asarray(np.fmax.reduce(_cut(anomaly_map[None], 1), 2))


def envelopes(maxima: np.ndarray) -> np.ndarray:
    """What lies above maps everywhere (n, R · PARTS, C · PARTS), by their cell maxima (n, R, C).

    A corner of cells has the highest score of the cells that meet there. In between it is interpolated linearly, so
    that each part of a cell has at least the score of the cell. NaN in cells that are.
    """
    n, rows, columns = maxima.shape
    padded = np.pad(maxima, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    across = np.fmax(padded[:, :, 1:], padded[:, :, :-1])
    corners = np.fmax(across[:, 1:], across[:, :-1])
    way = ((np.arange(PARTS) + 0.5) / PARTS).astype(np.float32)
    down = corners[:, :-1, None] * (1 - way[:, None]) + corners[:, 1:, None] * way[:, None]  # (n, R, PARTS, C + 1)
    parts = down[..., :-1, None] * (1 - way) + down[..., 1:, None] * way
    parts = np.where(np.isnan(maxima)[:, :, None, :, None], np.nan, parts)
    return np.asarray(parts.reshape(n, rows * PARTS, columns * PARTS))


def _cut(maps: np.ndarray, parts: int) -> np.ndarray:
    """The pixels in each part (R · parts, C · parts, k) of the cells of maps (N, H, W); NaN beyond their edges."""
    n, height, width = maps.shape
    size = cell_size(height, width)
    padded = np.pad(maps, ((0, 0), (0, -height % size), (0, -width % size)), constant_values=np.nan)
    side = size // parts
    rows, columns = padded.shape[1] // side, padded.shape[2] // side
    return np.asarray(padded.reshape(n, rows, side, columns, side).transpose(1, 3, 0, 2, 4).reshape(rows, columns, -1))


def _joined(parts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Maps of a shape (N, H, W), of the pixels in parts of cells."""
    n, height, width = shape
    side, (rows, columns, _) = cell_size(height, width) // PARTS, parts.shape
    apart = parts.reshape(rows, columns, n, side, side).transpose(2, 0, 3, 1, 4)
    return np.asarray(apart.reshape(n, rows * side, columns * side)[:, :height, :width])


class NormalMaps:
    """The maps of normal images, with which others are compared.

    Parameters
    ----------
    maxima : ndarray (n, R, C)
        :func:`cell_maxima` of each normal image, by models that were not fitted on it.
    groups : ndarray (n,), int, optional
        Equal for images that show one thing. The highest of them counts, as one image. By default all differ.

    Attributes
    ----------
    m : int
        Different normal images.

    Raises
    ------
    InputError
        If fewer than three images differ.
    """

    def __init__(self, maxima: np.ndarray, groups: np.ndarray | None = None) -> None:
        names, self._group_of = np.unique(np.arange(len(maxima)) if groups is None else groups, return_inverse=True)
        self.m = len(names)
        if self.m < LEAST_GROUPS:
            raise InputError(f"p-values of pixels need {LEAST_GROUPS} or more different normal images, found {self.m}")
        self._grid = maxima.shape[1:]
        self._maxima = maxima.reshape(len(maxima), -1).T.astype(np.float32)  # (cells, n)
        highest = np.full((self.m, *self._grid), np.nan, dtype=np.float32)
        for group, of_image in zip(self._group_of, maxima, strict=True):
            highest[group] = np.fmax(highest[group], of_image)
        self._highest = highest.reshape(self.m, -1).T  # (cells, m)
        self._cells = _Sorted.of(self._highest)
        self._parts = _Sorted.of(envelopes(highest).reshape(self.m, -1).T)

    @property
    def least_p_value(self) -> float:
        """The smallest p-value that ranks tell; below it the tail does."""
        return smallest_false_alarm_rate(self.m)

    def values(self, maps: np.ndarray) -> np.ndarray:
        """-log10 of the p-values of the pixels of maps (N, H, W), float32; NaN where they are.

        Where fewer than two normal images were scored, nothing is rare.

        Raises
        ------
        InputError
            If the maps have another size than those of the normal images.
        """
        parts = _cut(maps, PARTS)
        if parts.shape[:2] != tuple(PARTS * side for side in self._grid):
            raise InputError(
                f"maps of {maps.shape[1]}x{maps.shape[2]} are not of the size of those of the normal images: "
                "calibrate again"
            )
        normal, scores = self._parts, parts.reshape(len(self._parts.ascending), -1)
        ranks = zip(normal.ascending, normal.counts, scores, strict=True)
        below = np.stack([np.searchsorted(ascending[:count], of_part) for ascending, count, of_part in ranks])
        return _joined(normal.values(scores, below, 1 + normal.counts).reshape(parts.shape), maps.shape)

    @cached_property
    def of_normal(self) -> np.ndarray:
        """:meth:`values_of_normal` of all images, (n, R, C), float32."""
        return np.stack([self.values_of_normal(image) for image in range(len(self._group_of))])

    def values_of_normal(self, image: int) -> np.ndarray:
        """The values of the cells (R, C) of a normal image, whose highest scores are compared with those of others.

        Images of its own group are left out. The places are those of a new image, and no cell is higher than its
        envelope. So ranks give a cell no lower a value than its pixels would have, were the image new.
        """
        own, highest = self._maxima[:, image, None], self._highest[:, self._group_of[image], None]
        scored = ~np.isnan(highest)
        later = np.arange(self.m - 1) >= np.sum(self._highest < highest, 1, keepdims=True)
        ascending = self._cells.ascending
        others = _Sorted(
            np.where(later & scored, ascending[:, 1:], ascending[:, :-1]),
            self._cells.counts - scored[:, 0],
            self._cells.least_spread,
        )
        below = np.sum(others.ascending < own, 1, keepdims=True)
        return others.values(own, below, 1 + self._cells.counts).reshape(self._grid)


@dataclass(frozen=True)
class _Sorted:
    """Scores of normal images at each place.

    Attributes
    ----------
    ascending : ndarray (places, m), float32
        NaN last.
    counts : ndarray (places,)
        How many of them are none.
    least_spread : float
        What a standard deviation is, at least.
    """

    ascending: np.ndarray
    counts: np.ndarray
    least_spread: float

    @staticmethod
    def of(scores: np.ndarray) -> _Sorted:
        """Of scores (places, m), in any order."""
        ascending, counts = np.sort(scores, 1), np.sum(~np.isnan(scores), 1)
        usual = spread_of(ascending, counts)[counts > 0]
        return _Sorted(ascending, counts, max(LEAST_SPREAD * float(np.median(usual)), 1e-12) if len(usual) else 1.0)

    @cached_property
    def spread(self) -> np.ndarray:
        """The standard deviation (places, 1), float32, that the tail goes on by."""
        spread: np.ndarray = np.maximum(spread_of(self.ascending, self.counts), self.least_spread)
        return spread[:, None].astype(np.float32)

    def values(self, scores: np.ndarray, below: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """-log10 of p-values.

        Parameters
        ----------
        scores : ndarray (places, k), float32
        below : ndarray (places, k)
            How many normal scores are lower.
        ranks : ndarray (places,)
            Of how many ranks a score takes one.
        """
        counts, ranks = self.counts[:, None], ranks[:, None]
        last = np.maximum(counts - 1, 0)
        low, high, highest = (
            np.take_along_axis(self.ascending, np.clip(index, 0, last), 1) for index in (below - 1, below, last)
        )
        way = np.divide(scores - low, high - low, out=np.zeros_like(scores), where=high > low)
        # A table of logarithms, which would take half of the time.
        log10 = np.log10(np.maximum(np.arange(self.ascending.shape[1] + 3), 1)).astype(np.float32)
        of_rank, of_next = log10[1 + counts - below], log10[2 + counts - below]
        values: np.ndarray = np.where(below == 0, of_rank, of_next + way * (of_rank - of_next))
        values = log10[ranks] - np.where(below == counts, log10[2], values)
        values += np.where(below == counts, (scores - highest) / (self.spread * math.log(10)), 0)
        values = np.where(counts < LEAST_GROUPS - 1, 0, np.clip(values, 0, LARGEST))
        values = np.where(np.isnan(scores), np.nan, values).astype(np.float32)
        return values


def spread_of(ascending: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The standard deviation (places,) of so many numbers (places, m), NaN beyond them; 0 of fewer than two."""
    there = np.arange(ascending.shape[1]) < counts[:, None]
    numbers = np.where(there, ascending, 0).astype(np.float64)
    away = np.where(there, numbers - numbers.sum(1, keepdims=True) / np.maximum(counts, 1)[:, None], 0)
    return np.asarray(np.sqrt(np.square(away).sum(1) / np.maximum(counts - 1, 1)))
