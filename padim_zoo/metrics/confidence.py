"""How sure an image AUROC is, and whether two detectors differ: bootstrap, DeLong's and Wilcoxon's tests.

No interval is without width: where resampling shows no spread, there is an exact one-sided bound, or none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.checks import check_labels, check_scores

# Resampled scores held in memory at a time; a bound on memory for large test sets.
_DRAWS_AT_A_TIME = 4_000_000


def bootstrap_interval(
    labels: np.ndarray, scores: np.ndarray, *, replicates: int = 2000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of image AUROC, by the percentiles of a stratified bootstrap.

    Of K detectors, such as those of K folds, it is the interval of their mean image AUROC: every resampled test set
    is ranked by all of them. The mean of their own intervals' bounds would be wider.

    Normal and anomalous images are resampled with replacement each among themselves, so that every replicate has as
    many of both as the test set.

    Where the test set is ranked without an error, so is every replicate: they say nothing of the errors that more
    images would show. Then an exact one-sided bound takes their place. Of min(M, P) disjoint pairs all are in order, so
    the AUROC is at least ``(1 - confidence) ** (1 / min(M, P))``. A test set that is all in the wrong order has the
    mirrored bound. Where all replicates agree otherwise, as of scores that are all equal, there is no interval.

    Parameters
    ----------
    labels : ndarray (N,)
        0 for normal images, 1 for anomalous ones.
    scores : ndarray (N,) or (K, N)
        Anomaly score of each image, by each detector.
    replicates : int
        Number of resampled test sets.
    seed : int
        Of the resampling.
    confidence : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    low, high : float
        ``low < high``. NaN where there is no interval: without normal or without anomalous images too.

    Raises
    ------
    InputError
        If shapes disagree, labels are not 0 and 1, or a score is NaN or infinite.
    """
    _check_resampling(replicates, confidence)
    detectors = _split(labels, scores)
    if detectors[0].lacks_a_kind:
        return math.nan, math.nan
    interval = percentile_interval(_bootstrap_aurocs(detectors, replicates, seed).mean(axis=0), confidence)
    return interval if _has_width(interval) else _exact_bounds(detectors, confidence)


@dataclass(frozen=True)
class PairedDifference:
    """A metric of detector B less that of detector A, on the same images; of several folds, their means.

    Attributes
    ----------
    difference : float
        B − A: positive when B ranks better.
    low, high : float
        Bootstrap confidence interval of the difference, never without width: see :func:`bootstrap_interval`.
    p_value : float
        Two-sided, of no difference: DeLong's test of AUROCs, Wilcoxon's of values of images.
    """

    difference: float
    low: float
    high: float
    p_value: float


