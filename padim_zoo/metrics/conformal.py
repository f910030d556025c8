"""A threshold from normal images alone, at a stated false-alarm rate (conformal prediction).

If a new normal image is as likely to take any place among m known ones when all m + 1 are sorted by score, the chance
that it exceeds the k-th highest of the m is at most k / (m + 1). That holds without any assumption on the
distribution of the scores, and it bounds what m images can promise: no rate below 1 / (m + 1).

Out-of-fold scores come from detectors fitted on slightly fewer images than the final one, and so tend to be a little
higher than its scores: with them the rate is kept approximately, on the cautious side.

Images that show one thing, such as frames of a burst, are a group. Groups take the places of images then: m counts
groups, and each image weighs one over the size of its group. That promises the rate for an image of a new group (Lee,
Barber and Willett, "Distribution-free inference with hierarchical data", 2023).

Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Laxhammar and Falkman, "Conformal
prediction for distribution-independent anomaly detection" (2010).
"""

from __future__ import annotations

import math

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.metrics.checks import check_scores

# 99 images at a rate of 0.01 must allow one of 100 places, which 100 * 0.01 in floating point may just miss.
_ROUNDING = 1e-12


def conformal_threshold(normal_scores: np.ndarray, false_alarm_rate: float, groups: np.ndarray | None = None) -> float:
    """The threshold that a new normal image exceeds with a chance of at most ``false_alarm_rate``.

    It is the ``ceil((m + 1) * (1 - false_alarm_rate))``-th lowest of the normal scores.

    Parameters
    ----------
    normal_scores : ndarray (n,)
        Scores of normal images by a detector that was not fitted on them, e.g. out of fold.
    false_alarm_rate : float
        Between 0 and 1.
    groups : ndarray (n,), int, optional
        Equal for images of one group, of which there are m. By default each image is one.

    Returns
    -------
    float
        Images that score above it are called anomalous.

    Raises
    ------
    InputError
        If the rate is no rate or is smaller than m groups can promise, or a score is NaN or infinite.
    """
    if not 0 < false_alarm_rate < 1:
        raise InputError(f"the false-alarm rate is {false_alarm_rate}: expected a number between 0 and 1, e.g. 0.01")
    n = len(normal_scores)
    scores = check_scores(normal_scores, n)
    _, group_of, sizes = np.unique(np.arange(n) if groups is None else groups, return_inverse=True, return_counts=True)
    m = len(sizes)
    if not can_promise(false_alarm_rate, m):
        needed = images_for(false_alarm_rate)
        # Rounded up, so that the rate works when typed back in.
        lowest = math.ceil(1e4 * smallest_false_alarm_rate(m)) / 1e4
        copies = "" if m == n else f" different ones among {n}"
        raise InputError(
            f"a false-alarm rate of {false_alarm_rate:g} needs at least {number_of(needed, 'normal image')}, found "
            f"{m}{copies}: " + (f"use more images, or a rate of at least {lowest:g}" if m else "use more images")
        )
    order = np.argsort(scores, kind="stable")[::-1]
    exceeding = np.cumsum(1 / sizes[group_of[order]])  # groups at or above each score, highest first
    allowed = (m + 1) * false_alarm_rate * (1 + _ROUNDING) - 1  # one place is for the new image
    return float(scores[order[np.searchsorted(exceeding, allowed + 1e-9, side="right")]])


def conformal_p_value(score: float, normal_scores: np.ndarray, groups: np.ndarray | None = None) -> float:
    """How likely a new normal image is to score as high as this, or higher.

    It is at most ``rate`` exactly where the score exceeds the :func:`conformal_threshold` of that rate.

    Parameters
    ----------
    score : float
    normal_scores : ndarray (n,)
        Scores of normal images by a detector that was not fitted on them.
    groups : ndarray (n,), int, optional
        Equal for images of one group, of which each counts as one image.
    """
    n = len(normal_scores)
    _, group_of, sizes = np.unique(np.arange(n) if groups is None else groups, return_inverse=True, return_counts=True)
    as_high = (1 / sizes[group_of])[np.asarray(normal_scores) >= score].sum()
    return float((1 + as_high) / (1 + len(sizes)))


def can_promise(false_alarm_rate: float, count: int) -> bool:
    """Whether ``count`` different normal images can promise a rate."""
    return places_above(false_alarm_rate, count) >= 1


def places_above(false_alarm_rate: float, count: int) -> int:
    """Of the ``count + 1`` places of a new image among ``count``, those that lie above the threshold of a rate."""
    return math.floor((count + 1) * false_alarm_rate * (1 + _ROUNDING))


def images_for(false_alarm_rate: float) -> int:
    """How many different normal images it takes to promise a rate."""
    return math.ceil((1 - _ROUNDING) / false_alarm_rate) - 1


def smallest_false_alarm_rate(count: int) -> float:
    """The smallest false-alarm rate that ``count`` different normal images can promise: 1 / (count + 1)."""
    return 1 / (count + 1)
