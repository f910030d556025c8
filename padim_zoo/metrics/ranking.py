"""Where each anomalous item stands among the normal ones: one sort, and every metric of a ranking is a mean over it.

A threshold matters only where an anomalous item is found: between two such thresholds, false alarms are all that
changes. So three counts per anomalous item describe the whole ROC, precision–recall and per-region-overlap curve,
and AUROC, average precision, F1-max and AUPRO are means or maxima of them. Items are images or pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from padim_zoo.metrics.sorted_scores import SortedScores


@dataclass(frozen=True)
class Ranking:
    """P anomalous items ranked among M normal ones.

    Attributes
    ----------
    normal : SortedScores
        Those of the M normal items.
    anomalous : ndarray (P,), float
        Scores of the anomalous items, ascending. The counts below are in this order.
    order : ndarray (P,), int
        The permutation that sorted the anomalous items.
    true_positives : ndarray (P,), int
        Anomalous items that score at least as high, the item itself included.
    fp_above : ndarray (P,), int
        Normal items that score strictly higher.
    fp_at_or_above : ndarray (P,), int
        Normal items that score at least as high. Less ``fp_above``, these are the ties.
    """

    normal: SortedScores
    anomalous: np.ndarray
    order: np.ndarray
    true_positives: np.ndarray
    fp_above: np.ndarray
    fp_at_or_above: np.ndarray

    @property
    def defined(self) -> bool:
        """Whether there are both normal and anomalous items, without which every metric is NaN."""
        return bool(len(self.normal) and len(self.anomalous))


def rank(normal: np.ndarray | SortedScores, anomalous: np.ndarray) -> Ranking:
    """Rank anomalous items among normal ones.

    Parameters
    ----------
    normal, anomalous : ndarray or SortedScores (M,), and ndarray (P,), float
        Finite scores; larger is more anomalous.
    """
    # Only the normal scores need a full sort by value, which NumPy vectorises; the permutation is needed for the
    # anomalous ones alone, and those are few among pixels.
    order = np.argsort(anomalous)
    anomalous = anomalous[order]
    sorted_normal = normal if isinstance(normal, SortedScores) else SortedScores.of([normal])
    return Ranking(
        normal=sorted_normal,
        anomalous=anomalous,
        order=order,
        true_positives=len(anomalous) - np.searchsorted(anomalous, anomalous, side="left"),
        fp_above=sorted_normal.count_above(anomalous),
        fp_at_or_above=sorted_normal.count_at_or_above(anomalous),
    )


def partial_auc_terms(ranking: Ranking, limit: float = 1.0) -> np.ndarray:
    """What each anomalous item contributes to the area under a curve over the false positive rate up to ``limit``.

    An item joins the detected ones linearly while the false positive rate goes from that of the normal items above it
    to that of the normal items level with it, and counts fully from there on. Its share is the mean of that over
    ``[0, limit]``; any average of shares is the normalized area under the curve of the same average of detections.

    Parameters
    ----------
    ranking : Ranking
        With at least one normal item.
    limit : float
        The false positive rate at which the area ends, in (0, 1].

    Returns
    -------
    ndarray (P,), float64
        In [0, 1].
    """
    end = limit * len(ranking.normal)
    start, full = ranking.fp_above, ranking.fp_at_or_above
    ties = full - start
    climbed = np.clip(end, start, full) - start
    area = climbed**2 / (2 * np.maximum(ties, 1)) + np.maximum(end - full, 0)
    return np.asarray(area / end)


def detection_curve(ranking: Ranking, rates: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The share of anomalous items that is detected at some false positive rates.

    Items tied in score are detected together, and the curve is linear between thresholds. Where several thresholds
    have one false positive rate, it is the largest share that counts.

    Parameters
    ----------
    ranking : Ranking
        Of P anomalous items among at least one normal one.
    rates : ndarray (n,)
        False positive rates in [0, 1].
    weights : ndarray (P,), optional
        What each anomalous item counts, in the ranking's order; by default all alike, 1 in total.

    Returns
    -------
    ndarray (n,), float64
    """
    false_positives, shares = detection_corners(ranking, weights)
    # Of several points at one place np.interp takes the last.
    return np.asarray(np.interp(rates * len(ranking.normal), false_positives, shares))


