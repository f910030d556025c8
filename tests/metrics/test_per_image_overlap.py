"""AUPIMO against a literal loop over thresholds and images, in NumPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from padim_zoo.core.errors import InputError
from padim_zoo.metrics import METRICS, NormalTail, aupimo_of_images, evaluate, rank_pixels

BOUNDS = (0.01, 0.2)
"""Rates of maps of a few thousand pixels."""


def literal_aupimo(maps: np.ndarray, masks: np.ndarray, normal: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Of each image the integral over log z of its overlap at the lowest threshold with a shared rate of at most z.

    The shared rate is the mean over normal images of the share of their pixels that score at least the threshold.
    """
    low, high = bounds
    thresholds = np.array(sorted(set(maps.ravel().tolist()), reverse=True))
    shared = np.array([np.mean([(one >= threshold).mean() for one in normal]) for threshold in thresholds])
    values = []
    for scores, mask in zip(maps, masks, strict=True):
        if not mask.any():
            values.append(math.nan)
            continue
        overlaps = np.array([(scores[mask] >= threshold).mean() for threshold in thresholds])
        # The overlap is constant from one shared rate to the next.
        steps = sorted({low, high, *(rate for rate in shared.tolist() if low < rate < high)})
        area = 0.0
        for left, right in itertools.pairwise(steps):
            reached = overlaps[shared <= left + 1e-15]
            area += (reached.max() if len(reached) else 0.0) * (math.log(right) - math.log(left))
        values.append(area / (math.log(high) - math.log(low)))
    return np.array(values)


