"""Time of a small grid, from a suite to recorded runs: three estimators, three folds, two seeds, one category."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from conftest import Beside
from references import BareNetwork, one_job

from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite


def test_grid(beside: Beside, category: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one of its 18 jobs, done literally with a bare resnet18."""
    suite = Suite(
        estimators=("full", "ledoit-wolf", "diagonal"),
        dataset="mvtec",
        data_root=category,
        folds=3,
        seeds=(0, 1),
        resize=96,
        crop=None,
        precision="float32",
    )
    stores = count()

    def fill() -> list[str]:
        """Every round fills a store of its own, and finds nothing in the cache."""
        asked = suite.replace(output=tmp_path / str(next(stores)))
        monkeypatch.setenv("PADIM_ZOO_CACHE", f"{asked.output}-cache")
        store, plan = RunStore(asked.output), make_plan(asked)
        events = list(execute(asked, find_missing(plan, store), store))
        return [event.document["status"] for event in events if event.document is not None]

    network = BareNetwork()
    normal = sorted((category / "gear" / "train" / "good").glob("*.png"))
    test = sorted((category / "gear" / "test").rglob("*.png"))
    assert beside(lambda: one_job(network, normal, test, 96, 100), fill, "one literal job") == ["done"] * 6
