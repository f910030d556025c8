"""Folds that runs share against a fit of each fold of each run, and what sharing must not change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from padim_zoo.bench import shared_folds
from padim_zoo.bench.shared_folds import SharedFolds
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.bench.timed_fit import LatencyMeter
from padim_zoo.detectors.padim import PaDiM

SHARING = ("full", "oas", "shrinkage(shrinkage_intensity=0.3)")


@pytest.fixture(autouse=True)
def fits(monkeypatch) -> list[str]:
    """The estimator of each fit."""
    made: list[str] = []

    def fit_features(self, features, original=PaDiM.fit_features):
        made.append(self.estimator)
        return original(self, features)

    monkeypatch.setattr(PaDiM, "fit_features", fit_features)
    return made


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> Iterator[None]:
    """No latency, which would take most of the time, and one thread, which is quickest for images this small."""
    monkeypatch.setattr(LatencyMeter, "milliseconds_per_image", lambda *_: 1.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def grid(suite: Suite) -> Suite:
    """Six or seven images a fit: fewer than dimensions, or with two of these more."""
    return suite.replace(
        backbones=("builtin",),
        detectors=("padim",),
        estimators=SHARING,
        folds=4,
        resize=32,
        n_components=8,
        cache=False,
    )


def assert_same_rows(suite, found, expected):
    assert [document["status"] for document in found] == ["done"] * len(found)
    assert [document["id"] for document in found] == [document["id"] for document in expected]
    for one, other in zip(found, expected, strict=True):
        for name in ("n_train", "n_test", "notes", "config", "weights"):
            assert one[name] == other[name]
        for name in ("interval", "threshold"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)
        for fold, literal in zip(one["folds"], other["folds"], strict=True):
            assert fold == pytest.approx(literal, rel=1e-4, nan_ok=True)
        assert one["timings"].keys() == other["timings"].keys()
        assert one["timings"]["model_mb"] == other["timings"]["model_mb"]


@pytest.mark.parametrize("n_components", [2, 8])
def test_rows_are_those_of_the_literal_loop(run_suite, grid, fits, monkeypatch, tmp_path, n_components):
    grid = grid.replace(n_components=n_components, seeds=(0, 1), estimators=(*SHARING, "diagonal"))
    found = run_suite(grid)
    assert sorted(fits) == sorted(2 * [*SHARING, *4 * ["diagonal"]])
    monkeypatch.setattr(SharedFolds, "predictions", lambda *_: None)
    literal = grid.replace(output=tmp_path / "literal")
    fits.clear()
    assert_same_rows(grid, found, run_suite(literal))
    assert len(fits) == 2 * 4 * 4
    for document in found:
        ours, theirs = (RunStore(suite.output).scores(document["id"]) for suite in (grid, literal))
        for name, values in theirs.items():
            # A curve is a staircase: a pixel of another rank, by the last digit of its score, is a step of it.
            step = 1e-3 if name.endswith("_curve") else 0
            np.testing.assert_allclose(ours[name], values, rtol=1e-4, atol=step, err_msg=name)


def test_an_ensemble_fits_its_own_folds_beside_shared_ones(run_suite, grid, monkeypatch, tmp_path):
    ensemble = grid.replace(ensemble=("builtin:full+builtin:oas",))
    found = run_suite(ensemble)
    monkeypatch.setattr(SharedFolds, "predictions", lambda *_: None)
    assert_same_rows(grid, found, run_suite(ensemble.replace(output=tmp_path / "literal")))


def test_only_what_is_missing_is_shared_and_done(run_suite, grid, fits, monkeypatch):
    passes = []

    def fold_distances(normal, test, folds, estimators, original=shared_folds.fold_distances):
        passes.append(len(estimators))
        return original(normal, test, folds, estimators)

    monkeypatch.setattr(shared_folds, "fold_distances", fold_distances)
    first = run_suite(grid)
    assert passes == [3]
    (grid.output / f"{first[1]['id']}.json").unlink()
    fits.clear()
    assert_same_rows(grid, run_suite(grid), first)
    assert (passes, fits) == ([3, 1], ["oas"])


@pytest.mark.parametrize("trouble", ["an error", "one fold"])
def test_what_cannot_be_shared_is_done_fold_by_fold(run_suite, grid, fits, monkeypatch, trouble):
    def fail(*_):
        raise ArithmeticError("not positive definite")

    monkeypatch.setattr(shared_folds, "fold_distances", fail)
    documents = run_suite(grid, folds=1 if trouble == "one fold" else 4)
    assert {document["status"] for document in documents} == {"done"}
    assert set(fits) == set(SHARING)
    assert len(fits) == len(SHARING) * (1 if trouble == "one fold" else 5)


def test_an_estimator_with_a_fit_of_its_own_shares_nothing(run_suite, grid, fits, tmp_path):
    plugin = tmp_path / "own_fit.py"
    plugin.write_text(
        "from padim_zoo import registry\n"
        "from padim_zoo.estimators.linear_shrinkage import Full\n"
        "@registry.estimators.register('own-fit')\n"
        "class OwnFit(Full):\n"
        "    def fit(self, statistics):\n"
        "        return super().fit(statistics)\n"
    )
    grid = grid.replace(plugin=(*grid.plugin, plugin))
    grid.load_plugins()
    run_suite(grid, estimators=("own-fit",))
    assert fits == 4 * ["own-fit"]
