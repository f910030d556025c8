"""AUPRO against a literal loop over thresholds and defects."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from padim_zoo.core.errors import InputError
from padim_zoo.metrics import aupro, auroc, precision_curve, pro_curve, rank_pixels, spro

LIMITS = st.sampled_from([0.01, 0.05, 0.3, 0.5, 1.0]) | st.floats(0.01, 1)


def defects(mask: np.ndarray) -> list[np.ndarray]:
    """The 8-connected components of a mask by flood fill, one mask each."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found = []
    while left:
        component = np.zeros_like(mask)
        front = [left.pop()]
        while front:
            row, column = front.pop()
            component[row, column] = True
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(component)
    return found


def literal_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """One point of the curve per distinct score, then the trapezoidal rule up to the limit."""
    region_ids = [(image, defect) for image, mask in enumerate(masks) for defect in defects(mask)]
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        called = maps >= threshold
        overlaps = [called[image][defect].mean() for image, defect in region_ids]
        curve.append((float(called[~masks].mean()), float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + at_limit) / 2
    return area / limit


@st.composite
def labeled_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A few small maps, heavily tied or not at all, and masks with both kinds of pixel."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7)))
    elements = draw(
        st.sampled_from([st.integers(0, 3).map(float), st.floats(-1, 1, width=32)]),
    )
    maps = draw(hnp.arrays(np.float32, shape, elements=elements))
    masks = draw(hnp.arrays(np.bool_, shape))
    masks[0, 0, 0], masks[0, -1, -1] = True, False
    return maps, masks


@settings(deadline=None)
@given(labeled_maps(), LIMITS)
def test_aupro_equals_the_literal_loop(test_set: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = test_set
    found = aupro(*rank_pixels(maps, masks), limit=limit)
    assert found == pytest.approx(literal_aupro(maps, masks, limit), abs=1e-9)
    assert 0 <= found <= 1


@settings(deadline=None)
@given(labeled_maps())
def test_pixels_are_counted_as_by_boolean_indexing(test_set: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = test_set
    ranking, regions = rank_pixels(maps, masks)
    np.testing.assert_array_equal(np.concatenate(ranking.normal.blocks), np.sort(maps[~masks]))
    np.testing.assert_array_equal(ranking.anomalous, np.sort(maps[masks]))
    sizes = sorted((image, int(defect.sum())) for image, mask in enumerate(masks) for defect in defects(mask))
    assert sorted(zip(regions.images.tolist(), regions.areas.tolist(), strict=True)) == sizes


@settings(deadline=None)
@given(labeled_maps(), LIMITS)
def test_only_the_order_of_scores_counts(test_set: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = test_set
    places = np.unique(maps, return_inverse=True)[1].reshape(maps.shape).astype(np.float64)
    assert aupro(*rank_pixels(maps, masks), limit=limit) == aupro(*rank_pixels(places**3 - 5, masks), limit=limit)


@settings(deadline=None)
@given(labeled_maps())
def test_with_defects_of_one_pixel_the_whole_area_is_pixel_auroc(test_set: tuple[np.ndarray, np.ndarray]) -> None:
    maps, _ = test_set
    masks = np.zeros(maps.shape, dtype=bool)
    masks[:, ::2, ::2] = True
    ranking, regions = rank_pixels(maps, masks)
    assert len(regions.images) == masks.sum()
    assert aupro(ranking, regions, limit=1) == pytest.approx(auroc(ranking), abs=1e-12)


def test_every_defect_weighs_the_same() -> None:
    scores = np.zeros((1, 10, 10), dtype=np.float32)
    mask = np.zeros((1, 10, 10), dtype=bool)
    mask[0, :6, :6] = True  # 36 pixels, found
    mask[0, 9, 9] = True  # 1 pixel, scored below everything
    scores[mask] = 1
    scores[0, 9, 9] = -1
    assert aupro(*rank_pixels(scores, mask)) == 0.5


def test_diagonal_neighbors_are_one_defect() -> None:
    mask = np.eye(4, dtype=bool)[None]
    _, regions = rank_pixels(np.zeros((1, 4, 4), dtype=np.float32), mask)
    assert regions.ids.tolist() == [0, 0, 0, 0]


def test_a_constant_map_climbs_linearly() -> None:
    mask = np.eye(4, dtype=bool)[None]
    ranked = rank_pixels(np.full((1, 4, 4), 7, dtype=np.float32), mask)
    for limit in (0.1, 0.3, 1.0):
        assert aupro(*ranked, limit=limit) == pytest.approx(limit / 2)


def test_a_perfect_map_scores_exactly_one() -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((5, 40, 40)) < 0.1
    assert aupro(*rank_pixels(masks + generator.random(masks.shape) / 2, masks)) == 1


@pytest.mark.parametrize("fill", [False, True])
def test_aupro_without_a_kind_of_pixel_is_nan(fill: bool) -> None:
    ranked = rank_pixels(np.zeros((2, 3, 3), dtype=np.float32), np.full((2, 3, 3), fill))
    assert math.isnan(aupro(*ranked))


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, math.nan])
def test_a_limit_that_is_no_rate_is_refused(limit: float) -> None:
    ranked = rank_pixels(np.zeros((1, 2, 2), dtype=np.float32), np.eye(2, dtype=bool)[None])
    with pytest.raises(InputError, match="AUPRO limit"):
        aupro(*ranked, limit=limit)


def literal_curve(maps: np.ndarray, masks: np.ndarray, rate: float) -> float:
    """One point per distinct score, joined by straight lines; the upper one of two at one place."""
    region_ids = [(image, defect) for image, mask in enumerate(masks) for defect in defects(mask)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        called = maps >= threshold
        overlaps = [called[image][defect].mean() for image, defect in region_ids]
        points.append((float(called[~masks].mean()), float(np.mean(overlaps))))
    x0, y0 = [(x, y) for x, y in points if x <= rate][-1]
    right = [(x, y) for x, y in points if x > rate]
    if not right:
        return y0
    x1, y1 = right[0]
    return y0 + (y1 - y0) * (rate - x0) / (x1 - x0)


@settings(deadline=None)
@given(
    labeled_maps(),
    st.lists(st.integers(0, 16).map(lambda share: share / 16), min_size=1, max_size=4),
)
def test_the_curve_equals_the_literal_loop(test_set: tuple[np.ndarray, np.ndarray], rates: list[float]) -> None:
    maps, masks = test_set
    ranking, regions = rank_pixels(maps, masks)
    # In the middle between counts too, where rounding cannot move a rate over a step.
    asked = [*rates, *((np.arange(len(ranking.normal)) + 0.5) / len(ranking.normal))]
    found = pro_curve(ranking, regions, np.array(asked))
    for rate, share in zip(asked, found, strict=True):
        assert share == pytest.approx(literal_curve(maps, masks, rate), abs=1e-9)


@settings(deadline=None)
@given(labeled_maps())
def test_precision_at_a_recall_is_that_of_a_threshold(test_set: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = test_set
    ranking, _ = rank_pixels(maps, masks)
    for recall in (0.0, 0.1, 0.5, 1.0):
        reached = [
            (float(masks[maps >= threshold].mean()))
            for threshold in sorted(set(maps.ravel().tolist()), reverse=True)
            if masks[maps >= threshold].sum() >= max(1, math.ceil(recall * masks.sum()))
        ]
        assert precision_curve(ranking, np.array([recall]))[0] == pytest.approx(reached[0])


# -- regions that the mask numbers ------------------------------------------------------------------------------------


def numbered(masks: np.ndarray) -> np.ndarray:
    """The masks with their components as labels, in an order of its own and with gaps."""
    labels = np.zeros(masks.shape, dtype=np.int32)
    for image, mask in enumerate(masks):
        for number, defect in enumerate(defects(mask)):
            labels[image][defect] = 7 - number if number < 7 else number + 1
    return labels


@settings(deadline=None)
@given(labeled_maps(), LIMITS)
def test_labels_of_components_are_as_the_mask(test_set: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = test_set
    expected = aupro(*rank_pixels(maps, masks), limit=limit)
    assert aupro(*rank_pixels(maps, numbered(masks)), limit=limit) == pytest.approx(expected, abs=1e-12)


def test_touching_regions_differ_and_one_may_have_several_parts() -> None:
    scores = np.array([[[3, 2, 1, 0, 0, 0]]], dtype=np.float32)
    labels = np.array([[[1, 2, 2, 0, 0, 1]]], dtype=np.int32)
    ranking, regions = rank_pixels(scores, labels)
    assert sorted(regions.areas.tolist()) == [2, 2]
    # Region 2 is found before any normal pixel; half of region 1 is level with all of them.
    assert aupro(ranking, regions, limit=1) == pytest.approx((1 + (1 + 0.5) / 2) / 2)


def test_labels_outside_the_region_of_interest_are_left_out() -> None:
    scores = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    labels = np.array([[[1, 1, 0, 0, 3, 3]]], dtype=np.int32)
    _, regions = rank_pixels(scores, labels, [np.array([[True, False, True, True, False, False]])])
    assert regions.areas.tolist() == [1]
    assert regions.images.tolist() == [0]


# -- saturation -------------------------------------------------------------------------------------------------------


def literal_spro(maps: np.ndarray, labels: np.ndarray, shares: list[np.ndarray], limit: float) -> float:
    """One point per distinct score: the mean of min(found pixels / saturation area, 1); then trapezoids."""
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        called = maps >= threshold
        overlaps = []
        for image, of_image in enumerate(labels):
            for number in np.unique(of_image[of_image > 0]):
                area = (of_image == number).sum()
                found = called[image][of_image == number].sum()
                overlaps.append(min(found / (shares[image][number - 1] * area), 1.0))
        curve.append((float(called[labels == 0].mean()), float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            area += (limit - x0) * (2 * y0 + (y1 - y0) * (limit - x0) / (x1 - x0)) / 2
    return area / limit


@settings(deadline=None)
@given(labeled_maps(), LIMITS, st.integers(0, 1000))
def test_spro_equals_the_literal_loop(test_set: tuple[np.ndarray, np.ndarray], limit: float, seed: int) -> None:
    maps, masks = test_set
    labels = numbered(masks)
    shares = [np.random.default_rng(seed).uniform(0.05, 1, labels.max()) for _ in labels]
    found = spro(*rank_pixels(maps, labels, None, shares), limit=limit)
    assert found == pytest.approx(literal_spro(maps, labels, shares, limit), abs=1e-9)


@settings(deadline=None)
@given(labeled_maps(), LIMITS)
def test_spro_that_needs_all_pixels_is_aupro(test_set: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = test_set
    labels = numbered(masks)
    ranked = rank_pixels(maps, labels, None, [np.ones(labels.max())] * len(labels))
    assert spro(*ranked, limit=limit) == pytest.approx(aupro(*ranked, limit=limit), abs=1e-12)


def test_spro_without_saturation_thresholds_is_undefined() -> None:
    ranked = rank_pixels(np.zeros((1, 2, 2), dtype=np.float32), np.eye(2, dtype=np.int32)[None])
    assert math.isnan(spro(*ranked, limit=0.05))
