"""AUROC, average precision and F1-max against pairwise comparison, a loop over thresholds, and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from padim_zoo.metrics import auroc, average_precision, f1_max, rank
from padim_zoo.metrics.ranking import partial_auc_terms

# Few distinct values make heavy ties; the wide floats make nearly none.
TIED = st.integers(0, 4).map(float)
ANY_FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)


def scores(elements: st.SearchStrategy[float] = TIED | ANY_FLOAT) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, st.integers(1, 25), elements=elements)


def pairwise_auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    wins = [1.0 if a > n else 0.5 if a == n else 0.0 for a in anomalous for n in normal]
    return sum(wins) / len(wins)


def f1_at(threshold: float, normal: np.ndarray, anomalous: np.ndarray) -> float:
    true_positives, alarms = int((anomalous > threshold).sum()), int((normal > threshold).sum())
    return 2 * true_positives / (len(anomalous) + true_positives + alarms)


def labeled(normal: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous])


@given(scores(), scores())
def test_auroc_is_the_share_of_pairs_in_order(normal: np.ndarray, anomalous: np.ndarray) -> None:
    found = auroc(rank(normal, anomalous))
    assert found == pytest.approx(pairwise_auroc(normal, anomalous), abs=1e-12)
    assert 0 <= found <= 1


@given(scores(), scores())
def test_auroc_and_average_precision_agree_with_scikit_learn(normal: np.ndarray, anomalous: np.ndarray) -> None:
    ranking = rank(normal, anomalous)
    expected = labeled(normal, anomalous)
    assert auroc(ranking) == pytest.approx(roc_auc_score(*expected), abs=1e-12)
    assert average_precision(ranking) == pytest.approx(average_precision_score(*expected), abs=1e-12)
    assert 0 <= average_precision(ranking) <= 1


@given(scores(), scores())
def test_f1_max_is_the_largest_over_all_thresholds_and_its_threshold_attains_it(
    normal: np.ndarray, anomalous: np.ndarray
) -> None:
    f1, threshold = f1_max(rank(normal, anomalous))
    every = [-math.inf, *normal, *anomalous]
    assert f1 == max(f1_at(candidate, normal, anomalous) for candidate in every)
    # In the scores' own float32, as a detector compares, and in float64.
    assert f1_at(threshold, normal, anomalous) == f1
    assert f1_at(threshold, normal.astype(np.float64), anomalous.astype(np.float64)) == f1


@given(scores(), scores())
def test_f1_max_agrees_with_scikit_learn(normal: np.ndarray, anomalous: np.ndarray) -> None:
    precision, recall, _ = precision_recall_curve(*labeled(normal, anomalous))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert f1_max(rank(normal, anomalous))[0] == pytest.approx(f1.max(), abs=1e-12)


def test_f1_threshold_lies_halfway_to_the_next_lower_score_of_either_kind() -> None:
    assert f1_max(rank(np.array([0.0, 1.0]), np.array([3.0, 5.0]))) == (1.0, 2.0)
    # Calling 5, 4 and 3 anomalous is best; an anomalous item is next below.
    normal = np.array([-9.0] * 9 + [0.5] * 9)
    assert f1_max(rank(normal, np.array([5.0, 4.0, 3.0, 0.0]))) == (6 / 7, 1.75)


def test_f1_threshold_is_the_highest_of_equals() -> None:
    # One alarm for one more hit: F1 is 2/3 both when only 9 is called anomalous and when 1 is, too.
    f1, threshold = f1_max(rank(np.array([5.0, 4.0]), np.array([9.0, 1.0])))
    assert (f1, threshold) == (2 / 3, 7.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("score", [0.0, 1.0, -1e30])
def test_f1_threshold_separates_scores_that_are_neighbors_in_floating_point(dtype: type, score: float) -> None:
    # Two pairs, because halfway between neighbors is rounded to the lower of one pair and the higher of the next.
    lowest = dtype(score)
    middle = np.nextafter(lowest, dtype(np.inf))
    for lower, higher in ((lowest, middle), (middle, np.nextafter(middle, dtype(np.inf)))):
        f1, threshold = f1_max(rank(np.array([lower]), np.array([higher])))
        assert f1 == 1
        assert higher > dtype(threshold) >= lower


@pytest.mark.filterwarnings("error")
def test_f1_threshold_of_huge_scores_does_not_overflow() -> None:
    largest = np.finfo(np.float32).max
    assert f1_max(rank(np.array([largest]), np.array([-largest]))) == (2 / 3, -math.inf)
    f1, threshold = f1_max(rank(np.array([largest / 2]), np.array([largest])))
    assert f1 == 1
    assert largest / 2 < threshold < largest


@given(scores(st.integers(-50, 50).map(float)), scores(st.integers(-50, 50).map(float)))
def test_only_the_order_of_scores_counts(normal: np.ndarray, anomalous: np.ndarray) -> None:
    def monotone(values: np.ndarray) -> np.ndarray:
        return np.exp(values.astype(np.float64) / 7) - 3

    before, after = rank(normal, anomalous), rank(monotone(normal), monotone(anomalous))
    for metric in (auroc, average_precision):
        assert metric(before) == metric(after)
    assert f1_max(before)[0] == f1_max(after)[0]


@given(scores(), scores())
def test_swapping_the_classes_mirrors_auroc(normal: np.ndarray, anomalous: np.ndarray) -> None:
    assert auroc(rank(normal, anomalous)) + auroc(rank(anomalous, normal)) == pytest.approx(1, abs=1e-12)


def test_perfect_and_reversed_and_equal_scores() -> None:
    low, high = np.zeros(7, np.float32), np.ones(3, np.float32)
    perfect, reversed_, equal = rank(low, high), rank(high, low), rank(low, low[:3])
    assert (auroc(perfect), average_precision(perfect), f1_max(perfect)[0]) == (1, 1, 1)
    assert (auroc(reversed_), average_precision(reversed_)) == (0, pytest.approx(0.7))
    assert (auroc(equal), average_precision(equal)) == (0.5, pytest.approx(0.3))


def test_negative_zero_ties_with_zero() -> None:
    assert auroc(rank(np.array([0.0]), np.array([-0.0]))) == 0.5


@pytest.mark.parametrize(("normals", "anomalies"), [(0, 3), (3, 0), (0, 0)])
def test_metrics_without_a_kind_are_nan(normals: int, anomalies: int) -> None:
    ranking = rank(np.arange(normals, dtype=np.float32), np.arange(anomalies, dtype=np.float32))
    assert not ranking.defined
    assert all(math.isnan(value) for value in (auroc(ranking), average_precision(ranking), *f1_max(ranking)))


@given(scores(), scores(), st.floats(0.01, 1))
def test_area_shares_lie_within_the_unit_interval(normal: np.ndarray, anomalous: np.ndarray, limit: float) -> None:
    shares = partial_auc_terms(rank(normal, anomalous), limit)
    assert ((shares >= 0) & (shares <= 1)).all()
