"""What a threshold does on labeled test images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


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
