"""A run store that really was run, and a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import CHROMIUM, Chromium

from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.data.synthetic import generate


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("data")
    generate(root / "images", categories=["gear", "fabric"], train=10, good=4, defects_per_kind=2, size=64)
    settings = {"data_root": str(root / "images"), "resize": "64", "crop": "none", "cache": False}
    asked = {"estimators": "full,diagonal", "folds": "2", "train_sizes": "6,all", "corruptions": "blur(1,3),jpeg(30)"}
    asked["output"] = str(root / "runs")
    return Suite.from_settings(settings, asked)


@pytest.fixture(scope="session")
def store(suite: Suite) -> RunStore:
    store = RunStore(suite.output)
    for event in execute(suite, find_missing(make_plan(suite), store), store):
        assert event.document is None or event.document["status"] == "done"
    return store


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
