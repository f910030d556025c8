"""What thresholds that normal images alone set do: two of them, which decide different things.

The *image threshold* decides on images: a score above it is an alarm. It is the conformal threshold of a calibration.
The *pixel threshold* decides on pixels: what scores above it is marked as a defect. It is the 99.9th percentile of
the pixels of normal images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from padim_zoo.metrics.ranking import Ranking
from padim_zoo.metrics.sorted_scores import SortedScores, quantile

PIXEL_FALSE_ALARM_RATE = 0.001
"""The share of pixels of normal images that exceed the pixel threshold."""


def pixel_threshold(pixels: Sequence[np.ndarray]) -> float:
    """The threshold that one in 1,000 pixels of normal images exceeds: their 99.9th percentile.

    Parameters
    ----------
    pixels : sequence of ndarray
        Scores of the pixels that count, of one normal image or several each. By a detector that has not learned from
        these images.

    Returns
    -------
    float
        NaN without pixels.
    """
    return quantile(pixels, 1 - PIXEL_FALSE_ALARM_RATE) if any(part.size for part in pixels) else math.nan


def f1_at(ranking: Ranking, threshold: float) -> float:
    """F1 of calling items anomalous that score above a threshold; NaN without both kinds, or without a threshold."""
    if not ranking.defined or math.isnan(threshold):
        return math.nan
    true_positives = _count_above(SortedScores([ranking.anomalous]), threshold)
    false_positives = _count_above(ranking.normal, threshold)
    return 2 * true_positives / (len(ranking.anomalous) + true_positives + false_positives)


def false_positive_rate_at(ranking: Ranking, threshold: float) -> float:
    """The share of normal items that score above a threshold; NaN without normal items, or without a threshold."""
    if not len(ranking.normal) or math.isnan(threshold):
        return math.nan
    return _count_above(ranking.normal, threshold) / len(ranking.normal)


def _count_above(scores: SortedScores, threshold: float) -> int:
    # In the type of the scores, as ``scores > threshold`` compares.
    return int(scores.count_above(np.array([threshold], dtype=scores.blocks[0].dtype))[0])


def rates_at_threshold(threshold: float | None, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """How many of the normal and of the anomalous images exceed a threshold.

    Parameters
    ----------
    threshold : float or None
        None, or NaN, where there is none.
    labels : ndarray (N,)
        1 anomalous, 0 normal.
    scores : ndarray (N,)

    Returns
    -------
    dict
        ``score``, the threshold; ``false_alarms`` and ``detections`` as of
        :func:`rate_with_interval`. All None without a threshold.
    """
    if threshold is None or math.isnan(threshold):
        return {"score": None, "false_alarms": None, "detections": None}
    exceeds = scores > threshold
    return {
        "score": threshold,
        "false_alarms": rate_with_interval(exceeds[labels == 0]),
        "detections": rate_with_interval(exceeds[labels == 1]),
    }


def rate_with_interval(exceeds: np.ndarray) -> dict[str, float] | None:
    """How many of some images exceed a threshold, with the exact 95 % interval (Clopper–Pearson) of their share."""
    from scipy.stats import binomtest

    if not len(exceeds):
        return None
    count = int(exceeds.sum())
    interval = binomtest(count, len(exceeds)).proportion_ci(0.95, method="exact")
    return {
        "count": count,
        "of": len(exceeds),
        "rate": count / len(exceeds),
        "low": float(interval.low),
        "high": float(interval.high),
    }
