"""Curves to draw, each the vertical mean of its folds: so the area below it is the mean of their areas.

Curves of images are exact. Those of pixels, which have many more corners, are taken at fixed abscissas.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from padim_zoo.metrics.ranked_test_set import RankedTestSet
from padim_zoo.metrics.ranking import Ranking, detection_corners, detection_curve, precision_curve, rank
from padim_zoo.metrics.region_overlap import AUPRO_LIMIT, pro_curve

_POINTS = 201
"""Points of a curve of pixels: enough for its area to be right to 1e-3."""


def image_curves(labels: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """The curves of image scores.

    Parameters
    ----------
    labels : ndarray (N,)
        0 for normal images, 1 for anomalous ones.
    scores : ndarray (K, N)
        Of each of K folds.

    Returns
    -------
    dict of str to ndarray (2, n), float64
        ``roc``, false and true positive rates; ``pr``, recalls and precisions. The areas below them, by trapezoids, are
        the means of AUROC and of average precision over the folds. Empty where one kind of image is missing.
    """
    anomalous = labels == 1
    if not anomalous.any() or anomalous.all():
        return {}
    rankings = [rank(fold[~anomalous], fold[anomalous]) for fold in scores]
    return {"roc": mean_curve(list(map(_roc, rankings))), "pr": mean_curve(list(map(_precision_recall, rankings)))}


def pixel_curves(test_set: RankedTestSet) -> dict[str, np.ndarray]:
    """The curves of the pixels of one fold, at abscissas that are the same for all test sets.

    Returns
    -------
    dict of str to ndarray (2, 201), float32
        ``pixel_roc``, false and true positive rates; ``pro``, false positive rates up to the limit of AUPRO and
        per-region overlap; ``pixel_pr``, recalls and precisions. Empty without normal or without anomalous pixels.
    """
    pixels = test_set.pixels
    if not pixels.defined:
        return {}
    # All three change most at their beginning: half of the points lie in the first quarter.
    at = np.linspace(0, 1, _POINTS) ** 2
    limited = AUPRO_LIMIT * at
    curves = {
        "pixel_roc": (at, detection_curve(pixels, at)),
        "pro": (limited, pro_curve(pixels, test_set.regions, limited)),
        "pixel_pr": (at, precision_curve(pixels, at)),
    }
    return {name: np.stack(curve).astype(np.float32) for name, curve in curves.items()}


def mean_curve(curves: Sequence[np.ndarray]) -> np.ndarray:
    """The vertical mean of curves, exactly: at each abscissa of any of them, from its left to its right limit.

    Parameters
    ----------
    curves : sequence of ndarray (2, n_i)
        Corners from left to right. Where a curve jumps, an abscissa has several; all curves have the same ends.

    Returns
    -------
    ndarray (2, n), float64
    """
    at = np.unique(np.concatenate([x for x, _ in curves]))
    # Of several points at one place np.interp takes the last, and from the right the first.
    left = np.mean([np.interp(-at, -x[::-1], y[::-1]) for x, y in curves], axis=0)
    right = np.mean([np.interp(at, x, y) for x, y in curves], axis=0)
    return _corners_of(np.stack([np.repeat(at, 2), np.stack([left, right], axis=1).ravel()]))


def _roc(ranking: Ranking) -> np.ndarray:
    false_positives, shares = detection_corners(ranking)
    return np.stack([np.append(false_positives / len(ranking.normal), 1.0), np.append(shares, 1.0)])


def _precision_recall(ranking: Ranking) -> np.ndarray:
    """A step curve: the precision between two recalls is that at the higher one."""
    recalls = np.arange(len(ranking.anomalous) + 1) / len(ranking.anomalous)
    return np.stack([np.repeat(recalls, 2)[1:-1], np.repeat(precision_curve(ranking, recalls[1:]), 2)])


def _corners_of(points: np.ndarray) -> np.ndarray:
    """The curve (2, n) without points that repeat the one before, or lie on the line between their neighbors."""
    points = points[:, np.append(True, (np.abs(np.diff(points)) > 1e-12).any(axis=0))]
    before, after = np.diff(points)[:, :-1], np.diff(points)[:, 1:]
    turns = np.abs(before[0] * after[1] - before[1] * after[0]) > 1e-12
    return np.asarray(points[:, np.concatenate([[True], turns, [True]])])
