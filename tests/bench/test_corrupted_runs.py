"""Corrupted test images in a benchmark: rates of a fit outside of it, cached, recorded, in the leaderboard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from padim_zoo import InputError, PaDiM
from padim_zoo.bench.corruption_table import corruption_table
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.robustness import NEEDS_THRESHOLD
from padim_zoo.bench.suite import Suite
from padim_zoo.data.corruptions import parse_corruptions
from padim_zoo.data.image import read_image
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.held_out import split_folds
from padim_zoo.report.commands import reproducing_command

CORRUPTIONS = "blur(1,3),brightness(0.3),rotate(5)"


@pytest.fixture
def suite(gear_suite: Suite) -> Suite:
    return gear_suite.replace(corruptions=CORRUPTIONS)


@pytest.mark.parametrize("detector", ["padim", "mahalanobis-ad"])
def test_rates_are_those_of_a_fit_outside_of_a_benchmark(suite, run_suite, detector):
    """Of images that were corrupted by hand: resized, corrupted, cropped, and given as arrays."""
    [document] = run_suite(suite, detectors=(detector,))
    category = suite.open_dataset().load("gear")
    train = [sample.path for sample in category.train]
    if detector == "padim":
        fitted = PaDiM("builtin", n_components=20, resize=None, crop=None)
        whole = Transform(56, 48)
        last = split_folds(9, 3, 0)[-1]
        fitted.fit(
            [whole.cropped(whole.resized(read_image(path))) for index, path in enumerate(train) if index not in last]
        )
        labels = np.array([sample.label for sample in category.test])
        for row, corruption in zip(document["corruptions"][1:], parse_corruptions("", CORRUPTIONS), strict=True):
            assert (row["corruption"], row["amount"]) == (corruption.name, corruption.amount)
            pixels = [
                whole.cropped(corruption.apply(whole.resized(read_image(sample.path)))) for sample in category.test
            ]
            scores = fitted.predict(pixels).scores
            called = scores > document["threshold"]["threshold"]
            assert row["detections"] == pytest.approx(called[labels == 1].mean())
            assert row["false_alarms"] == pytest.approx(called[labels == 0].mean())
            assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)
    clean, *corrupted = document["corruptions"]
    assert clean["corruption"] is None
    assert len(corrupted) == 4
    assert document["threshold"]["worst_false_alarms"] == max(row["false_alarms"] for row in corrupted)
    assert document["threshold"]["worst_detections"] == min(row["detections"] for row in corrupted)
    [run] = leaderboard([document]).to_dict("records")
    assert run["worst_detections"] == document["threshold"]["worst_detections"]
    assert run["corruptions"] == "blur(1,3),brightness(0.3),rotate(5)"
    assert f"--corruptions '{CORRUPTIONS}'" in reproducing_command(document)


def test_other_results_are_those_without_corruptions(suite, run_suite):
    [with_them] = run_suite(suite)
    [without] = run_suite(suite, corruptions=None)
    assert with_them["id"] != without["id"]
    assert with_them["folds"] == without["folds"]
    assert without["corruptions"] == []
    assert math.isnan(leaderboard([without])["worst_detections"][0])
    for name, value in without["threshold"].items():
        assert with_them["threshold"][name] == value


def test_the_table_has_a_row_for_each_run_and_amount(suite, run_suite):
    documents = run_suite(suite, estimators=("full", "diagonal"))
    [without] = run_suite(suite, corruptions=None)
    table = corruption_table([*documents, without])
    assert list(table["corruption"]) == 2 * ["none", "blur(1)", "blur(3)", "brightness(0.3)", "rotate(5)"]
    assert set(table["estimator"]) == {"full", "diagonal"}
    for document in documents:
        rows = table[table["id"] == document["id"]]
        for name in ("false_alarms", "detections", "image_auroc"):
            assert list(rows[name]) == [part[name] for part in document["corruptions"]]
    with pytest.raises(InputError, match="no run has corrupted images"):
        corruption_table([without])


def test_features_are_cached_by_corruption(suite, run_suite, monkeypatch):
    [first] = run_suite(suite)
    calls = []
    original = PaDiM.extract
    monkeypatch.setattr(PaDiM, "extract", lambda self, images: calls.append(images) or original(self, images))
    [again] = run_suite(suite.replace(output=suite.output / "again"))
    assert not calls
    assert again["corruptions"] == first["corruptions"]
    run_suite(suite.replace(output=suite.output / "more"), corruptions="blur(1,2)")
    assert [str(images[0].corruption) for images in calls] == ["blur(2)"]


def test_without_a_threshold_a_note_says_what_to_do(suite, run_suite):
    [document] = run_suite(suite, folds=1)
    if not document["threshold"]:
        assert NEEDS_THRESHOLD in document["notes"]
        assert document["corruptions"] == []


def test_ensembles_and_regions_of_interest_are_corrupted_too(suite, run_suite, tmp_path):
    [*_, ensemble] = run_suite(suite, ensemble=("builtin:full+builtin:diagonal",))
    assert len(ensemble["corruptions"]) == 5
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:48, 16:48] = 255
    Image.fromarray(mask).save(tmp_path / "roi.png")
    [document] = run_suite(suite, roi=tmp_path / "roi.png", output=tmp_path / "roi")
    assert len(document["corruptions"]) == 5


def test_spellings_and_refusals(suite):
    same = suite.replace(corruptions=["blur(3, 1.0)", "brightness(0.30)", "rotate(5)"])
    assert make_plan(same).runs[0].id == make_plan(suite).runs[0].id
    assert suite.replace(corruptions="none").corruptions is None
    with pytest.raises(InputError, match="corruptions has 'fog"):
        suite.replace(corruptions="fog(1)")
