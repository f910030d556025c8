"""What the seed decides: told where it does, and no second run where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from padim_zoo.backbones.torchvision import build_network
from padim_zoo.bench.compare import compare_runs, compare_stores, describe_comparison
from padim_zoo.bench.leaderboard import ONE_DRAW, leaderboard
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.store import RunStore
from padim_zoo.cli.main import main
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.detectors.mahalanobis_ad import MahalanobisAD
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.patchcore import PatchCore
from padim_zoo.detectors.spade import SPADE
from padim_zoo.detectors.stfpm import STFPM


@pytest.fixture
def small(suite):
    return suite.replace(
        backbones=("builtin",), detectors=("padim",), resize=32, n_components=8, cache=False, gallery=False
    )


@pytest.mark.parametrize(
    ("detector", "draws"),
    [
        (PaDiM(), ()),
        (PaDiM(augment="flip"), ("augmented views",)),
        (PaDiM(reduction="random"), ("channels",)),
        (PaDiM(reduction="random", n_components=112), ()),
        (PaDiM(reduction="orthogonal", n_components=112), ("channels",)),
        (PatchCore(), ("coreset",)),
        (PatchCore(coreset_ratio=1), ()),
        (SPADE(), ()),
        (MahalanobisAD(augment="flip"), ("augmented views",)),
        (STFPM(), ("training of the student",)),
        (Ensemble([PaDiM(), PaDiM(reduction="random")]), ("channels", "folds of the members")),
    ],
)
def test_a_detector_says_what_its_seed_decides(detector, draws):
    if draws == () and isinstance(detector, PaDiM) and detector.reduction:
        detector.n_components = sum(detector.build_backbone().channels)
    assert detector.draws == draws


def test_seeds_that_draw_nothing_are_one_run_and_a_line_says_so(run_suite, small):
    plan = make_plan(small.replace(seeds=(3, 1)))
    assert [run.config.seed for run in plan] == [3]
    assert plan.notes == (
        "nothing is drawn by padim on builtin: all seeds give the same scores, so seed 3 alone is run; "
        "the folds of the threshold follow the seed",
    )
    one, other = run_suite(small, seeds=(3,)), run_suite(small, seeds=(1,))
    scores = [RunStore(small.output).scores(documents[0]["id"])["scores"] for documents in (one, other)]
    np.testing.assert_array_equal(*scores)
    assert not leaderboard(one)["notes"].str.contains(ONE_DRAW).any()


@pytest.mark.parametrize("change", [{"folds": 3}, {"reduction": "random"}, {"train_sizes": (5,)}, {"augment": "flip"}])
def test_where_something_is_drawn_every_seed_is_run(small, change):
    plan = make_plan(small.replace(seeds=(0, 1), **change))
    assert [run.config.seed for run in plan] == [0, 1]
    assert all(run.drawn for run in plan)
    assert plan.notes == ()


def test_one_seed_is_one_draw_until_there_are_two(run_suite, small):
    one = run_suite(small, reduction="random")
    (note,) = leaderboard(one)["notes"]
    assert note.endswith("one draw of channels: more --seeds show how much it moves the metrics")
    both = [*one, *run_suite(small, reduction="random", seeds=(1,))]
    assert not leaderboard(both)["notes"].str.contains(ONE_DRAW).any()
    assert leaderboard(both).iloc[-1]["image_auroc_std"] >= 0


def test_a_comparison_says_that_it_does_not_cover_the_draw(run_suite, small, tmp_path):
    stores = {}
    for name, change in {
        "drawn": {"reduction": "random"},
        "leading": {},
        "diagonal": {"estimators": ("diagonal",)},
    }.items():
        run_suite(small, output=tmp_path / name, **change)
        stores[name] = RunStore(tmp_path / name)
    assert "one draw of channels" in compare_stores(stores["leading"], stores["drawn"]).attrs["draw"]
    assert compare_stores(stores["leading"], stores["diagonal"]).attrs["draw"] is None
    said = CliRunner().invoke(main, ["compare", *(str(stores[name].folder) for name in ("leading", "drawn"))])
    assert "intervals and p-values do not cover the draw; one draw of channels" in said.stderr
    run_suite(small, output=tmp_path / "drawn", reduction="random", estimators=("diagonal",))
    documents = stores["drawn"].read_done()
    comparison = compare_runs(stores["drawn"], documents, *(document["id"] for document in documents))
    assert "do not cover the draw" in describe_comparison(comparison)


@pytest.fixture
def first_layers(tmp_path: Path) -> Path:
    """Weights of resnet18 without its last stage."""
    network = build_network("resnet18", ("layer1", "layer2", "layer3"))
    state = {name: tensor for name, tensor in network.extractor.state_dict().items() if tensor.is_floating_point()}
    torch.manual_seed(0)
    path = tmp_path / "first_layers.safetensors"
    save_file({name: torch.rand_like(tensor) / 10 for name, tensor in state.items()}, path)
    return path


def test_weights_that_lack_the_layer_of_one_detector_fail_its_rows_alone(run_suite, small, first_layers):
    grid = small.replace(backbones=("resnet18",), detectors=("padim", "mahalanobis-ad"), weights=(str(first_layers),))
    (note,) = make_plan(grid).notes
    assert note.startswith("the rows of mahalanobis-ad on resnet18 fail: ")
    assert note.endswith("take a file that holds layer4 too, or leave these out by --layers")
    documents = run_suite(grid)
    assert {(one["config"]["detector"], one["status"]) for one in documents} == {
        ("padim", "done"),
        ("mahalanobis-ad", "failed"),
    }
    failed = next(one for one in documents if one["status"] == "failed")
    assert failed["error"]["type"] == "InputError"
    assert "leave these out by --layers" in failed["error"]["message"]
    assert failed["weights"] == "first_layers.safetensors"
    named = run_suite(grid, layers=("layer1,layer2,layer3",))
    assert {one["status"] for one in named} == {"done"}
    with pytest.raises(InputError, match="leave these out by --layers"):
        make_plan(grid.replace(detectors=("mahalanobis-ad",)))
