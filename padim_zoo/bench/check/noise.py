"""Whether a difference of metrics is more than noise: the interval of a paired difference.

Both sides were judged on the same test images, so images that are hard for one are hard for the other, and that part of
the noise cancels in the difference. Intervals of the two values by themselves would overlap where the difference is
clear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from padim_zoo.bench.check.row import TestScores
from padim_zoo.metrics.confidence import percentile_interval, student_test
from padim_zoo.metrics.metric import METRICS
from padim_zoo.metrics.ranked_test_set import RankedTestSet
from padim_zoo.metrics.ranking import rank

CONFIDENCE = 0.95
REPLICATES = 500

Interval = tuple[float, float]


def image_metrics() -> list[str]:
    """The metrics that the order of the test scores decides."""
    return [metric.name for metric in METRICS.values() if metric.of_image_order]


def bootstrap_differences(now: TestScores, before: TestScores, seed: int) -> dict[str, np.ndarray]:
    """Differences of the image metrics on resampled test images.

    Each replicate draws images with replacement, normal and anomalous ones each among themselves, and takes the mean
    metric of all folds on them. Where both sides have the same test images, both are judged on the same draw.

    Parameters
    ----------
    now, before : TestScores
    seed : int
        Of the draws. The same for all rows on the same images, so that their differences may be averaged replicate by
        replicate.

    Returns
    -------
    dict of str to ndarray (REPLICATES,)
        Each of :func:`image_metrics`, now less before; NaN where there are no normal or no anomalous images.
    """
    generator = np.random.default_rng(seed)
    paired = np.array_equal(now.labels, before.labels)
    names = image_metrics()
    differences = np.empty((REPLICATES, len(names)))
    for replicate in range(REPLICATES):
        draw = _draw(now.labels, generator)
        other = draw if paired else _draw(before.labels, generator)
        differences[replicate] = _mean_values(names, now, draw) - _mean_values(names, before, other)
    return dict(zip(names, differences.T, strict=True))


def resampling_interval(replicates: np.ndarray) -> Interval | None:
    """Interval that holds the middle 95 % of replicates; None if they are undefined."""
    return None if np.isnan(replicates).any() else percentile_interval(replicates, CONFIDENCE)


def repetition_interval(differences: Sequence[float] | np.ndarray) -> Interval | None:
    """Student's interval of the mean of differences between repetitions; None for fewer than three, or all equal.

    Parameters
    ----------
    differences : sequence of float
        Of one metric, now less before, each between two repetitions that differ in nothing but the code.
    """
    if len(differences) < 3:
        return None
    low, high, _ = student_test(differences, CONFIDENCE)
    return None if math.isnan(low) else (low, high)


def _draw(labels: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of drawn normal and of drawn anomalous images, as many as there are."""
    normal, anomalous = np.flatnonzero(labels == 0), np.flatnonzero(labels)
    return generator.choice(normal, len(normal)), generator.choice(anomalous, len(anomalous))


def _mean_values(names: Sequence[str], scores: TestScores, draw: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Mean over folds of some image metrics on the drawn images."""
    normal, anomalous = draw
    drawn = [RankedTestSet(rank(fold[normal], fold[anomalous])) for fold in scores.ranks.astype(np.float64)]
    return np.asarray(np.mean([[METRICS[name].compute(test_set) for name in names] for test_set in drawn], axis=0))
