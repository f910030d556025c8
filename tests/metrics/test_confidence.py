"""Bootstrap intervals and DeLong's test against literal resampling, literal sums and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import wilcoxon
from sklearn.metrics import roc_auc_score

from padim_zoo.core.errors import InputError
from padim_zoo.metrics import bootstrap_interval, confidence, paired_difference, paired_images

LABELS = np.array([1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1])


def tied_scores(size: int = len(LABELS)) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, size, elements=st.integers(0, 5).map(float))


def draws(generator: np.random.Generator, rows: int, size: int) -> np.ndarray:
    return generator.integers(size, size=(rows, size))


def literal_replicates(labels: np.ndarray, scores: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Draw the images, and ask scikit-learn for the AUROC of each drawn test set."""
    generator = np.random.default_rng(seed)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    drawn_normal = normal[draws(generator, replicates, len(normal))]
    drawn_anomalous = anomalous[draws(generator, replicates, len(anomalous))]
    drawn_labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    return np.array(
        [roc_auc_score(drawn_labels, np.concatenate(pair)) for pair in zip(drawn_normal, drawn_anomalous, strict=True)]
    )


@pytest.mark.parametrize("seed", range(4))
def test_interval_is_that_of_literally_resampled_test_sets(seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 6, len(LABELS)).astype(np.float32)
    expected = np.quantile(literal_replicates(LABELS, scores, 50, seed), (0.1, 0.9))
    assert bootstrap_interval(LABELS, scores, replicates=50, seed=seed, confidence=0.8) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_difference_draws_the_same_images_for_both(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 6, (2, len(LABELS))).astype(np.float32)
    difference = literal_replicates(LABELS, b, 50, seed) - literal_replicates(LABELS, a, 50, seed)
    comparison = paired_difference(LABELS, a, b, replicates=50, seed=seed)
    assert (comparison.low, comparison.high) == pytest.approx(tuple(np.quantile(difference, (0.025, 0.975))))


def test_interval_covers_the_true_auroc_about_as_often_as_stated() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    truth = 0.5 * math.erfc(-0.5)  # two unit Gaussians one apart: Φ(1 / √2)
    covered = 0
    for trial in range(200):
        scores = generator.normal(size=100) + labels
        low, high = bootstrap_interval(labels, scores, replicates=300, seed=trial)
        covered += low <= truth <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_memory_is_bounded_for_large_test_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def recorded(generator: np.random.Generator, rows: int, size: int) -> np.ndarray:
        shapes.append((rows, size))
        return counts(generator, rows, size)

    counts = confidence._resample_counts
    monkeypatch.setattr(confidence, "_resample_counts", recorded)
    monkeypatch.setattr(confidence, "_DRAWS_AT_A_TIME", 40)
    low, high = bootstrap_interval(LABELS, np.arange(len(LABELS)), replicates=10)
    assert [rows for rows, _ in shapes] == [3, 3, 3, 3, 3, 3, 1, 1]
    assert 0 <= low < high <= 1


@given(tied_scores())
def test_interval_lies_within_the_unit_interval(scores: np.ndarray) -> None:
    low, high = bootstrap_interval(LABELS, scores, replicates=40)
    assert 0 <= low < high <= 1 or (math.isnan(low) and math.isnan(high))


# -- no interval is without width -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("normals", "anomalies"), [(4, 4), (1, 1), (3, 50), (200, 100)])
def test_without_an_inversion_there_is_an_exact_one_sided_bound(normals: int, anomalies: int) -> None:
    labels = np.repeat([0, 1], [normals, anomalies])
    bound = 0.05 ** (1 / min(normals, anomalies))
    assert bootstrap_interval(labels, labels * 2.5) == pytest.approx((bound, 1))
    assert bootstrap_interval(labels, -labels) == pytest.approx((0, 1 - bound))
    assert bootstrap_interval(labels, np.stack([labels, 3 * labels])) == pytest.approx((bound, 1))


def test_the_bound_of_a_perfect_ranking_fails_at_most_as_often_as_stated() -> None:
    """Of an AUROC just below the bound, no inversion is seen in at most 5 % of test sets."""
    generator = np.random.default_rng(0)
    size, bound = 4, 0.05 ** (1 / 4)
    # A share of anomalous images scores above all normal ones, the rest below: the AUROC is that share.
    perfect = np.mean([(generator.random(size) < bound - 1e-3).all() for _ in range(20000)])
    assert perfect <= 0.055


def test_scores_that_are_all_equal_have_no_interval() -> None:
    assert all(map(math.isnan, bootstrap_interval(np.array([0, 1]), np.array([3.0, 3.0]))))
    assert all(map(math.isnan, bootstrap_interval(LABELS, np.ones(len(LABELS)))))


