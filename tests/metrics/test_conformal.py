"""The conformal threshold keeps its rate, exactly where it can be counted."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_zoo.core.errors import InputError
from padim_zoo.metrics import conformal_threshold, smallest_false_alarm_rate
from padim_zoo.metrics.conformal import conformal_p_value


@given(st.integers(1, 400), st.integers(1, 999))
def test_threshold_is_the_stated_order_statistic_in_exact_arithmetic(count: int, per_mille: int) -> None:
    rate = Fraction(per_mille, 1000)
    scores = np.random.default_rng(count).permutation(count).astype(np.float32)
    place = math.ceil((count + 1) * (1 - rate))
    if place > count:
        with pytest.raises(InputError, match=f"needs at least {math.ceil(1 / rate) - 1} normal images, found {count}"):
            conformal_threshold(scores, float(rate))
    else:
        assert conformal_threshold(scores, float(rate)) == sorted(scores)[place - 1]


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.floats(0.02, 0.98))
def test_each_of_exchangeable_images_is_a_false_alarm_at_most_at_the_rate(values: list[int], rate: float) -> None:
    # All m + 1 images are equally likely to be the new one: count in how many of the cases it is called anomalous.
    scores = np.array(values, dtype=np.float32)
    if rate < smallest_false_alarm_rate(len(scores) - 1):
        return
    alarms = [scores[new] > conformal_threshold(np.delete(scores, new), rate) for new in range(len(scores))]
    assert sum(alarms) <= rate * len(scores) * (1 + 1e-9)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.floats(0.02, 0.98), st.booleans())
def test_a_p_value_is_below_a_rate_exactly_above_its_threshold(values: list[int], rate: float, grouped: bool) -> None:
    scores = np.array(values, dtype=np.float32)
    groups = np.arange(len(scores)) // 2 if grouped else np.arange(len(scores))
    if rate < smallest_false_alarm_rate(len(np.unique(groups))):
        return
    threshold = conformal_threshold(scores, rate, groups)
    for score in (-1, 0, 2.5, 3, 6, 7):
        p_value = conformal_p_value(score, scores, groups)
        if abs(p_value - rate) > 1e-6:
            assert (p_value < rate) == (score > threshold)


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (19, 0.05), (9, 0.1), (999, 0.001), (2, 1 / 3)])
def test_the_fewest_images_for_a_rate_suffice(count: int, rate: float) -> None:
    scores = np.arange(count, dtype=np.float64)
    assert conformal_threshold(scores, rate) == count - 1
    with pytest.raises(InputError, match=f"needs at least {count} normal images, found {count - 1}"):
        conformal_threshold(scores[1:], rate)


@given(st.integers(1, 5000))
def test_the_smallest_rate_is_accepted_and_anything_below_is_not(count: int) -> None:
    scores = np.zeros(count, dtype=np.float32)
    rate = smallest_false_alarm_rate(count)
    assert conformal_threshold(scores, rate) == 0
    with pytest.raises(InputError):
        conformal_threshold(scores, rate * (1 - 1e-6))


@given(st.integers(1, 5000))
def test_the_rate_that_the_refusal_offers_is_accepted(count: int) -> None:
    scores = np.zeros(count, dtype=np.float32)
    with pytest.raises(InputError) as refusal:
        conformal_threshold(scores, 1e-5)
    offered = float(str(refusal.value).rsplit(" ", 1)[1])
    assert conformal_threshold(scores, offered) == 0


def test_a_refusal_says_what_would_do() -> None:
    with pytest.raises(InputError) as refusal:
        conformal_threshold(np.arange(60.0), 0.01)
    assert str(refusal.value) == (
        "a false-alarm rate of 0.01 needs at least 99 normal images, found 60: "
        "use more images, or a rate of at least 0.0164"
    )
    with pytest.raises(InputError, match=r"found 0: use more images$"):
        conformal_threshold(np.array([]), 0.5)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5, math.nan])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="the false-alarm rate is"):
        conformal_threshold(np.arange(10.0), rate)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        conformal_threshold(np.array([1.0, math.nan]), 0.5)
