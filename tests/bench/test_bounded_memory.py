"""A benchmark within little memory puts features and maps into files, and finds what it finds without a limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padim_zoo.bench.build import memory_of_worker
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.core import spill
from padim_zoo.metrics import sorted_scores


@pytest.mark.parametrize(
    "settings",
    [
        {"estimators": ("full", "oas", "tied(cells=4)")},
        {"estimators": ("full", "oas"), "folds": 1},
        {"detectors": ("patchcore", "spade"), "folds": 2},
        {"estimators": ("full",), "train_sizes": (5,), "augment": "flip", "passes": 2, "corruptions": "blur(1)"},
    ],
    ids=["folds", "one fold", "banks", "views"],
)
def test_memory_changes_no_result(
    settings: dict[str, Any], run_suite: Any, gear_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    suite = gear_suite.replace(**settings, gallery=False)
    unbounded = run_suite(suite)
    mapped: list[int] = []
    monkeypatch.setattr(spill, "_map", lambda n_bytes, map_file=spill._map: mapped.append(n_bytes) or map_file(n_bytes))
    monkeypatch.setattr(sorted_scores, "BLOCK", 1000)
    bounded = run_suite(suite, memory="300KB", output=tmp_path / "bounded")
    assert mapped
    assert len(bounded) == len(unbounded) > 0
    for one, other in zip(unbounded, bounded, strict=True):
        of_one = RunStore(suite.output).scores(one["id"])
        of_other = RunStore(tmp_path / "bounded").scores(other["id"])
        assert one["status"] == other["status"] == "done", other
        assert one["id"] == other["id"]
        assert of_one.keys() == of_other.keys()
        np.testing.assert_allclose(of_other["scores"], of_one["scores"], rtol=1e-4)
        for fold, literal in zip(other["folds"], one["folds"], strict=True):
            assert fold == pytest.approx(literal, rel=1e-3, abs=1e-3, nan_ok=True)
        assert other["threshold"] == pytest.approx(one["threshold"], rel=1e-4)
        assert other["notes"] == one["notes"]


def test_workers_share_the_memory(gear_suite: Suite) -> None:
    assert memory_of_worker(gear_suite) is None
    assert memory_of_worker(gear_suite.replace(memory=4 * 10**9, jobs=4)) == 10**9
