"""One call gives all metrics, and says in words which are undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from padim_zoo.core.errors import InputError
from padim_zoo.metrics import METRICS, EvaluationResult, aupro, evaluate, rank_pixels

SIZE = (6, 5)
NAMES = {
    *METRICS,
    *("image_f1_threshold", "pixel_f1_threshold", "pixel_threshold"),
    *("region_area_25", "region_area_50", "region_area_75"),
}
HELD_OUT = "no normal image was held out: the pixel threshold is that of the normal test images"
FEW_PIXELS = (
    "AUPIMO is undefined: normal test images have 60 pixels, and a false positive rate of 1e-05 takes 1,000,000"
)
USUAL = [FEW_PIXELS, HELD_OUT]
"""Notes on small test sets without a pixel threshold."""


@pytest.fixture
def labels() -> np.ndarray:
    return np.array([0, 0, 1, 1, 1])


@pytest.fixture
def scores() -> np.ndarray:
    return np.array([0.1, 0.5, 0.4, 0.5, 0.9], dtype=np.float32)


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(0).random((5, *SIZE), dtype=np.float32)


@pytest.fixture
def masks(labels: np.ndarray) -> list[np.ndarray | None]:
    generator = np.random.default_rng(1)
    return [generator.random(SIZE) < 0.3 if label else None for label in labels]


def same(a: EvaluationResult, b: EvaluationResult) -> bool:
    """Whether all values and notes agree; what is undefined in both does."""
    return a.notes == b.notes and a.values == pytest.approx(b.values, nan_ok=True, rel=0, abs=0)


def undefined(result: EvaluationResult) -> set[str]:
    return {name for name, value in result.values.items() if math.isnan(value)}


IMAGE_METRICS = {name for name, metric in METRICS.items() if metric.level == "image"} | {"image_f1_threshold"}
PIXEL_METRICS = NAMES - IMAGE_METRICS
NEVER = {name for name in NAMES if name.startswith(("spro", "aupimo", "class"))}
"""What small test sets without thresholds lack."""


def test_all_metrics_together(labels, scores, maps, masks) -> None:
    result = evaluate(labels, scores, maps, masks)
    truth = np.stack([np.zeros(SIZE, bool) if mask is None else mask for mask in masks])
    assert result.notes == USUAL
    assert set(result.values) == NAMES
    assert undefined(result) == NEVER
    expected = {
        "image_auroc": roc_auc_score(labels, scores),
        "image_ap": average_precision_score(labels, scores),
        "image_f1": 6 / 7,
        "image_f1_threshold": 0.25,
        "pixel_auroc": roc_auc_score(truth.ravel(), maps.ravel()),
        "pixel_ap": average_precision_score(truth.ravel(), maps.ravel()),
        "aupro": aupro(*rank_pixels(maps, truth), limit=0.3),
        "aupro_05": aupro(*rank_pixels(maps, truth), limit=0.05),
    }
    assert {name: result.values[name] for name in expected} == pytest.approx(expected)
    called = maps > result.values["pixel_f1_threshold"]
    assert result.values["pixel_f1"] == pytest.approx(2 * (called & truth).sum() / (called.sum() + truth.sum()))


def test_masks_of_normal_images_may_be_given_or_not(labels, scores, maps, masks) -> None:
    given = [np.zeros(SIZE, bool) if mask is None else mask for mask in masks]
    assert same(evaluate(labels, scores, maps, given), evaluate(labels, scores, maps, masks))


def test_masks_may_be_0_and_255(labels, scores, maps, masks) -> None:
    given = [None if mask is None else mask.astype(np.uint8) * 255 for mask in masks]
    assert same(evaluate(labels, scores, maps, given), evaluate(labels, scores, maps, masks))


def test_masks_may_number_their_regions(labels, scores, maps, masks) -> None:
    numbered = [None if mask is None else ndimage.label(mask, np.ones((3, 3)))[0].astype(np.int32) for mask in masks]
    assert same(evaluate(labels, scores, maps, numbered), evaluate(labels, scores, maps, masks))
    one_each = [None if mask is None else mask.astype(np.int32) for mask in masks]
    values = evaluate(labels, scores, maps, one_each).values
    assert values["region_area_50"] == np.median([mask.sum() for mask in masks if mask is not None])


def test_without_maps_the_pixel_metrics_are_undefined(labels, scores) -> None:
    result = evaluate(labels, scores)
    assert undefined(result) == PIXEL_METRICS | {"class_f1"}
    assert result.notes == ["the pixel metrics are undefined: there are no anomaly maps"]


def test_anomalous_images_without_a_mask_are_left_out_of_the_pixel_metrics(labels, scores, maps, masks) -> None:
    some = [*masks[:2], None, *masks[3:]]
    result = evaluate(labels, scores, maps, some)
    assert result.notes == ["1 of 3 anomalous images have no mask and are left out of the pixel metrics", *USUAL]
    rest = np.array([0, 1, 3, 4])
    without = evaluate(labels[rest], scores[rest], maps[rest], [some[image] for image in rest]).values
    defined = PIXEL_METRICS - NEVER
    assert {name: result.values[name] for name in defined} == {name: without[name] for name in defined}
    assert result.values["image_auroc"] == evaluate(labels, scores).values["image_auroc"]


def test_no_mask_at_all(labels, scores, maps) -> None:
    result = evaluate(labels, scores, maps)
    assert undefined(result) == PIXEL_METRICS | {"class_f1"}
    assert result.notes == [
        "3 of 3 anomalous images have no mask and are left out of the pixel metrics",
        "the pixel metrics are undefined: no anomalous pixel",
    ]


def test_without_masks_normal_images_tell_their_false_alarms(labels, scores, maps) -> None:
    result = evaluate(labels, scores, maps, pixel_threshold=0.5)
    assert undefined(result) == (PIXEL_METRICS | {"class_f1"}) - {"pixel_false_alarms", "pixel_threshold"}
    assert result.values["pixel_false_alarms"] == (maps[np.asarray(labels) == 0] > 0.5).mean()


def test_an_empty_mask_keeps_its_image_and_is_noted(labels, scores, maps, masks) -> None:
    masks[4] = np.zeros(SIZE, dtype=bool)
    result = evaluate(labels, scores, maps, masks)
    assert result.notes == ["the masks of 1 of 3 anomalous images are empty: all their pixels count as normal", *USUAL]
    truth = np.stack([np.zeros(SIZE, bool) if mask is None else mask for mask in masks])
    assert result.values["pixel_auroc"] == pytest.approx(roc_auc_score(truth.ravel(), maps.ravel()))
    assert result.values["image_auroc"] == evaluate(labels, scores).values["image_auroc"]


@pytest.mark.parametrize(("kept", "absent"), [(0, "anomalous"), (1, "normal")])
def test_one_kind_of_image_only(labels, scores, maps, masks, kept: int, absent: str) -> None:
    only = np.flatnonzero(labels == kept)
    result = evaluate(labels[only], scores[only], maps[only], [masks[image] for image in only])
    assert undefined(result) >= IMAGE_METRICS
    assert result.notes[0] == f"the image metrics are undefined: no {absent} image"
    # Anomalous images have normal pixels, normal images have no anomalous ones.
    of_normal_images = {name for name, metric in METRICS.items() if metric.decided_by == "pixel threshold"}
    of_normal_images |= {"pixel_threshold", *NEVER}
    assert undefined(result) == (IMAGE_METRICS | of_normal_images if kept else NAMES)


def test_normal_images_alone_tell_their_false_alarms(labels, scores, maps) -> None:
    """A pixel threshold from elsewhere needs no anomalous image for its price."""
    values = evaluate(labels[:2], scores[:2], maps[:2], pixel_threshold=0.5).values
    assert values["pixel_false_alarms"] == (maps[:2] > 0.5).mean()


def test_no_image_at_all() -> None:
    result = evaluate(np.array([]), np.array([]), np.empty((0, 4, 4)), [])
    assert undefined(result) == NAMES
    assert len(result.notes) == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(labels, scores, maps, masks, bad: float) -> None:
    spoilt = scores.copy()
    spoilt[3] = bad
    with pytest.raises(InputError, match=r"scores of 1 of 5 images, the first at index 3, hold NaN or infinity"):
        evaluate(labels, spoilt)
    maps[2, 1, 1] = bad
    with pytest.raises(InputError, match=r"anomaly maps of 1 of 5 images, the first at index 2, hold NaN or infinity"):
        evaluate(labels, scores, maps, masks)


def test_inputs_that_do_not_fit_are_refused(labels, scores, maps, masks) -> None:
    with pytest.raises(InputError, match=r"scores of shape \(4,\) do not fit 5 images"):
        evaluate(labels, scores[:4])
    with pytest.raises(InputError, match=r"maps of shape \(5, 30\) do not fit 5 images"):
        evaluate(labels, scores, maps.reshape(5, -1), masks)
    with pytest.raises(InputError, match="4 masks do not fit 5"):
        evaluate(labels, scores, maps, masks[:4])
    with pytest.raises(InputError, match="expected one row of 0"):
        evaluate(labels + 1, scores)
    with pytest.raises(InputError, match=r"mask of image 2 has shape \(5, 6\)"):
        evaluate(labels, scores, maps, [None if mask is None else mask.T for mask in masks])
    with pytest.raises(InputError, match="image 0 is labeled normal, and its mask marks 30 pixels"):
        evaluate(labels, scores, maps, [np.ones(SIZE, bool), *masks[1:]])
    with pytest.raises(InputError, match="mask of image 2 has the region -1"):
        evaluate(labels, scores, maps, [None, None, np.full(SIZE, -1), *masks[3:]])
    with pytest.raises(InputError, match="AUPIMO bounds"):
        evaluate(labels, scores, maps, masks, aupimo_bounds=(0.1, 0.05))


def test_inputs_are_left_unchanged(labels, scores, maps, masks) -> None:
    before = [array.copy() for array in (labels, scores, maps, masks[2])]
    evaluate(labels, scores, maps, masks)
    for array, copy in zip((labels, scores, maps, masks[2]), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_integer_and_half_precision_scores_count_by_value(labels, maps, masks) -> None:
    integers = np.array([1, 5, 4, 5, 9])
    coarse = maps.astype(np.float16)
    by_value = evaluate(labels, integers.astype(np.float64), coarse.astype(np.float64), masks)
    assert same(evaluate(labels, integers, coarse, masks), by_value)
