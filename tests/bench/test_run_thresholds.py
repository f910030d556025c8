"""Detections and false alarms of runs of one fold, against the threshold that `fit` sets."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from padim_zoo.bench.build import BackboneCache
from padim_zoo.bench.group_runner import NO_THRESHOLD, GroupRunner
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.table import BoardTable
from padim_zoo.bench.timed_fit import LatencyMeter
from padim_zoo.cache.caches import Caches
from padim_zoo.cli.table import print_table
from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import Category, Sample
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.patchcore import PatchCore


@pytest.fixture
def small(suite):
    return suite.replace(
        backbones=("builtin",), detectors=("padim",), resize=32, n_components=8, cache=False, gallery=False
    )


@pytest.mark.parametrize("n_components", [2, 12])
def test_the_threshold_is_the_one_that_fit_sets(run_suite, small, images, n_components):
    estimators = ("full", "oas", "ledoit-wolf", "shrinkage(shrinkage_intensity=0.3)")
    documents = run_suite(small, estimators=estimators, n_components=n_components, fpr=0.2)
    for document in documents:
        detector = PaDiM(estimator=document["config"]["estimator"], resize=32, crop=None, n_components=n_components)
        calibration = detector.fit(images / "alpha/train/good").calibrate(false_alarm_rate=0.2)
        arrays, at = RunStore(small.output).scores(document["id"]), document["threshold"]
        np.testing.assert_allclose(arrays["out_of_fold_scores"], calibration.scores, rtol=1e-4)
        assert at["threshold"] == pytest.approx(calibration.threshold, rel=1e-4)
        assert at["promised_false_alarms"] == 0.2
        labels, scores = arrays["labels"], arrays["scores"][0]
        assert at["detections"] == np.mean(scores[labels == 1] > at["threshold"])
        assert at["false_alarms"] == np.mean(scores[labels == 0] > at["threshold"])
        assert NO_THRESHOLD not in document["notes"]


def test_the_usual_rate_is_the_least_that_few_images_allow(run_suite, small):
    (document,) = run_suite(small)
    assert document["config"]["fpr"] is None
    assert document["threshold"]["promised_false_alarms"] == pytest.approx(1 / 10)


def test_a_rate_that_few_images_cannot_promise_leaves_the_columns_empty(run_suite, small):
    (document,) = run_suite(small, fpr=0.01)
    assert document["status"] == "done"
    assert document["threshold"] == {}
    assert document["notes"][-1] == (
        "no threshold: a false-alarm rate of 0.01 needs at least 99 normal images, found 9: use more images, or a rate "
        "of at least 0.1"
    )


def test_without_folds_from_one_pass_the_columns_are_empty_unless_folds_are_asked_for(run_suite, small):
    (document,) = run_suite(small, estimators=("diagonal",))
    assert document["threshold"] == {}
    assert NO_THRESHOLD in document["notes"]
    (document,) = run_suite(small, estimators=("diagonal",), folds=3)
    assert document["threshold"]["promised_false_alarms"] == pytest.approx(1 / 10)
    assert NO_THRESHOLD not in document["notes"]


@pytest.mark.parametrize("parameter", ["register='translation'", "trim_patches=0.2", "augment='flip'", "tta='flip'"])
def test_the_note_names_what_has_no_folds_from_one_pass(run_suite, small, parameter):
    (document,) = run_suite(small, detectors=(f"padim({parameter})",))
    assert document["threshold"] == {}
    (note,) = (note for note in document["notes"] if note.startswith("no threshold"))
    assert note == NO_THRESHOLD
    assert parameter.partition("=")[0] in note


def test_the_rate_is_part_of_a_run_where_it_is_given(run_suite, small):
    usual, asked = run_suite(small), run_suite(small, fpr=0.2)
    assert usual[0]["id"] != asked[0]["id"]
    assert usual[0]["folds"][0]["image_auroc"] == asked[0]["folds"][0]["image_auroc"]


@pytest.mark.parametrize("rate", ["1", "0", "-1", "nan", "some", 2])
def test_no_rate_is_refused(small, rate):
    """In the same words, whatever it is: not first for being negative, and then for being 0."""
    with pytest.raises(InputError, match=f"fpr is {rate}: expected a number above 0 and below 1, e.g. 0.05"):
        type(small)(fpr=rate)


def test_test_images_that_are_learned_are_left_out(run_suite, small, images, tmp_path):
    expected = run_suite(small)[0]
    for number in range(3):
        shutil.copy(images / f"alpha/train/good/00{number}.png", images / f"alpha/test/good/copy{number}.png")
    (document,) = run_suite(small, output=tmp_path / "with copies")
    assert "3 of 12 test images have the pixels of images to fit and are left out" in document["notes"]
    assert document["n_test"] == expected["n_test"]
    assert document["folds"][0] == pytest.approx(expected["folds"][0], nan_ok=True)


def test_a_category_whose_normal_images_are_all_learned_fails_by_itself(run_suite, small, images):
    shutil.rmtree(images / "alpha/test/good")
    shutil.copytree(images / "alpha/train/good", images / "alpha/test/good")
    documents = run_suite(small, categories=("alpha", "beta"))
    by_category = {document["config"]["category"]: document for document in documents}
    assert by_category["beta"]["status"] == "done"
    failed = by_category["alpha"]
    assert (failed["status"], failed["error"]["type"]) == ("failed", "InputError")
    assert "all 9 normal test images of alpha have the pixels of images to fit" in failed["error"]["message"]


def test_a_group_reads_no_image_before_its_first_run(small, images):
    sample = Sample(images / "alpha/train/good/000.png", 0)
    runner = GroupRunner(
        small, Category("mvtec", "alpha", (sample,), (sample,)), [], BackboneCache(), Caches(), LatencyMeter()
    )
    for _ in range(2):
        with pytest.raises(InputError, match="all 1 normal test images of alpha"):
            _ = runner.category


def test_the_table_shows_both_beside_auroc(run_suite, small, capsys):
    board = leaderboard(run_suite(small, estimators=("full", "diagonal"), fpr=0.2))
    print_table(BoardTable(board))
    printed = capsys.readouterr().out
    assert "detections" in printed
    assert "alarms" in printed


@pytest.mark.parametrize("detector", ["padim", "patchcore"])
def test_runs_with_maps_of_p_values_are_those_of_fit(run_suite, small, images, detector):
    detectors = {"padim": PaDiM, "patchcore": PatchCore}
    options = {"n_components": 8} if detector == "padim" else {}
    (document,) = run_suite(small, detectors=(detector,), estimators=("full",), map_values="p-value", fpr=0.2)
    assert document["config"]["map_values"] == "p-value"
    fitted = detectors[detector](resize=32, map_values="p-value", **options).fit(images / "alpha/train/good")
    calibration = fitted.calibrate(false_alarm_rate=0.2)
    arrays = RunStore(small.output).scores(document["id"])
    np.testing.assert_allclose(arrays["out_of_fold_scores"], calibration.scores, rtol=1e-3)
    assert document["threshold"]["threshold"] == pytest.approx(calibration.threshold, rel=1e-3)
    cells = [calibration.normal_maps.values_of_normal(image) for image in range(len(calibration.scores))]
    pixel_threshold = document["folds"][0]["pixel_threshold"]
    assert pixel_threshold == pytest.approx(np.quantile(np.stack(cells), 0.999), rel=1e-2)
