"""The thresholds of a run come from normal images that its fits have not seen."""

from __future__ import annotations

import math

import pytest
from sklearn.metrics import f1_score

from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import Document, RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.data.synthetic import generate
from padim_zoo.metrics import conformal_threshold

HELD_OUT = "no normal image was held out"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunStore]:
    """Run stores of PaDiM, one that needs folds for a threshold, and one without maps, by their number of folds."""
    root = tmp_path_factory.mktemp("data")
    generate(root / "images", categories=["gear"], train=10, good=4, defects_per_kind=1, size=64)
    stores = {}
    for folds in (1, 2):
        settings = {"data_root": str(root / "images"), "resize": "64", "crop": "none", "cache": False}
        settings |= {"folds": folds, "detectors": "padim,patchcore,mahalanobis-ad", "estimators": "full"}
        suite = Suite.from_settings(settings, {"output": str(root / f"runs{folds}")})
        stores[folds] = RunStore(suite.output)
        list(execute(suite, find_missing(make_plan(suite), stores[folds]), stores[folds]))
    return stores


def document_of(store: RunStore, detector: str) -> Document:
    [document] = [one for one in store.read_done() if one["config"]["detector"] == detector]
    return document


@pytest.mark.parametrize(("folds", "detector"), [(1, "padim"), (2, "padim"), (2, "patchcore"), (2, "mahalanobis-ad")])
def test_the_image_threshold_decides_class_f1_in_each_fold(
    stores: dict[int, RunStore], folds: int, detector: str
) -> None:
    document = document_of(stores[folds], detector)
    arrays = stores[folds].scores(document["id"])
    for values, scores in zip(document["folds"], arrays["scores"], strict=True):
        called = scores > document["threshold"]["threshold"]
        assert values["class_f1"] == pytest.approx(f1_score(arrays["labels"], called))
        assert values["class_f1"] <= values["image_f1"]


def test_each_fold_has_a_pixel_threshold_of_its_own(stores: dict[int, RunStore]) -> None:
    document = document_of(stores[2], "padim")
    first, second = (values["pixel_threshold"] for values in document["folds"])
    assert first != second
    assert all(0 <= values["seg_f1"] <= values["pixel_f1"] for values in document["folds"])
    assert not any(HELD_OUT in note for note in document["notes"])


def test_one_fold_of_padim_has_thresholds_of_its_one_pass_folds(stores: dict[int, RunStore]) -> None:
    document = document_of(stores[1], "padim")
    [values] = document["folds"]
    arrays = stores[1].scores(document["id"])
    promised = document["threshold"]["promised_false_alarms"]
    assert document["threshold"]["threshold"] == conformal_threshold(arrays["out_of_fold_scores"], promised)
    assert values["seg_f1"] > 0
    assert not any(HELD_OUT in note for note in document["notes"])


def test_one_fold_without_out_of_fold_scores_has_a_note_on_its_pixel_threshold(stores: dict[int, RunStore]) -> None:
    document = document_of(stores[1], "patchcore")
    assert not document["threshold"]
    [values] = document["folds"]
    assert math.isnan(values["class_f1"])
    assert values["seg_f1"] > 0
    assert any(HELD_OUT in note for note in document["notes"])


def test_a_detector_without_maps_has_no_pixel_threshold(stores: dict[int, RunStore]) -> None:
    for folds in (1, 2):
        assert all(math.isnan(one["pixel_threshold"]) for one in document_of(stores[folds], "mahalanobis-ad")["folds"])