@st.composite
def labeled_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Two normal images and one to three with a defect or none, of 20 × 26 pixels, tied or not; and the bounds."""
    count = draw(st.integers(3, 5))
    seed, levels = draw(st.integers(0, 10_000)), draw(st.sampled_from([5, 60, None]))
    generator = np.random.default_rng(seed)
    maps = generator.normal(size=(count, 20, 26)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for image in range(2, count):
        rows, columns = draw(st.integers(0, 6)), draw(st.integers(1, 6))
        masks[image, 3 : 3 + rows, 5 : 5 + columns] = True
    maps[masks] += generator.random() * 4
    if levels is not None:
        maps = np.round(maps * levels / 5).astype(np.float32)
    low = draw(st.sampled_from([10 / 1040, 0.01, 0.05]))
    return maps, masks, (low, draw(st.sampled_from([0.1, 0.2, 1.0])))


@settings(deadline=None, max_examples=60)
@given(labeled_maps())
def test_every_image_equals_the_literal_loop(case: tuple[np.ndarray, np.ndarray, tuple[float, float]]) -> None:
    maps, masks, bounds = case
    ranking, regions = rank_pixels(maps, masks)
    found = aupimo_of_images(ranking, regions, NormalTail.of(list(maps[:2]), bounds), len(maps))
    np.testing.assert_allclose(found, literal_aupimo(maps, masks, maps[:2], bounds), atol=1e-9, rtol=0)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 400), elements=st.integers(0, 9).map(float)), st.sampled_from([0.01, 1.0]))
def test_the_tail_gives_the_rates_up_to_the_upper_bound(normal: np.ndarray, high: float) -> None:
    tail = NormalTail.of([normal], (0.005, high))
    for score in range(-1, 11):
        rate = (normal >= score).mean()
        [found] = tail.rates_at(np.array([score], dtype=np.float32))
        assert found == rate if rate <= high else found > high


def test_the_bounds_are_exact() -> None:
    """One pixel in ten of the normal image scores above a defect: it is found from a rate of 0.1 on, exactly."""
    normal = np.zeros((1, 10, 10), dtype=np.float32)
    normal[0, 0] = 2
    defect = np.ones((1, 10, 10), dtype=np.float32)
    labels = np.zeros((1, 10, 10), dtype=np.int32)
    labels[0, 2:4] = 1
    ranking, regions = rank_pixels(defect, labels)

    def value(low: float, high: float) -> float:
        return float(aupimo_of_images(ranking, regions, NormalTail.of([normal], (low, high)), 1)[0])

    assert value(0.1, 1) == 1
    assert value(0.1 * 1e-9 + 0.1, 0.5) == 1
    assert math.isnan(value(0.05, 0.1))  # 5 pixels are too few for the lower bound
    tail = NormalTail.of([np.repeat(normal, 20, axis=0)], (0.01, 0.1))
    assert aupimo_of_images(ranking, regions, tail, 1)[0] == 0
    tail = NormalTail.of([np.repeat(normal, 20, axis=0)], (0.01, 1.0))
    assert aupimo_of_images(ranking, regions, tail, 1)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("bounds", [(0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.1, 1.5)])
def test_bounds_that_are_no_rising_rates_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="AUPIMO bounds"):
        NormalTail.of([np.zeros(3)], bounds)


# -- in an evaluation -------------------------------------------------------------------------------------------------


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, list[np.ndarray | None]]:
    """Three normal images and four anomalous ones, one of which has no mask and one an empty one."""
    generator = np.random.default_rng(0)
    labels, maps = np.repeat([0, 1], (3, 4)), generator.normal(size=(7, 30, 30)).astype(np.float32)
    masks: list[np.ndarray | None] = [None] * 5 + [np.zeros((30, 30), dtype=bool) for _ in range(2)]
    masks[3] = np.zeros((30, 30), dtype=bool)
    masks[3][4:9, 4:9], masks[6][10:20, 3:6] = True, True
    maps[3][masks[3]] += 2
    maps[6][masks[6]] += 3
    return labels, maps, masks


def test_one_value_per_anomalous_image_and_their_mean_and_percentiles(case) -> None:
    labels, maps, masks = case
    result = evaluate(labels, maps.max((1, 2)), maps, masks, aupimo_bounds=BOUNDS)
    full = np.stack([np.zeros((30, 30), bool) if mask is None else mask for mask in masks])
    expected = literal_aupimo(maps, full, maps[:3], BOUNDS)
    np.testing.assert_allclose(result.per_image["aupimo"], expected, atol=1e-6)
    assert np.flatnonzero(~np.isnan(expected)).tolist() == [3, 6]
    assert result.values["aupimo"] == pytest.approx(np.nanmean(expected), abs=1e-9)
    for percent in (10, 33, 50):
        assert result.values[f"aupimo_p{percent}"] == pytest.approx(np.nanpercentile(expected, percent))


def test_normal_pixels_of_anomalous_images_do_not_count(case) -> None:
    labels, maps, masks = case
    value = evaluate(labels, maps.max((1, 2)), maps, masks, aupimo_bounds=BOUNDS).values["aupimo"]
    maps[3][~masks[3]] += 100
    assert evaluate(labels, maps.max((1, 2)), maps, masks, aupimo_bounds=BOUNDS).values["aupimo"] == value


def test_only_pixels_inside_the_region_of_interest_count(case) -> None:
    labels, maps, masks = case
    roi_masks = np.zeros(maps.shape, dtype=bool)
    roi_masks[:, 2:28, 2:15] = True
    found = evaluate(labels, maps.max((1, 2)), maps, masks, roi_masks=roi_masks, aupimo_bounds=BOUNDS)
    cut = np.s_[2:28, 2:15]
    cut_masks = [None if mask is None else mask[cut] for mask in masks]
    expected = evaluate(labels, maps.max((1, 2)), maps[(slice(None), *cut)], cut_masks, aupimo_bounds=BOUNDS)
    np.testing.assert_array_equal(found.per_image["aupimo"], expected.per_image["aupimo"])


def test_too_few_normal_pixels_leave_it_empty_with_a_note(case) -> None:
    labels, maps, masks = case
    result = evaluate(labels, maps.max((1, 2)), maps, masks)
    assert all(math.isnan(result.values[name]) for name in METRICS if name.startswith("aupimo"))
    assert result.per_image == {}
    [note] = [note for note in result.notes if "AUPIMO" in note]
    assert note == (
        "AUPIMO is undefined: normal test images have 2,700 pixels, and a false positive rate of 1e-05 takes 1,000,000"
    )


def test_a_million_pixels_are_enough() -> None:
    assert NormalTail.of([np.zeros(999_999, dtype=np.float32)]).sufficient is False
    assert NormalTail.of([np.zeros(1_000_000, dtype=np.float32)]).sufficient is True


def test_all_images_normal_or_all_anomalous(case) -> None:
    labels, maps, masks = case
    for chosen in (labels == 0, labels == 1):
        some = [mask for mask, taken in zip(masks, chosen, strict=True) if taken]
        result = evaluate(labels[chosen], maps[chosen].max((1, 2)), maps[chosen], some, aupimo_bounds=BOUNDS)
        assert math.isnan(result.values["aupimo"])
