"""What a threshold does, against counting; and which threshold decides what."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score

from padim_zoo.metrics import (
    METRICS,
    evaluate,
    evaluate_decisions,
    f1_at,
    false_positive_rate_at,
    pixel_threshold,
    rank,
)

SCORES = hnp.arrays(np.float32, st.integers(1, 25), elements=st.integers(0, 4).map(float) | st.floats(-1, 1, width=32))


@given(SCORES, SCORES, st.integers(0, 4).map(float) | st.floats(-2, 2))
def test_f1_and_false_positives_by_counting(normal: np.ndarray, anomalous: np.ndarray, threshold: float) -> None:
    ranking = rank(normal, anomalous)
    truth = np.repeat([0, 1], [len(normal), len(anomalous)])
    called = np.concatenate([normal > threshold, anomalous > threshold])
    assert f1_at(ranking, threshold) == pytest.approx(f1_score(truth, called))
    assert false_positive_rate_at(ranking, threshold) == (normal > threshold).mean()


def test_no_threshold_or_no_items_is_nan() -> None:
    some, none = np.ones(3, np.float32), np.empty(0, np.float32)
    assert math.isnan(f1_at(rank(some, some), math.nan))
    assert math.isnan(f1_at(rank(none, some), 0.5))
    assert math.isnan(false_positive_rate_at(rank(some, some), math.nan))
    assert math.isnan(false_positive_rate_at(rank(none, some), 0.5))
    assert math.isnan(pixel_threshold([]))


def test_the_pixel_threshold_is_the_percentile_of_all_pixels_together() -> None:
    images = [np.random.default_rng(seed).normal(size=shape) for seed, shape in enumerate([(30, 40), (900,)])]
    together = np.concatenate([image.ravel() for image in images])
    assert pixel_threshold(images) == pytest.approx(np.percentile(together, 99.9))


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray | None]]:
    generator = np.random.default_rng(2)
    labels, maps = np.repeat([0, 1], (5, 6)), generator.normal(size=(11, 20, 20)).astype(np.float32)
    masks: list[np.ndarray | None] = [None] * 5 + [np.zeros((20, 20), dtype=bool) for _ in range(6)]
    for image in range(5, 11):
        masks[image][4:8, 2 : image + 2] = True
        maps[image][masks[image]] += 2
    return labels, maps.mean((1, 2)), maps, masks


def test_each_threshold_decides_its_own_metrics(case) -> None:
    labels, scores, maps, masks = case
    truth = np.stack([np.zeros((20, 20), bool) if mask is None else mask for mask in masks])

    def values(image: float, pixel: float) -> dict[str, float]:
        return evaluate(labels, scores, maps, masks, image_threshold=image, pixel_threshold=pixel).values

    found = values(0.05, 1.5)
    assert found["class_f1"] == pytest.approx(f1_score(labels, scores > 0.05))
    assert found["seg_f1"] == pytest.approx(f1_score(truth.ravel(), (maps > 1.5).ravel()))
    assert found["pixel_false_alarms"] == pytest.approx((maps > 1.5)[~truth].mean())
    assert found["pixel_threshold"] == 1.5
    assert found["class_f1"] <= found["image_f1"]
    assert found["seg_f1"] <= found["pixel_f1"]
    for moved, threshold in ((values(-0.065, 1.5), "image threshold"), (values(0.05, 2.5), "pixel threshold")):
        changed = {name for name in METRICS if not np.array_equal(moved[name], found[name], equal_nan=True)}
        assert changed
        assert {METRICS[name].decided_by for name in changed} == {threshold}


def test_decisions_on_images_can_be_told_afterwards(case) -> None:
    labels, scores, maps, masks = case
    at_once = evaluate(labels, scores, maps, masks, image_threshold=0.05).values
    assert evaluate_decisions(labels, scores, 0.05) == {"class_f1": at_once["class_f1"]}


def test_without_thresholds_normal_test_images_set_that_of_pixels_and_a_note_says_so(case) -> None:
    labels, scores, maps, masks = case
    result = evaluate(labels, scores, maps, masks)
    assert math.isnan(result.values["class_f1"])
    assert result.values["pixel_threshold"] == pytest.approx(np.percentile(maps[:5], 99.9))
    assert "no normal image was held out: the pixel threshold is that of the normal test images" in result.notes
    assert not any("held out" in note for note in evaluate(labels, scores, maps, masks, pixel_threshold=1.0).notes)


def test_inside_a_region_of_interest(case) -> None:
    labels, scores, maps, masks = case
    roi_masks = np.zeros(maps.shape, dtype=bool)
    roi_masks[:, 3:18, :12] = True
    truth = np.stack([np.zeros((20, 20), bool) if mask is None else mask for mask in masks])
    values = evaluate(labels, scores, maps, masks, roi_masks=roi_masks).values
    assert values["pixel_threshold"] == pytest.approx(np.percentile(maps[:5][roi_masks[:5]], 99.9))
    called = maps > np.float32(values["pixel_threshold"])
    assert values["seg_f1"] == pytest.approx(f1_score(truth[roi_masks], called[roi_masks]))
