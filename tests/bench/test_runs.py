"""Runs against literal computations, and the rules of the grid: sharing, resuming, failing."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from padim_zoo import registry
from padim_zoo.bench.compare import compare_stores
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.measure import PeakMemory, milliseconds_per_image
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.data.image import read_image
from padim_zoo.metrics.confidence import bootstrap_interval
from padim_zoo.metrics.evaluation import evaluate
from padim_zoo.metrics.thresholds import pixel_threshold

FIGURES = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "pixel_f1", "aupro")


def literal_folds(toys, images, backbone, folds: int, seed: int = 0):
    """Every fold written out: fit on the rest, score the part and the test set."""
    folder = images / "alpha"
    train = [read_image(path) for path in sorted((folder / "train" / "good").iterdir())]
    test, labels, masks = [], [], []
    for kind in ("bright", "good"):
        for path in sorted((folder / "test" / kind).iterdir()):
            test.append(read_image(path))
            labels.append(int(kind == "bright"))
            truth = folder / "ground_truth" / kind / f"{path.stem}_mask.png"
            masks.append(read_image(truth)[..., 0] > 0 if labels[-1] else None)
    order = np.arange(len(train))
    np.random.RandomState(seed).shuffle(order)
    size, results = len(train) // folds, []
    held_out_maps = np.empty((len(train), *train[0].shape[:2]), dtype=np.float32)
    for fold in range(folds):
        part = order[fold * size : (fold + 1) * size]
        detector = toys.Toy(backbone).fit([train[i] for i in range(len(train)) if i not in part])
        for i in part:
            held_out_maps[i] = detector.predict([train[i]]).maps[0]
        results.append(detector.predict(test))
    return np.array(labels), masks, results, held_out_maps


def test_folds_are_those_of_a_literal_loop(run_suite, suite, images, toys):
    [document] = run_suite(suite, folds=3)
    labels, masks, results, held_out = literal_folds(toys, images, toys.toy_linear(), 3)
    order = np.arange(9)
    np.random.RandomState(0).shuffle(order)
    thresholds = [pixel_threshold(list(held_out[part])) for part in order.reshape(3, 3)]
    evaluations = [
        evaluate(labels, result.scores, result.maps, masks, pixel_threshold=threshold)
        for result, threshold in zip(results, thresholds, strict=True)
    ]
    expected = [evaluation.values for evaluation in evaluations]
    for found, values in zip(document["folds"], expected, strict=True):
        assert {name: found[name] for name in FIGURES} == pytest.approx({name: values[name] for name in FIGURES})
    arrays = RunStore(suite.output).scores(document["id"])
    np.testing.assert_array_equal(arrays["labels"], labels)
    np.testing.assert_allclose(arrays["scores"], [result.scores for result in results], rtol=1e-6)
    for name in ("pro", "pixel_roc", "pixel_pr"):
        curve = np.mean([evaluation.curves[name] for evaluation in evaluations], axis=0)
        np.testing.assert_allclose(arrays[f"{name}_curve"], curve, rtol=1e-5)
    normal_scores = held_out.max(axis=(1, 2))
    np.testing.assert_allclose(arrays["out_of_fold_scores"], normal_scores, rtol=1e-6)
    # 9 normal images promise one false alarm in ten: nothing above the highest of their scores.
    assert document["threshold"]["promised_false_alarms"] == pytest.approx(0.1)
    assert document["threshold"]["threshold"] == pytest.approx(normal_scores.max())
    above = arrays["scores"] > document["threshold"]["threshold"]
    assert document["threshold"]["false_alarms"] == pytest.approx(above[:, labels == 0].mean())
    assert document["threshold"]["detections"] == pytest.approx(above[:, labels == 1].mean())
    assert sorted(arrays["out_of_fold_fold"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]

    row = leaderboard([document]).iloc[0]
    for name in FIGURES:
        values = [fold[name] for fold in expected]
        assert row[name] == pytest.approx(np.mean(values))
        assert row[f"{name}_std"] == pytest.approx(np.std(values, ddof=1))
    low, high = bootstrap_interval(labels, np.stack([result.scores for result in results]))
    assert (row["image_auroc_low"], row["image_auroc_high"]) == pytest.approx((low, high))


def test_one_fold_fits_on_all_normal_images_once(run_suite, suite, images, log):
    [document] = run_suite(suite)
    assert log("fit") == ["fit toy-linear full 0 9"]
    row = leaderboard([document]).iloc[0]
    assert math.isnan(row["image_auroc_std"])
    assert row["n_train"] == 9
    assert row["n_test"] == 9
    assert row["model_mb"] == 2.0
    assert (row[["fit_seconds", "ms_per_image_b1", "ms_per_image_b32", "peak_memory_mb"]] > 0).all()


def test_features_are_extracted_once_for_all_that_share_them(run_suite, suite, log):
    documents = run_suite(suite, estimators=("full", "tied"), seeds=(0, 1), backbones=("toy-*",))
    assert len(documents) == 8
    # Latency is measured end to end, and so extracts too: once the grid is done, count those of whole sets.
    extractions = [line for line in log("extract") if line.endswith("toy-linear")]
    latency_alone = len(extractions) - 2
    assert latency_alone >= 4 * 4  # of four runs: two batch sizes, a warm-up and at least one call each
    assert len(log("fit")) == 8


def test_a_second_start_does_nothing_and_a_third_only_what_is_new(run_suite, suite, log):
    first = run_suite(suite)
    assert run_suite(suite) == first
    assert len(log("fit")) == 1
    run_suite(suite, categories=(), estimators=("full", "tied"))
    assert len(log("fit")) == 4


def test_a_failed_run_is_a_row_and_is_tried_again(run_suite, suite, log):
    failed, done = run_suite(suite, estimators=("spherical", "full"))
    assert (failed["status"], done["status"]) == ("failed", "done")
    board = leaderboard([failed, done])
    assert list(board["status"]) == ["done", "failed"]
    assert board["error"][1] == "ArithmeticError: a toy cannot be spherical"
    assert "fit_features" in failed["error"]["traceback"]
    assert math.isnan(board["image_auroc"][1])
    missing = find_missing(make_plan(suite), RunStore(suite.output))
    assert len(missing.plan) == 0
    run_suite(suite, estimators=("spherical", "full"))
    assert [line.split()[2] for line in log("fit")] == ["spherical", "full", "spherical"]


def test_more_folds_than_images_fail_and_say_so(run_suite, suite):
    [document] = run_suite(suite, folds=10)
    assert document["status"] == "failed"
    assert "9 normal images cannot make 10 folds" in document["error"]["message"]


def test_a_broken_image_fails_the_runs_of_its_category_alone(run_suite, suite, toys, tmp_path):
    broken = toys.make_images(tmp_path / "broken")
    (broken / "alpha" / "train" / "good" / "003.png").write_bytes(b"no image")
    documents = run_suite(suite, data_root=broken, categories=(), estimators=("full", "tied"))
    assert [document["status"] for document in documents] == ["failed", "failed", "done", "done"]
    assert "003.png" in documents[0]["error"]["message"]
    board = leaderboard(documents)
    assert set(board[board["category"] == "mean"]["notes"]) == {
        "mean over 1 of 2 categories, without alpha; 1 of 2 runs failed; one draw of what its seed decides: more "
        "--seeds show how much it moves the metrics"
    }


def test_image_level_detectors_have_image_figures_only(run_suite, suite):
    [document] = run_suite(suite, detectors=("scores-only",))
    row = leaderboard([document]).iloc[0]
    assert row["image_auroc"] > 0.5
    assert math.isnan(row["pixel_auroc"])
    assert "no anomaly maps" in row["notes"]


def test_ground_truth_is_in_the_geometry_of_each_detector(run_suite, suite, toys):
    @registry.detectors.register("halving")
    class Halving(toys.Toy):
        def __init__(self, backbone, estimator="full", *, seed=0, batch_size=32):
            super().__init__(backbone, estimator, seed=seed, resize=toys.SIZE // 2, batch_size=batch_size)

    whole, halved = run_suite(suite, detectors=("toy", "halving"), folds=3)
    assert (whole["status"], halved["status"]) == ("done", "done"), halved["error"]
    assert not math.isnan(halved["folds"][0]["pixel_auroc"])


def test_workers_find_what_one_process_finds(run_suite, suite, tmp_path):
    options = {"categories": (), "backbones": ("toy-*",), "estimators": ("full", "tied"), "folds": 3}
    alone = run_suite(suite, **options)
    together = run_suite(suite, **options, jobs=2, output=tmp_path / "parallel")
    assert {document["status"] for document in together} == {"done"}
    assert [document["folds"] for document in together] == [document["folds"] for document in alone]


def test_the_death_of_a_worker_fails_one_run(run_suite, suite):
    documents = run_suite(suite, categories=(), estimators=("full", "oas", "tied"), jobs=2)
    outcome = {(d["config"]["category"], d["config"]["estimator"]): d["status"] for d in documents}
    assert {key for key, status in outcome.items() if status == "failed"} == {("alpha", "oas"), ("beta", "oas")}
    [message] = {document["error"]["message"] for document in documents if document["error"]}
    assert message == "the worker process died (exit code 9)"


def test_a_worker_that_is_killed_may_have_been_out_of_memory(run_suite, suite):
    documents = run_suite(suite, categories=(), estimators=("shrinkage",), jobs=2)
    assert {"out of memory?" in document["error"]["message"] for document in documents} == {True}


def test_a_worker_that_cannot_start_says_why(run_suite, suite, tmp_path):
    (tmp_path / "bad.py").write_text("raise ValueError('no luck')\n")
    documents = run_suite(suite, categories=(), jobs=2, plugin=(*suite.plugin, tmp_path / "bad.py"))
    assert [document["status"] for document in documents] == ["failed", "failed"]
    assert {document["error"]["message"] for document in documents} == {
        f"the worker process failed: InputError: plugin {tmp_path / 'bad.py'} failed to load: ValueError: no luck"
    }


def test_a_backbone_is_made_once_for_all_categories(run_suite, suite, log):
    plan = make_plan(suite.replace(categories=(), backbones=("toy-*",)))
    before = len(log("build"))
    for _ in execute(suite, find_missing(plan, RunStore(suite.output)), RunStore(suite.output)):
        pass
    assert log("build")[before:] == ["build toy-linear", "build toy-square"]


def test_documents_are_plain_json_with_a_complete_environment(run_suite, suite):
    [document] = run_suite(suite)
    text = (suite.output / f"{document['id']}.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    environment = document["environment"]
    assert {"machine", "cpu", "cores", "python", "torch", "numpy", "padim_zoo", "commit"} <= set(environment)


def test_a_run_says_what_auto_came_to_and_is_done_on_every_machine(run_suite, suite, fast_bfloat16, tmp_path):
    suite = suite.replace(
        backbones=("builtin", "scattering"),
        detectors=("padim",),
        ensemble=("builtin+scattering",),
        categories=("alpha",),
        resize=(24, 24),
        device="cpu",
        gallery=False,
    )
    fast_bfloat16(True)
    documents = run_suite(suite)
    assert {document["config"]["precision"] for document in documents} == {"auto"}
    assert [document["precision"] for document in documents] == ["bfloat16"] * 3
    fast_bfloat16(False)
    assert run_suite(suite) == documents  # of the same ids, so that nothing is missing
    elsewhere = run_suite(suite.replace(output=tmp_path / "elsewhere"))
    assert [document["precision"] for document in elsewhere] == ["float32"] * 3
    for one, other in zip(documents, elsewhere, strict=True):
        assert one["id"] == other["id"]
        assert one["folds"] != other["folds"]
    compared = compare_stores(RunStore(suite.output), RunStore(tmp_path / "elsewhere"))
    assert compared.attrs["differing"] == {"precision": (['"bfloat16"'], ['"float32"'])}
    run_suite(suite.replace(estimators=("diagonal",), ensemble=(), backbones=("builtin",)))  # beside them, but as those
    compared = compare_stores(RunStore(suite.output), RunStore(tmp_path / "elsewhere"))
    assert compared.attrs["unpaired"] == (1, 0)
    assert compared.attrs["differing"]["precision"] == (['"bfloat16"'], ['"float32"'])  # of the runs that are compared


def test_latency_is_of_the_batch_size_asked_for():
    sizes = []

    class Counting:
        def predict(self, images):
            sizes.append(len(images))

    images = [np.zeros((4, 4, 3), dtype=np.uint8)] * 3
    assert milliseconds_per_image(Counting(), images, 32) > 0
    assert sizes[0] == 1
    assert set(sizes[1:]) == {32}


def test_peak_memory_sees_an_allocation():
    with PeakMemory() as small:
        pass
    with PeakMemory() as large:
        block = np.ones(30_000_000)
        while large.megabytes < small.megabytes + 200 and block[0]:
            pass
    assert large.megabytes >= small.megabytes + 200


def test_unknown_device_is_refused_before_any_run(run_suite, suite):
    with pytest.raises(InputError, match="device"):
        make_plan(type(suite)(backbones=("builtin",), data_root=suite.data_root, dataset="mvtec", device="abacus"))


def test_runs_have_the_notes_of_their_data(gear_suite, gears, run_suite, tmp_path):
    can = tmp_path / "can"
    shutil.copytree(gears / "gear" / "train", can / "train")
    shutil.copytree(gears / "gear" / "test", can / "test_public")
    shutil.copytree(gears / "gear" / "test" / "good", can / "test_private")
    (document,) = run_suite(gear_suite, dataset="mvtec_ad_2", data_root=tmp_path, folds=1)
    assert document["status"] == "done"
    private = "3 images of test_private have no labels: padim-zoo predict scores them for the benchmark's server"
    assert document["notes"].count(private) == 1
    assert private in leaderboard([document])["notes"][0]
