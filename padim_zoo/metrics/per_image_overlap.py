"""AUPIMO: how much of each anomalous image's defect is found at false positive rates that a line can live with.

Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance" (BMVC 2024,
arXiv 2401.01984). The false positive rate is that of the pixels of normal images alone, so that a threshold means the
same for all images. At a rate z, an image's overlap is the share of its anomalous pixels that are found by the lowest
threshold whose false positive rate is at most z: a step curve. AUPIMO is its mean over log z between two bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.ranking import Ranking
from padim_zoo.metrics.region_overlap import Regions
from padim_zoo.metrics.sorted_scores import highest

Bounds = tuple[float, float]

AUPIMO_BOUNDS: Bounds = (1e-5, 1e-4)
"""The false positive rates between which the overlap of an image counts."""

_LEAST_FALSE_POSITIVES = 10
"""Pixels that the lower bound must be: below, the curve would have a step or none there."""


@dataclass(frozen=True)
class NormalTail:
    """The highest scores among the pixels of normal images.

    Attributes
    ----------
    scores : ndarray (K,), float
        Ascending: all scores that false positive rates up to the upper bound depend on.
    count : int
        The pixels of normal images, M.
    bounds : tuple of float
        The false positive rates that it serves.
    """

    scores: np.ndarray
    count: int
    bounds: Bounds = AUPIMO_BOUNDS

    @classmethod
    def of(cls, pixels: Sequence[np.ndarray], bounds: Bounds = AUPIMO_BOUNDS) -> NormalTail:
        """The tail of the pixel scores of normal images, of any shape each.

        Raises
        ------
        InputError
            If the bounds are not two rising rates.
        """
        low, high = bounds
        if not 0 < low < high <= 1:
            raise InputError(f"the AUPIMO bounds {low:g} and {high:g} are not two rising false positive rates")
        count = sum(part.size for part in pixels)
        return cls(highest(pixels, min(math.floor(high * count) + 1, count)), count, bounds)

    @property
    def least_count(self) -> int:
        """The pixels of normal images that it takes."""
        return math.ceil(_LEAST_FALSE_POSITIVES / self.bounds[0] * (1 - 1e-12))

    @property
    def sufficient(self) -> bool:
        """Whether there are as many pixels."""
        return self.count >= self.least_count

    def rates_at(self, scores: np.ndarray) -> np.ndarray:
        """The share of the pixels of normal images that score at least as high; above the upper bound, a lower limit.

        Parameters
        ----------
        scores : ndarray (P,)

        Returns
        -------
        ndarray (P,), float64
        """
        return np.asarray((len(self.scores) - np.searchsorted(self.scores, scores, side="left")) / self.count)


def aupimo_of_images(ranking: Ranking, regions: Regions, tail: NormalTail, images: int) -> np.ndarray:
    """AUPIMO of each image, exact.

    A pixel is found from the false positive rate on at which its score is a threshold. So it is part of the overlap on
    a known share of the log rates between the bounds, and an image's value is the mean of these shares.

    Parameters
    ----------
    ranking, regions
        The anomalous pixels, as :func:`~padim_zoo.metrics.region_overlap.rank_pixels` gives them.
    tail : NormalTail
    images : int
        N, of which ``regions.images`` are some.

    Returns
    -------
    ndarray (N,), float64
        In [0, 1]; NaN of images without anomalous pixels, and of all where normal images have too few pixels.
    """
    if not tail.sufficient or not len(ranking.anomalous):
        return np.full(images, math.nan)
    low, high = tail.bounds
    rates = np.clip(tail.rates_at(ranking.anomalous), low, high)
    shares = np.log(high / rates) / math.log(high / low)
    of_pixels = regions.images[regions.ids]
    pixels = np.bincount(of_pixels, minlength=images)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
        values: np.ndarray = np.bincount(of_pixels, weights=shares, minlength=images) / pixels
    return values


def mean_of_images(values: np.ndarray) -> float:
    """The mean of the images that have a value (N,); NaN if none has."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def percentile_of_images(values: np.ndarray, percent: float) -> float:
    """A percentile of the images that have a value (N,); NaN if none has."""
    values = values[~np.isnan(values)]
    return float(np.percentile(values, percent)) if len(values) else math.nan
