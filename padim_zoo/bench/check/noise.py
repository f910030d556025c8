"""Whether a difference of figures is more than noise: the interval of a paired difference.

Both sides were judged on the same test images, so images that are hard for one are hard for the other, and that part of
the noise cancels in the difference. Intervals of the two figures by themselves would overlap where the difference is
clear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from padim_zoo.bench.check.row import TestScores
from padim_zoo.metrics.ranking import Ranking, auroc, average_precision, f1_max, rank

CONFIDENCE = 0.95
REPLICATES = 500

IMAGE_FIGURES: Mapping[str, Callable[[Ranking], float]] = {
    "image_auroc": auroc,
    "image_ap": average_precision,
    "image_f1": lambda ranking: f1_max(ranking)[0],
}
"""The figures that the order of the test scores decides."""

Interval = tuple[float, float]


def bootstrap_differences(now: TestScores, before: TestScores, seed: int) -> dict[str, np.ndarray]:
    """Differences of the image figures on resampled test images.

    Each replicate draws images with replacement, normal and anomalous ones each among themselves, and takes the mean
    figure of all folds on them. Where both sides have the same test images, both are judged on the same draw.

    Parameters
    ----------
    now, before : TestScores
    seed : int
        Of the draws. The same for all rows on the same images, so that their differences may be averaged replicate by
        replicate.

    Returns
    -------
    dict of str to ndarray (REPLICATES,)
        Each of :data:`IMAGE_FIGURES`, now less before; NaN where there are no normal or no anomalous images.
    """
    generator = np.random.default_rng(seed)
    paired = np.array_equal(now.labels, before.labels)
    differences = np.empty((REPLICATES, len(IMAGE_FIGURES)))
    for replicate in range(REPLICATES):
        draw = _draw(now.labels, generator)
        other = draw if paired else _draw(before.labels, generator)
        differences[replicate] = _mean_figures(now, draw) - _mean_figures(before, other)
    return dict(zip(IMAGE_FIGURES, differences.T, strict=True))


def percentile_interval(replicates: np.ndarray) -> Interval | None:
    """Interval that holds the middle 95 % of replicates; None if they are undefined."""
    if np.isnan(replicates).any():
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, (tail, 1 - tail))
    return float(low), float(high)


def repetition_interval(differences: Sequence[float]) -> Interval | None:
    """Student's interval of the mean of differences between repetitions; None for fewer than three.

    Parameters
    ----------
    differences : sequence of float
        Of one figure, now less before, each between two repetitions that differ in nothing but the code.
    """
    n = len(differences)
    if n < 3:
        return None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    mean = np.mean(differences)
    return float(mean - half), float(mean + half)


def _draw(labels: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of drawn normal and of drawn anomalous images, as many as there are."""
    normal, anomalous = np.flatnonzero(labels == 0), np.flatnonzero(labels)
    return generator.choice(normal, len(normal)), generator.choice(anomalous, len(anomalous))


def _mean_figures(scores: TestScores, draw: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Mean over folds of each image figure on the drawn images."""
    normal, anomalous = draw
    rankings = [rank(fold[normal], fold[anomalous]) for fold in scores.ranks.astype(np.float64)]
    figures: np.ndarray = np.mean(
        [[figure(ranking) for figure in IMAGE_FIGURES.values()] for ranking in rankings], axis=0
    )
    return figures
