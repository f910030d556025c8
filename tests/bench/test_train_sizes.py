"""Learning curves: runs on some of the normal images."""

from __future__ import annotations

import pytest

from padim_zoo import InputError
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.data.synthetic import generate


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("data")
    generate(root, categories=["gear"], train=12, good=4, defects_per_kind=2, size=64)
    settings = {"data_root": str(root), "estimators": "full", "resize": "64", "crop": "none", "cache": False}
    return Suite.from_settings(settings, {"train_sizes": "3,6,all,100", "output": str(root / "runs")})


def test_more_images_than_there_are_is_all_of_them_once(suite):
    plan = make_plan(suite)
    assert [run.config.train_size for run in plan.runs] == [3, 6, None]
    assert plan.notes == ("train_sizes has 100, more normal images than there are of gear (12): all are taken",)
    assert make_plan(suite.replace(train_sizes=(3, 12, None))).notes == ()


def test_a_learning_curve_is_in_the_leaderboard(suite):
    store = RunStore(suite.output)
    missing = find_missing(make_plan(suite), store)
    documents = [event.document for event in execute(suite, missing, store) if event.document is not None]
    board = leaderboard(documents)
    runs = board[board["id"].notna()]
    assert sorted(runs["n_train"]) == [3, 6, 12]
    assert sorted(runs["train_size"].dropna()) == [3, 6]
    assert (runs["status"] == "done").all()
    assert runs["pixel_auroc"].nunique() == 3


def test_detectors_with_other_layers_are_planned_beside_each_other(suite):
    plan = make_plan(
        suite.replace(detectors=("padim", "spade", "patchcore"), backbones=("resnet18",), weights=("none",))
    )
    layers = {run.config.detector: run.config.layers for run in plan.runs}
    assert layers["padim"] == layers["patchcore"] == ("layer1", "layer2", "layer3")
    assert layers["spade"] == ("layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize("sizes", ["1", "0,5", "x"])
def test_bad_sizes_are_refused(sizes):
    with pytest.raises(InputError, match=r"train_sizes.* or all$"):
        Suite.from_settings({"train_sizes": sizes})
