from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from padim_zoo import registry
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import Document, RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.data.synthetic import generate

PLUGIN = Path(__file__).with_name("toy_zoo.py")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plugin of toys, loaded for one test."""
    for kind in registry.REGISTRIES.values():
        kind.names()
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))
    registry.load_plugin(PLUGIN)
    return sys.modules["padim_zoo_plugin_toy_zoo"]


@pytest.fixture
def images(toys: ModuleType, tmp_path: Path) -> Path:
    return Path(toys.make_images(tmp_path / "images"))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The lines that toys have written so far, by their first word."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("TOY_LOG", str(path))
    return lambda what: [line for line in path.read_text().splitlines() if line.startswith(what)]


@pytest.fixture
def suite(images: Path, tmp_path: Path) -> Suite:
    return Suite(
        backbones=("toy-linear",),
        estimators=("full",),
        detectors=("toy",),
        dataset="mvtec",
        data_root=images,
        categories=("alpha",),
        resize=None,
        crop=None,
        plugin=(PLUGIN,),
        output=tmp_path / "runs",
    )


@pytest.fixture(scope="module")
def gears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn category: 9 normal images to fit."""
    root = tmp_path_factory.mktemp("images")
    generate(root, categories=["gear"], train=9, good=3, defects_per_kind=1, size=64)
    return root


@pytest.fixture
def gear_suite(gears: Path, tmp_path: Path) -> Suite:
    return Suite(
        data_root=gears,
        estimators=("full",),
        n_components=20,
        folds=3,
        output=tmp_path / "runs",
        resize="56",
        crop="48",
    )


@pytest.fixture
def run_suite() -> Callable[..., list[Document]]:
    """Does what is missing of a suite; gives all its documents, in the order of the plan."""

    def run(suite: Suite, **changes: object) -> list[Document]:
        suite = suite.replace(**changes)
        store, plan = RunStore(suite.output), make_plan(suite)
        for _ in execute(suite, find_missing(plan, store), store):
            pass
        documents = [store.read(run.id) for run in plan]
        assert None not in documents
        return documents

    return run