def paired_difference(
    labels: np.ndarray,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    *,
    replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compare the image AUROCs of two detectors on the same images: B less A.

    The interval is a stratified bootstrap that draws the same images for both; the p-value is DeLong's (DeLong et al.,
    "Comparing the areas under two or more correlated ROC curves", Biometrics 1988).

    Parameters
    ----------
    labels : ndarray (N,)
        0 for normal images, 1 for anomalous ones.
    scores_a, scores_b : ndarray (N,) or (K, N)
        Anomaly score of each image by either detector, in each of its folds; neither scales nor folds need to agree.
    replicates, seed, confidence
        As for :func:`bootstrap_interval`.

    Returns
    -------
    PairedDifference
        All NaN without normal or without anomalous images. The p-value alone is NaN where its variance cannot be
        estimated: with a single image of a kind, or with a difference that no image contradicts.

    Raises
    ------
    InputError
        If shapes disagree, labels are not 0 and 1, or a score is NaN or infinite.
    """
    _check_resampling(replicates, confidence)
    a, b = _split(labels, scores_a), _split(labels, scores_b)
    if a[0].lacks_a_kind:
        return PairedDifference(math.nan, math.nan, math.nan, math.nan)
    aurocs = _bootstrap_aurocs([*a, *b], replicates, seed)
    low, high = percentile_interval(aurocs[len(a) :].mean(axis=0) - aurocs[: len(a)].mean(axis=0), confidence)
    if not _has_width((low, high)):
        # Each of the two bounds may fail half as often, so that both hold with the confidence asked for.
        bounds_a, bounds_b = (_exact_bounds(detectors, (1 + confidence) / 2) for detectors in (a, b))
        low, high = bounds_b[0] - bounds_a[1], bounds_b[1] - bounds_a[0]
    difference, p_value = _delong_test(a, b)
    return PairedDifference(difference, low, high, p_value)


def paired_images(
    values_a: np.ndarray, values_b: np.ndarray, *, replicates: int = 2000, seed: int = 0, confidence: float = 0.95
) -> PairedDifference:
    """Compare a metric that has a value of each image: the mean of B less that of A over the same images.

    The interval is a bootstrap of the images, the p-value that of Wilcoxon's signed-rank test.

    Parameters
    ----------
    values_a, values_b : ndarray (N,)
        NaN of images that have no value, which are left out.
    replicates, seed, confidence
        As for :func:`bootstrap_interval`.

    Returns
    -------
    PairedDifference
        All NaN without an image that has both values. The interval is NaN where all images differ by as much. The
        p-value is 1 where none differs.
    """
    from scipy.stats import wilcoxon

    _check_resampling(replicates, confidence)
    differences = np.asarray(values_b, dtype=np.float64) - values_a
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return PairedDifference(math.nan, math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(differences), size=(replicates, len(differences)))
    interval = percentile_interval(differences[draws].mean(axis=1), confidence)
    low, high = interval if _has_width(interval) else (math.nan, math.nan)
    p_value = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return PairedDifference(float(differences.mean()), low, high, p_value)


@dataclass(frozen=True)
class _Groups:
    """Scores of the M normal and the P anomalous images, each in the order of the test set."""

    normal: np.ndarray
    anomalous: np.ndarray

    @property
    def lacks_a_kind(self) -> bool:
        return not (len(self.normal) and len(self.anomalous))


def _split(labels: np.ndarray, scores: np.ndarray) -> list[_Groups]:
    """The scores of each of K detectors, given as (N,) or (K, N)."""
    folds = [scores] if np.ndim(scores) < 2 else list(scores)
    if not folds:
        raise InputError("there are scores of no detector: expected one row of scores or more")
    labels = check_labels(labels)
    return [_Groups(fold[~labels], fold[labels]) for fold in (check_scores(fold, len(labels)) for fold in folds)]


def _bootstrap_aurocs(detectors: Sequence[_Groups], replicates: int, seed: int) -> np.ndarray:
    """Image AUROC of each detector on each resampled test set, the same sets for all: (len(detectors), replicates)."""
    generator = np.random.default_rng(seed)
    normals, anomalies = len(detectors[0].normal), len(detectors[0].anomalous)
    at_a_time = max(1, _DRAWS_AT_A_TIME // (normals + anomalies))
    chunks = []
    for start in range(0, replicates, at_a_time):
        rows = min(at_a_time, replicates - start)
        normal_counts = _resample_counts(generator, rows, normals)
        anomalous_counts = _resample_counts(generator, rows, anomalies)
        chunks.append([_weighted_auroc(groups, normal_counts, anomalous_counts) for groups in detectors])
    return np.concatenate(chunks, axis=1)


def _resample_counts(generator: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """How often each of ``size`` items is among ``size`` draws with replacement: int (rows, size)."""
    draws = generator.integers(size, size=(rows, size))
    draws += size * np.arange(rows)[:, None]
    return np.bincount(draws.ravel(), minlength=rows * size).reshape(rows, size)


def _weighted_auroc(groups: _Groups, normal_counts: np.ndarray, anomalous_counts: np.ndarray) -> np.ndarray:
    """AUROC (R,) when the images count as often as R rows (R, M) and (R, P) say. Integers until the division."""
    order = np.argsort(groups.normal)
    # Column i: how many of the drawn normal images are among the i lowest.
    lowest = np.zeros((len(normal_counts), len(order) + 1), dtype=np.int64)
    np.cumsum(normal_counts[:, order], axis=1, out=lowest[:, 1:])
    below = lowest[:, np.searchsorted(groups.normal, groups.anomalous, side="left", sorter=order)]
    not_above = lowest[:, np.searchsorted(groups.normal, groups.anomalous, side="right", sorter=order)]
    doubled: np.ndarray = (anomalous_counts * (below + not_above)).sum(axis=1)
    return doubled / (2 * len(groups.normal) * len(groups.anomalous))


def _has_width(interval: tuple[float, float]) -> bool:
    """Whether an interval says more than its middle: rounding is no width."""
    return interval[1] - interval[0] > 1e-12


def _exact_bounds(detectors: Sequence[_Groups], confidence: float) -> tuple[float, float]:
    """The one-sided interval of a mean AUROC that is exactly 1 or 0; NaN of any other.

    The images make min(M, P) pairs that have none in common. If the AUROC of a fold is A, all of them are in order with
    a probability of A to the power of their number, which is no less than 1 - confidence inside the interval. What
    holds of the fold with the lowest AUROC holds of the mean.
    """
    normals, anomalies = len(detectors[0].normal), len(detectors[0].anomalous)
    bound = (1 - confidence) ** (1 / min(normals, anomalies))
    if all(groups.anomalous.min() > groups.normal.max() for groups in detectors):
        return bound, 1.0
    if all(groups.anomalous.max() < groups.normal.min() for groups in detectors):
        return 0.0, 1 - bound
    return math.nan, math.nan


def percentile_interval(replicates: np.ndarray, confidence: float) -> tuple[float, float]:
    """The interval that holds the middle of replicates (R,)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, (tail, 1 - tail))
    return float(low), float(high)