def detection_corners(ranking: Ranking, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The corners of :func:`detection_curve`, from (0, 0) on: numbers of false positives, and the shares detected."""
    counts = np.full(len(ranking.anomalous), 1 / len(ranking.anomalous)) if weights is None else weights
    # Best items first: false positives rise from one group of tied items to the next.
    start, full = ranking.fp_above[::-1], ranking.fp_at_or_above[::-1]
    last = np.append(np.flatnonzero((np.diff(start) > 0) | (np.diff(full) > 0)), len(start) - 1)
    detected = np.cumsum(counts[::-1])[last]
    false_positives = np.stack([start[last], full[last]], axis=1).ravel()
    shares = np.stack([np.append(0.0, detected[:-1]), detected], axis=1).ravel()
    return np.append(0, false_positives), np.append(0.0, shares)


def precision_curve(ranking: Ranking, recalls: np.ndarray) -> np.ndarray:
    """The precision at the highest threshold whose recall is at least that of each of ``recalls``, in (0, 1]."""
    count = len(ranking.anomalous)
    # Less a little, lest 7 % of 100 items be 8 by rounding.
    items = np.clip(np.ceil(recalls * count - 1e-9).astype(np.int64), 1, count)
    true_positives, fp_at_or_above = ranking.true_positives[-items], ranking.fp_at_or_above[-items]
    return np.asarray(true_positives / (true_positives + fp_at_or_above))


def auroc(ranking: Ranking) -> float:
    """Area under the ROC curve: the chance that an anomalous item outscores a normal one, ties counting half."""
    if not ranking.defined:
        return math.nan
    return float(partial_auc_terms(ranking).mean())


def average_precision(ranking: Ranking) -> float:
    """Average precision, without interpolation: the mean, over the anomalous items, of the precision at their score."""
    if not ranking.defined:
        return math.nan
    return float((ranking.true_positives / (ranking.true_positives + ranking.fp_at_or_above)).mean())


def f1_max(ranking: Ranking) -> tuple[float, float]:
    """The largest F1 that any threshold attains, and that threshold.

    Returns
    -------
    f1, threshold : float
        Calling an item anomalous when ``score > threshold`` attains ``f1``. The threshold is representable in the
        type of the scores, so that the comparison holds in float32 too. It lies halfway between the lowest score
        called anomalous and the next lower one, or just below the former when there is no lower one. Where several
        thresholds attain the maximum it is the highest, which raises the fewest false alarms.
    """
    if not ranking.defined:
        return math.nan, math.nan
    f1 = 2 * ranking.true_positives / (len(ranking.anomalous) + ranking.true_positives + ranking.fp_at_or_above)
    # Scores ascend, so the last of the maxima is the highest threshold.
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return float(f1[best]), _just_below(ranking, best)


def _just_below(ranking: Ranking, item: int) -> float:
    """A threshold between the score of an anomalous item and the next lower score of any item."""
    score = ranking.anomalous[item]
    candidates = (ranking.normal.highest_below(score), SortedScores([ranking.anomalous]).highest_below(score))
    lower = [each for each in candidates if each is not None]
    if not lower:
        with np.errstate(over="ignore"):  # minus infinity is right below the lowest float
            return float(np.nextafter(score, score.dtype.type(-np.inf)))
    next_lower = max(lower)
    # Halved first, as the sum of two large scores overflows; in the scores' type whatever NumPy's promotion rules.
    middle = score.dtype.type(score / 2 + next_lower / 2)
    return float(middle if next_lower <= middle < score else next_lower)
