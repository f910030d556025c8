"""The transform of a benchmark: what is asked for, what the data set declares, or the grid of the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from padim_zoo import registry
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.protocol import resolve_transform
from padim_zoo.bench.readers import PROTOCOL
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite, preset_settings
from padim_zoo.cli.main import main
from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import protocol_of
from padim_zoo.data.transform import Transform

PAPER, SQUARE = Transform(256, 224), Transform((256, 256), None)


def photos(folder: Path, count: int, size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(rng.integers(90, 160, (*size, 3), dtype=np.uint8)).save(folder / f"{number:03}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories of different aspects, with a marked defect near the left edge."""
    for seed, (name, size) in enumerate({"strip": (32, 120), "tile": (48, 48)}.items()):
        category = tmp_path / "images" / name
        photos(category / "train" / "good", 5, size, seed)
        photos(category / "test" / "good", 2, size, seed + 10)
        photos(category / "test" / "spot", 2, size, seed + 20)
        (category / "ground_truth" / "spot").mkdir(parents=True)
        for path in (category / "test" / "spot").iterdir():
            pixels, mask = np.array(Image.open(path)), np.zeros(size, dtype=np.uint8)
            pixels[10:20, 2:8], mask[10:20, 2:8] = 255, 255
            Image.fromarray(pixels).save(path)
            Image.fromarray(mask).save(category / "ground_truth" / "spot" / f"{path.stem}_mask.png")
    return tmp_path / "images"


def transforms(suite: Suite) -> dict[str, tuple[object, object]]:
    return {run.config.category: (run.config.resize, run.config.crop) for run in make_plan(suite)}


SMALL = {"estimators": "diagonal", "n_components": 8, "precision": "float32", "gallery": False, "cache": False}


def test_either_setting_replaces_the_protocol_as_a_whole() -> None:
    synthetic = registry.datasets.create("synthetic")
    assert protocol_of(synthetic) == PAPER
    assert resolve_transform(PROTOCOL, PROTOCOL, synthetic) == PAPER
    assert resolve_transform(320, PROTOCOL, synthetic) == Transform(320, None)
    assert resolve_transform(PROTOCOL, None, synthetic) == Transform(256, None)
    assert resolve_transform(PROTOCOL, 200, synthetic) == Transform(256, 200)
    assert resolve_transform(None, None, synthetic) == Transform(None, None)
    assert resolve_transform(PROTOCOL, PROTOCOL) == Transform(256, None)


def test_what_data_sets_declare(root: Path) -> None:
    assert protocol_of(registry.datasets.create("mvtec", root=root)) == PAPER
    assert protocol_of(registry.datasets.create("folder", root=root)) is None
    (root / "01" / "train" / "ok").mkdir(parents=True)
    assert protocol_of(registry.datasets.create("btad", root=root)) == SQUARE


def test_a_protocol_that_is_none_is_refused() -> None:
    class Mine:
        name, protocol = "mine", 224

    with pytest.raises(InputError, match="protocol of mine is 224"):
        protocol_of(Mine())  # type: ignore[arg-type]


def test_the_suite_of_the_paper_has_its_transform() -> None:
    suite = Suite(**preset_settings("paper"))
    assert (suite.resize, suite.crop) == (256, 224)


def test_a_run_records_the_transform_that_was_used(root: Path) -> None:
    folder = {"data_root": str(root), **SMALL}
    assert transforms(Suite(**folder)) == {"strip": ((256, 960), None), "tile": ((256, 256), None)}
    assert transforms(Suite(**folder, resize=32)) == {"strip": ((32, 128), None), "tile": ((32, 32), None)}
    assert set(transforms(Suite(**folder, dataset="mvtec")).values()) == {(256, 224)}
    assert set(transforms(Suite(**folder, dataset="mvtec", crop="none", resize="32x48")).values()) == {((32, 48), None)}
    assert set(transforms(Suite(**folder, crop=200)).values()) == {(256, 200)}
    assert transforms(Suite(**folder, resize=32, backbones="resnet18", weights="none", layers="layer4"))["strip"] == (
        (32, 128),
        None,
    )


def test_the_grid_is_that_of_the_whole_folder(root: Path) -> None:
    for number in range(5):  # of ten images five are square: the lower median of width to height is 1
        Image.new("RGB", (32, 32)).save(root / "strip" / "train" / "good" / f"square{number}.png")
    plan = make_plan(Suite(data_root=str(root), categories="strip", train_sizes="2,4,all", resize=32, **SMALL))
    assert {run.config.resize for run in plan} == {(32, 32)}
    assert plan.notes == ("strip: 9 of 14 images have another aspect than 32x32: they are resized to it all the same",)