def student_test(differences: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Student's interval of the mean of two differences or more, and the two-sided p-value of a mean of 0.

    All are NaN where the differences are equal: they say nothing of how far others may lie.
    """
    from scipy import stats

    n, mean = len(differences), float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    if error < 1e-12:
        return math.nan, math.nan, math.nan
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, n - 1))


def _delong_test(a: Sequence[_Groups], b: Sequence[_Groups]) -> tuple[float, float]:
    """AUROC of b less that of a on the same images, each the mean of its folds, and the p-value of no difference.

    AUROC is the mean placement of the anomalous images among the normal ones, and as well of the normal ones among
    the anomalous; the variance of the difference is that of either mean of differences, added (DeLong, eq. 5–7). The
    placement of an image is the mean of those in its folds; sums over folds keep to integers.
    """
    normals, anomalies = len(a[0].normal), len(a[0].anomalous)
    pairs = 2 * normals * anomalies * len(a) * len(b)
    of_anomalous, of_normal = (
        len(a) * placed_b - len(b) * placed_a for placed_a, placed_b in zip(_placements(a), _placements(b), strict=True)
    )
    difference = float(of_anomalous.sum() / pairs)
    if min(normals, anomalies) < 2:
        return difference, math.nan
    variance = (anomalies * of_anomalous.var(ddof=1) + normals * of_normal.var(ddof=1)) / pairs**2
    if variance == 0:
        return difference, 1.0 if difference == 0 else math.nan
    return difference, math.erfc(abs(difference) / math.sqrt(2 * variance))


def _placements(folds: Sequence[_Groups]) -> tuple[np.ndarray, np.ndarray]:
    """Doubled placements, summed over folds, of the P anomalous among the normal images, and of the M normal ones."""
    return (
        np.sum([_doubled_placements(fold.anomalous, fold.normal) for fold in folds], axis=0),
        np.sum([_doubled_placements(fold.normal, fold.anomalous) for fold in folds], axis=0),
    )


def _doubled_placements(scores: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Twice how many of ``among`` each score exceeds, ties counting half: doubled to stay in exact integers."""
    ranked = np.sort(among)
    return np.searchsorted(ranked, scores, side="left") + np.searchsorted(ranked, scores, side="right")


def _check_resampling(replicates: int, confidence: float) -> None:
    if replicates < 1:
        raise InputError(f"{replicates} bootstrap replicates: expected at least 1, e.g. 2000")
    if not 0 < confidence < 1:
        raise InputError(f"a confidence of {confidence}: expected a share between 0 and 1, e.g. 0.95")
