"""The check on real runs: slowed down or made worse on purpose, and repeated with no change."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import pytest
from PIL import Image

from padim_zoo.bench import environment
from padim_zoo.bench.check.baseline import Baseline
from padim_zoo.bench.check.comparison import compare
from padim_zoo.bench.check.finding import Limits
from padim_zoo.bench.check.row import read_rows
from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError


def regressions(now, before, **limits):
    findings = compare(now, None, Baseline(before), Limits(**limits))
    return [(found.where, found.what) for found in findings.regressions]


@pytest.fixture
def bench(suite, run_suite, tmp_path, monkeypatch):
    """Runs a suite of toys into a fresh store, as if on a machine at rest; gives its rows."""
    monkeypatch.setattr(environment, "processor_share", lambda threads: 1.0)

    def run(name, **changes):
        output = tmp_path / name
        documents = run_suite(suite, output=output, **{"categories": ("alpha", "beta"), "folds": 3, **changes})
        return read_rows(RunStore(output), documents)

    return run


@pytest.fixture
def clock(monkeypatch):
    """A clock that a look moves by a millisecond, and else the detector alone, however busy the machine is."""

    class Clock:
        now = 0.0

        def slow_down(self, owner, name, seconds):
            """Let a method take that much longer."""
            method = getattr(owner, name)

            def slow(*arguments):
                self.now += seconds
                return method(*arguments)

            monkeypatch.setattr(owner, name, slow)

        def look(self):
            self.now += 0.001
            return self.now

    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.look)
    return clock


STAGES = {
    "extract": {"fit_seconds", "ms_per_image_b1", "ms_per_image_b32"},
    "fit_features": {"fit_seconds"},
    "predict_features": {"ms_per_image_b1", "ms_per_image_b32"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_slowed_down_is_caught_and_repetition_is_not(bench, toys, clock, stage):
    for name in STAGES:
        clock.slow_down(toys.Toy, name, 0.1)
    before = bench("before", folds=1)
    assert regressions(bench("again", folds=1), before) == []
    clock.slow_down(toys.Toy, stage, 0.5)
    found = regressions(bench("slow", folds=1), before)
    assert {what for _, what in found} == STAGES[stage]
    assert {where for where, _ in found} == {"median of 2 rows: toy-linear full"}


def test_worse_scores_are_caught(bench, toys, monkeypatch):
    before = bench("before")
    predict = toys.Toy.predict_features

    def blind(detector, features):
        prediction = predict(detector, features)
        return replace(prediction, scores=-prediction.scores, maps=-prediction.maps)

    assert regressions(bench("again"), before, accuracy_drop=0, slowdown=math.inf) == []
    monkeypatch.setattr(toys.Toy, "predict_features", blind)
    found = regressions(bench("blind"), before, slowdown=math.inf)
    assert {("alpha toy-linear full", "image_auroc"), ("alpha toy-linear full", "pixel_auroc")} <= set(found)


def test_ensembles_are_matched_though_their_members_have_other_ids(bench, images):
    grid = {"detectors": ("padim",), "backbones": ("builtin",), "ensemble": ("builtin+scattering",), "resize": 24}
    before = bench("before", **grid)
    for path in images.rglob("*.png"):
        Image.open(path).save(path, compress_level=1)  # the same pixels in other bytes
    now = bench("now", **grid)
    assert {row.config["data"] for row in now}.isdisjoint(row.config["data"] for row in before)
    findings = compare(now, None, Baseline(before), Limits(0, math.inf, 1.2))
    assert (findings.regressions, findings.notes, findings.compared) == ([], [], ["6 runs"])


def test_of_runs_on_changed_data_the_newest_counts(tmp_path, bench):
    bench("runs")
    store = RunStore(tmp_path / "runs")
    documents = store.read_all().documents
    old = json.loads(json.dumps(documents[0]))
    old["created"] = "2000-01-01T00:00:00+00:00"
    old["config"]["data"] = "older"
    old["timings"]["fit_seconds"] = 1e6
    for order in ([old, *documents], [*documents, old]):
        assert all(row.costs["fit_seconds"] < 1e6 for row in read_rows(store, order))


def test_runs_that_cannot_be_used(tmp_path, bench):
    bench("runs")
    store = RunStore(tmp_path / "runs")
    [document, _] = store.read_all().documents
    with pytest.raises(InputError, match="no calibration time"):
        read_rows(store, [{**document, "environment": {}}])
    with pytest.raises(InputError, match="is damaged"):
        read_rows(store, [{**document, "config": {}}])
    with pytest.raises(InputError, match="is damaged"):
        read_rows(store, [{**document, "folds": []}])
    with pytest.raises(InputError, match="holds no run"):
        RunStore(tmp_path).read_some()
    (tmp_path / "runs" / f"{document['id']}.safetensors").unlink()
    with pytest.raises(InputError, match="cannot read the arrays"):
        read_rows(store, [document])
