"""Bounds of AUPIMO as a setting: in the configuration, the metrics, the leaderboard and comparisons of runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padim_zoo import InputError, PaDiM
from padim_zoo.bench.compare import compare_runs
from padim_zoo.bench.leaderboard import leaderboard, summarize
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.data.ground_truth import masks
from padim_zoo.metrics.evaluation import evaluate
from padim_zoo.report.commands import reproducing_command

BOUNDS = (0.002, 0.1)
"""Rates of three normal images of 48 × 48 pixels: the lower one is 14 pixels."""


@pytest.fixture
def suite(gear_suite: Suite) -> Suite:
    return gear_suite.replace(folds=1)


def test_a_run_has_the_aupimo_of_a_fit_outside_of_a_benchmark(suite, run_suite):
    [document] = run_suite(suite, aupimo_bounds="0.002,1e-1")
    category = suite.open_dataset().load("gear")
    detector = PaDiM("builtin", n_components=20, resize=56, crop=48).fit([sample.path for sample in category.train])
    prediction = detector.predict([sample.path for sample in category.test])
    truth = masks(category.test, detector.transform)
    labels = np.array([sample.label for sample in category.test])
    expected = evaluate(labels, prediction.scores, prediction.maps, truth, aupimo_bounds=BOUNDS)
    for name in ("aupimo", "aupimo_p10", "aupimo_p50"):
        assert document["folds"][0][name] == pytest.approx(expected.values[name], abs=1e-6)
    assert 0 < document["folds"][0]["aupimo"] <= 1
    kept = RunStore(suite.output).scores(document["id"])["aupimo_per_image"]
    np.testing.assert_allclose(kept[0], expected.per_image["aupimo"], atol=1e-6)
    assert "AUPIMO is over false positive rates from 0.002 to 0.1" in document["notes"]
    assert "--aupimo-bounds 0.002,0.1" in reproducing_command(document)


def test_values_under_two_bounds_are_neither_averaged_nor_compared(suite, run_suite):
    [wide] = run_suite(suite, aupimo_bounds=BOUNDS)
    [high] = run_suite(suite, aupimo_bounds=[0.01, 0.1])
    [usual] = run_suite(suite)
    assert len({wide["id"], high["id"], usual["id"]}) == 3
    assert math.isnan(usual["folds"][0]["aupimo"])  # 6,912 normal pixels are too few
    documents = [wide, high, usual]
    board = leaderboard(documents)
    assert set(board["aupimo_bounds"]) == {"0.002,0.1", "0.01,0.1", None}
    assert len(summarize(documents, ["backbone"])) == 3
    [row] = compare_runs(RunStore(suite.output), documents, wide["id"], high["id"]).to_dict("records")
    assert row["aupro_difference"] == 0
    for column in ("aupimo_difference", "aupimo_low", "aupimo_p_value", "aupimo_p50_difference"):
        assert math.isnan(row[column])
    [same] = compare_runs(RunStore(suite.output), [wide, {**wide, "id": high["id"]}], wide["id"], high["id"]).to_dict(
        "records"
    )
    assert not math.isnan(same["aupimo_difference"])


@pytest.mark.parametrize("bounds", ["1e-4,1e-5", "1e-5", "0,0.1", "0.1,2", "1e-5,1e-4,1e-3", "low,high", [0.1]])
def test_bounds_that_are_no_rising_rates_are_refused(suite, bounds):
    with pytest.raises(InputError, match="aupimo_bounds is"):
        suite.replace(aupimo_bounds=bounds)
