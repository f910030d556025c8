"""What test figures say that chance does not."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from padim_zoo.metrics import evaluate, order_doubt, promise_doubt


def test_an_order_that_is_worse_than_chance_is_told():
    anomalous = np.arange(10.0)
    assert "swapped" in str(order_doubt(np.arange(10.0) + 20, np.arange(20.0)))
    assert order_doubt(np.arange(10.0), np.arange(20.0) + 20) is None
    assert order_doubt(np.empty(0), anomalous) is None


def test_the_order_is_that_of_a_test_of_ranks():
    random = np.random.default_rng(0)
    for shift in np.linspace(-2, 1, 60):
        normal, anomalous = random.normal(size=12).round(1), (random.normal(size=9) + shift).round(1)
        p = mannwhitneyu(anomalous, normal, alternative="less").pvalue
        assert (order_doubt(normal, anomalous) is not None) == (p <= 0.025)


def test_few_images_in_the_wrong_order_may_be_chance():
    # 2 + 2 images have six orders: one of them proves nothing.
    assert order_doubt(np.array([3.0, 4.0]), np.array([1.0, 2.0])) is None


def test_the_notes_of_an_evaluation_tell_of_the_order():
    labels = np.repeat([0, 1], 12)
    assert any("swapped" in note for note in evaluate(labels, -labels + np.arange(24) / 100).notes)
    assert not any("swapped" in note for note in evaluate(labels, labels + np.arange(24) / 100).notes)


def literal_chance(false_alarms: int, n_normal: int, rate: float, m: int) -> float:
    """The share of all orders of m + n_normal scores in which so many new ones exceed the threshold."""
    above = int((m + 1) * rate + 1e-9)
    # The threshold is the above-th highest of m scores: k new ones above it, and so above - 1 old ones.
    orders = sum(
        comb(k + above - 1, k) * comb(n_normal - k + m - above, n_normal - k) for k in range(false_alarms, n_normal + 1)
    )
    return orders / comb(n_normal + m, m)


@pytest.mark.parametrize(("m", "rate", "n_normal"), [(19, 0.05, 30), (40, 0.1, 12), (99, 0.05, 50), (7, 0.125, 9)])
def test_a_promise_is_doubted_where_chance_is_below_one_in_a_hundred(m, rate, n_normal):
    for false_alarms in range(n_normal + 1):
        doubt = promise_doubt(false_alarms, n_normal, rate, m)
        assert (doubt is not None) == (literal_chance(false_alarms, n_normal, rate, m) <= 0.01)


def test_a_doubt_names_the_counts():
    assert str(promise_doubt(118, 319, 0.05, 369)).startswith("118 of 319 normal test images are alarms")
    assert promise_doubt(0, 0, 0.05, 369) is None