def test_two_perfect_detectors_may_differ_by_what_their_bounds_leave_open() -> None:
    labels = np.repeat([0, 1], 4)
    comparison = paired_difference(labels, labels, 2 * labels)
    open_below = 1 - 0.025 ** (1 / 4)
    assert (comparison.difference, comparison.p_value) == (0, 1)
    assert (comparison.low, comparison.high) == pytest.approx((-open_below, open_below))


def test_student_has_no_interval_without_spread() -> None:
    assert all(map(math.isnan, confidence.student_test([0.1, 0.1, 0.1], 0.95)))
    low, high, p_value = confidence.student_test([0.1, 0.2, 0.3], 0.95)
    assert low < 0.2 < high
    assert 0 < p_value < 0.1


def test_same_seed_same_interval_and_wider_with_more_confidence() -> None:
    scores = np.random.default_rng(3).normal(size=len(LABELS))
    low, high = bootstrap_interval(LABELS, scores)
    assert bootstrap_interval(LABELS, scores) == (low, high)
    wider = bootstrap_interval(LABELS, scores, confidence=0.999)
    assert wider[0] < low
    assert wider[1] > high


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_one_kind_only_gives_nan(labels: list[int]) -> None:
    given_labels, scores = np.array(labels), np.arange(len(labels), dtype=float)
    assert all(map(math.isnan, bootstrap_interval(given_labels, scores)))
    comparison = paired_difference(given_labels, scores, scores)
    assert all(map(math.isnan, (comparison.difference, comparison.low, comparison.high, comparison.p_value)))