def test_members_of_an_ensemble_have_the_grid_of_the_coarsest_layer(root: Path) -> None:
    suite = Suite(
        data_root=str(root), categories="strip", ensemble="builtin+resnet18", layers="resnet18=layer4", resize=64,
        weights="resnet18=none", **SMALL,
    )  # fmt: skip
    for run in make_plan(suite):
        grids = {part.config.resize for part in run.parts}
        assert grids == {(64, 256) if run.members or run.config.backbone == "resnet18" else (64, 240)}


def bench(root: Path, store: Path, *options: str) -> str:
    small = ["--estimators", "diagonal", "--n-components", "8", "--no-gallery", "--no-cache"]
    result = CliRunner().invoke(
        main, ["bench", "--data-root", str(root), "--output", str(store), *small, *options], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_bench_says_what_it_looks_at_and_averages_over_grids(root: Path, tmp_path: Path) -> None:
    told = bench(root, tmp_path / "runs", "--resize", "32")
    assert "resize 32x128, crop none: looks at all of each image and all of the annotated area" in told
    documents = RunStore(tmp_path / "runs").read_done()
    seen = {document["config"]["category"]: document["coverage"] for document in documents}
    assert seen["strip"]["resize"] == [32, 128]
    assert (seen["strip"]["image_share"], seen["strip"]["annotated_share"]) == (1, 1)
    board = leaderboard(documents)
    assert list(board["category"]) == ["strip", "tile", "mean"]
    assert list(board["resize"]) == ["32x128", "32x32", None]
    again = bench(root, tmp_path / "runs", "--resize", "32")  # the runs are known under their grids
    assert len(RunStore(tmp_path / "runs").read_done()) == 2
    assert "32x128" in again
    told = bench(root, tmp_path / "cropped", "--resize", "32", "--crop", "32", "--categories", "strip")
    assert "resize 32, crop 32: looks at 27 % of each image and 0 % of the annotated area" in told


def test_a_defect_at_the_end_of_a_strip_is_found(root: Path, tmp_path: Path) -> None:
    bench(root, tmp_path / "runs", "--categories", "strip", "--resize", "32", "--sigma", "1")
    (document,) = RunStore(tmp_path / "runs").read_done()
    assert document["folds"][0]["image_auroc"] == 1


def test_commands_say_what_they_look_at(root: Path, tmp_path: Path) -> None:
    strip, model = root / "strip", tmp_path / "m.safetensors"

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    told = run("fit", "--data-root", strip, "--output", model, "--resize", "32", "--n-components", 8, "--resumable")
    assert "transform  resize 32x128, crop none\nlooks at   all of each image" in told
    whole = "resize 32x128, crop none: looks at all of each image and all of the annotated area"
    assert whole in run("evaluate", model, "--data-root", strip)
    report = json.loads(run("evaluate", model, "--data-root", strip, "--json"))
    assert (report["coverage"]["image_share"], report["coverage"]["annotated_share"]) == (1, 1)
    assert "resize 32x128, crop none: looks at all of each image" in run("predict", model, strip / "test")
    square = root / "tile" / "test" / "good"
    assert "2 of 2 images have another aspect than 32x128" in run("predict", model, square)
    told = run("update", model, strip / "test" / "good", "--output", tmp_path / "more.safetensors")
    assert "transform  resize 32x128, crop none\nlooks at   all of each image" in told
    assert "looks at all of each image" in run("export", model, "--format", "torch")
    told = run("data", "check", strip)
    assert "strip: resize 256x960, crop none: looks at all of each image and all of the annotated area" in told
    (checked,) = json.loads(run("data", "check", strip, "--json"))
    assert checked["coverage"]["annotated_share"] == 1

    cropped = tmp_path / "cropped.safetensors"
    told = run("fit", "--dataset", "mvtec", "--data-root", root, "--category", "strip", "--output", cropped,
               "--n-components", 8, "--estimator", "diagonal")  # fmt: skip
    assert "transform  resize 256, crop 224\nlooks at   20 % of each image" in told
    told = run("evaluate", cropped, "--data-root", strip)
    assert "resize 256, crop 224: looks at 20 % of each image and 0 % of the annotated area" in told
    strip_of_mvtec = ("--dataset", "mvtec", "--data-root", root, "--category", "strip")
    assert "not the protocol of mvtec" in run("evaluate", model, *strip_of_mvtec)
