"""A threshold from normal images alone, at a stated false-alarm rate (conformal prediction).

If a new normal image is as likely to take any place among m known ones when all m + 1 are sorted by score, the chance
that it exceeds the k-th highest of the m is at most k / (m + 1). That holds without any assumption on the
distribution of the scores, and it bounds what m images can promise: no rate below 1 / (m + 1).

Out-of-fold scores come from detectors fitted on slightly fewer images than the final one, and so tend to be a little
higher than its scores: with them the rate is kept approximately, on the cautious side.

Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Laxhammar and Falkman, "Conformal
prediction for distribution-independent anomaly detection" (2010).
"""

from __future__ import annotations

import math

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.checks import check_scores

# 99 images at a rate of 0.01 must allow one of 100 places, which 100 * 0.01 in floating point may just miss.
_ROUNDING = 1e-12


def conformal_threshold(normal_scores: np.ndarray, false_alarm_rate: float) -> float:
    """The threshold that a new normal image exceeds with a chance of at most ``false_alarm_rate``.

    It is the ``ceil((m + 1) * (1 - false_alarm_rate))``-th lowest of the normal scores.

    Parameters
    ----------
    normal_scores : ndarray (m,)
        Scores of normal images by a detector that was not fitted on them, e.g. out of fold.
    false_alarm_rate : float
        Between 0 and 1.

    Returns
    -------
    float
        Images that score above it are called anomalous.

    Raises
    ------
    InputError
        If the rate is no rate or is smaller than m images can promise, or a score is NaN or infinite.
    """
    if not 0 < false_alarm_rate < 1:
        raise InputError(f"{false_alarm_rate} is no false-alarm rate: expected a number between 0 and 1, e.g. 0.01")
    count = len(normal_scores)
    scores = np.sort(check_scores(normal_scores, count))
    exceeding = math.floor((count + 1) * false_alarm_rate * (1 + _ROUNDING))
    if not exceeding:
        needed = math.ceil((1 - _ROUNDING) / false_alarm_rate) - 1
        # Rounded up, so that the rate works when typed back in.
        lowest = math.ceil(1e4 * smallest_false_alarm_rate(count)) / 1e4
        raise InputError(
            f"a false-alarm rate of {false_alarm_rate:g} needs at least {needed} normal images, found {count}: "
            + (f"use more images, or a rate of at least {lowest:g}" if count else "use more images")
        )
    return float(scores[-exceeding])


def smallest_false_alarm_rate(count: int) -> float:
    """The smallest false-alarm rate that ``count`` normal images can promise: 1 / (count + 1)."""
    return 1 / (count + 1)