def literal_delong(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Difference b − a and its variance by DeLong, DeLong and Clarke-Pearson (1988), sum by sum."""

    def order(anomalous: float, normal: float) -> float:
        return 1.0 if anomalous > normal else 0.5 if anomalous == normal else 0.0

    anomalous, normal = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    m, n = len(anomalous), len(normal)
    theta, v10, v01 = [], [], []
    for x in (a, b):
        v10.append([sum(order(x[i], x[j]) for j in normal) / n for i in anomalous])
        v01.append([sum(order(x[i], x[j]) for i in anomalous) / m for j in normal])
        theta.append(sum(v10[-1]) / m)

    def covariance(v: list[list[float]], r: int, s: int) -> float:
        return sum((p - theta[r]) * (q - theta[s]) for p, q in zip(v[r], v[s], strict=True)) / (len(v[r]) - 1)

    def total(r: int, s: int) -> float:
        return covariance(v10, r, s) / m + covariance(v01, r, s) / n

    return theta[1] - theta[0], total(0, 0) + total(1, 1) - 2 * total(0, 1)


@given(tied_scores(), tied_scores())
def test_p_value_is_that_of_the_literal_delong_variance(a: np.ndarray, b: np.ndarray) -> None:
    comparison = paired_difference(LABELS, a, b, replicates=1)
    difference, variance = literal_delong(LABELS, a, b)
    assert comparison.difference == pytest.approx(difference, abs=1e-12)
    if variance > 1e-12:
        assert comparison.p_value == pytest.approx(math.erfc(abs(difference) / math.sqrt(2 * variance)), abs=1e-9)
    else:
        assert comparison.p_value == 1 or math.isnan(comparison.p_value)


@given(tied_scores(), tied_scores())
def test_exchanging_the_detectors_mirrors_the_comparison(a: np.ndarray, b: np.ndarray) -> None:
    there, back = (paired_difference(LABELS, *pair, replicates=60) for pair in ((a, b), (b, a)))
    mirrored = (-there.difference, -there.high, -there.low, there.p_value)
    assert (back.difference, back.low, back.high, back.p_value) == pytest.approx(mirrored, nan_ok=True, abs=1e-12)


def test_detectors_that_rank_alike_do_not_differ() -> None:
    scores = np.random.default_rng(5).normal(size=len(LABELS))
    comparison = paired_difference(LABELS, scores, np.exp(scores))
    assert (comparison.difference, comparison.p_value) == (0, 1)
    assert math.isnan(comparison.low)
    assert math.isnan(comparison.high)


def test_p_values_are_uniform_when_detectors_are_equally_good() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 40)
    p_values = []
    for _ in range(400):
        shared = generator.normal(size=80) + labels
        a, b = (shared + generator.normal(size=80) for _ in range(2))
        p_values.append(paired_difference(labels, a, b, replicates=1).p_value)
    for level in (0.05, 0.25, 0.5):
        assert np.mean(np.array(p_values) < level) == pytest.approx(level, abs=0.07)


def test_p_value_is_undefined_where_its_variance_is() -> None:
    one_anomalous, values = np.array([0, 0, 1]), np.array([1.0, 2.0, 3.0])
    assert math.isnan(paired_difference(one_anomalous, values, -values).p_value)
    # Two of each, one detector all right and the other all wrong: no image contradicts the difference.
    comparison = paired_difference(np.array([0, 0, 1, 1]), np.array([1.0, 1, 2, 2]), np.array([2.0, 2, 1, 1]))
    bound = 0.025 ** (1 / 2)
    assert (comparison.difference, comparison.low) == (-1, -1)
    assert comparison.high == pytest.approx(1 - 2 * bound)
    assert math.isnan(comparison.p_value)


def test_bad_inputs_are_refused() -> None:
    scores = np.arange(len(LABELS), dtype=float)
    with pytest.raises(InputError, match="expected one score per image"):
        paired_difference(LABELS, scores, scores[1:])
    with pytest.raises(InputError, match="NaN or infinity"):
        bootstrap_interval(LABELS, np.where(LABELS, np.nan, scores))
    with pytest.raises(InputError, match="at least 1"):
        bootstrap_interval(LABELS, scores, replicates=0)
    with pytest.raises(InputError, match="between 0 and 1"):
        paired_difference(LABELS, scores, scores, confidence=95)


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_averaged_on_each_resampled_test_set(seed: int) -> None:
    a, b = (
        np.random.default_rng(seed + 10 * folds).integers(0, 6, (folds, len(LABELS))).astype(float) for folds in (3, 2)
    )
    options = {"replicates": 50, "seed": seed, "confidence": 0.8}
    mean_a, mean_b = (
        np.mean([literal_replicates(LABELS, fold, 50, seed) for fold in folds], axis=0) for folds in (a, b)
    )
    assert bootstrap_interval(LABELS, a, **options) == pytest.approx(np.quantile(mean_a, (0.1, 0.9)))
    comparison = paired_difference(LABELS, a, b, **options)
    assert (comparison.low, comparison.high) == pytest.approx(np.quantile(mean_b - mean_a, (0.1, 0.9)))
    mean_aurocs = [np.mean([roc_auc_score(LABELS, fold) for fold in folds]) for folds in (a, b)]
    assert comparison.difference == pytest.approx(mean_aurocs[1] - mean_aurocs[0])


@given(tied_scores(), tied_scores())
def test_equal_folds_are_as_one(a: np.ndarray, b: np.ndarray) -> None:
    once = paired_difference(LABELS, a, b, replicates=5)
    thrice = paired_difference(LABELS, np.tile(a, (3, 1)), np.tile(b, (2, 1)), replicates=5)
    assert (thrice.difference, thrice.p_value) == pytest.approx((once.difference, once.p_value), nan_ok=True)


# -- metrics that have a value of each image --------------------------------------------------------------------------


def test_values_of_images_are_compared_as_scipy_does() -> None:
    generator = np.random.default_rng(0)
    a = generator.random(40)
    b = np.clip(a + generator.normal(0.05, 0.1, 40), 0, 1)
    a[3] = b[7] = math.nan
    both = np.delete(np.arange(40), [3, 7])
    comparison = paired_images(a, b, replicates=500, seed=3, confidence=0.9)
    assert comparison.difference == pytest.approx((b - a)[both].mean())
    assert comparison.p_value == pytest.approx(wilcoxon(b[both], a[both]).pvalue)
    draws = np.random.default_rng(3).integers(38, size=(500, 38))
    means = [(b - a)[both][draw].mean() for draw in draws]
    assert (comparison.low, comparison.high) == pytest.approx(np.quantile(means, (0.05, 0.95)))
    mirrored = paired_images(b, a, replicates=500, seed=3, confidence=0.9)
    assert mirrored.difference == pytest.approx(-comparison.difference)
    assert mirrored.p_value == comparison.p_value


def test_values_of_images_that_do_not_differ() -> None:
    comparison = paired_images(np.full(5, 0.3), np.full(5, 0.3))
    assert (comparison.difference, comparison.p_value) == (0, 1)
    assert math.isnan(comparison.low)
    shifted = paired_images(np.full(5, 0.25), np.full(5, 0.5))
    assert shifted.difference == 0.25
    assert math.isnan(shifted.high)
    assert shifted.p_value > 0.05


def test_no_image_with_both_values_gives_nan() -> None:
    comparison = paired_images(np.array([math.nan, 1]), np.array([1, math.nan]))
    assert math.isnan(comparison.difference)
    assert math.isnan(comparison.p_value)
