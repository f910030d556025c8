"""What a command would write is refused before the work, where it cannot be or would overwrite what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from padim_zoo.cli.main import main

OPTIONS = ("--resize", "none", "--crop", "none", "--n-components", "4", "--no-cache")


def refused(*arguments: object, code: int = 2) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def content(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(9):
        picture = random.integers(80, 160, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "file").write_text("a file")
    refused("fit", "images", "-o", "m.safetensors", *OPTIONS, code=0)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "x", "--report", "x"], "--report x is the same file as --output"),
        (["-o", "images/0.png"], "--output images/0.png is the same file as an image that is read"),
        (["-o", "x", "--report", "images"], "--report images is a folder"),
        (["-o", "x", "--report", "file/sheet.html"], "--report file/sheet.html cannot be"),
        (["-o", "file/new/x"], "--output file/new/x cannot be"),
        (["-o", "x", "--region-area", "4"], "has no effect without --region-fpr"),
        (["-o", "x", "--region-fpr", "0.2", "--region-area", "5"], "--region-area is 5: expected one of 1, 4, 16"),
        (["-o", "x", "--decide-by", "region"], "there is no region threshold to decide by"),
        (["-o", "x", "--shard", "1/2", "--region-fpr", "0.2"], "a shard has no threshold"),
        (["-o", "x", "--shard", "1/2", "--decide-by", "pixel"], "a shard has no threshold"),
        (["-o", "x", "--trim", "0.4"], "there are 9 normal images: expected 14 or more to trim 0.4 of them"),
        (["-o", "x", "--trim", "0.1", "--fpr", "0.1"], "needs at least 9 normal images, found 8"),
    ],
)
def test_fit_refuses_before_it_fits(root, monkeypatch, options, words):
    before = content(root)
    monkeypatch.setattr("padim_zoo.detectors.backbone_detector.BackboneDetector.fit", None)
    assert words in refused("fit", "images", *options, *OPTIONS)
    assert content(root) == before


@pytest.mark.parametrize("options", [["--region-fpr", "0.2"], ["--decide-by", "region"], ["--decide-by", "pixel"]])
def test_a_detector_without_maps_has_one_threshold(root, monkeypatch, options):
    monkeypatch.setattr("padim_zoo.detectors.backbone_detector.BackboneDetector.fit", None)
    told = refused("fit", "images", "-o", "x", "--resize", "none", "--detector", "mahalanobis-ad", *options)
    assert "a detector that makes no maps" in told


@pytest.mark.parametrize("options", [["--trim", "auto"], ["--report", "r.html"]])
def test_a_dry_run_refuses_what_its_fit_would(root, options):
    few = [f"images/{n}.png" for n in range(3)]
    assert "expected 8 or more to say which stand out" in refused("fit", *few, "--dry-run", *options, *OPTIONS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "m.safetensors", "--data-root", ".", "-o", ""], "--output is empty: expected a path"),
        (["evaluate", "", "--data-root", "."], "MODEL is empty: expected a path"),
        (["predict", "m.safetensors", ""], "a path of images is empty: expected an image file"),
        (["fit", "", "-o", "x"], "a path of images is empty: expected an image file"),
        (["data", "suspects", ""], "FOLDER is empty: expected a path"),
        (["leaderboard", "", "--corruptions"], "RUNS is empty: expected a path"),
    ],
)
def test_an_empty_path_is_not_the_folder_at_hand(root, words, told):
    before = content(root)
    assert told in refused(*words)
    assert content(root) == before


def test_too_few_images_for_a_sheet_leave_no_model(root):
    told = refused("fit", *[f"images/{n}.png" for n in range(3)], "-o", "x", "--report", "r.html", *OPTIONS)
    assert "there are 3 normal images: expected 8 or more" in told
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate", "0"], "--rate is 0.0"),
        (["--rate", "nan"], "--rate is nan"),
        (["--estimator", "nope"], "unknown estimator 'nope'"),
        (["-o", "images/1.png"], "the same file as an image that is read"),
        (["-o", "file/x.html"], "--output file/x.html cannot be"),
    ],
)
def test_suspects_are_refused_before_features(root, monkeypatch, options, words):
    before = content(root)
    monkeypatch.setattr("padim_zoo.cli.suspects._cost_of_features", None)
    assert words in refused("data", "suspects", "images", *options)
    assert content(root) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--regions", "m.safetensors"], "--regions m.safetensors is the same file as MODEL"),
        (["--scores", "./m.safetensors"], "--scores m.safetensors is the same file as MODEL"),
        (["--scores", "x.json", "--regions", "x.json"], "--regions x.json is the same file as --scores"),
        (["-o", "out", "--regions", "out/scores.csv"], "--regions out/scores.csv is the same file as --scores"),
        (["--scores", "images/0.png"], "--scores images/0.png is the same file as an image that is read"),
        (["--regions", "images"], "--regions images is a folder"),
        (["--regions", "file/x.json"], "--regions file/x.json cannot be"),
        (["--regions", "-"], "--regions is -"),
        (["-o", "file"], "file is a file; expected a folder"),
        (["-o", "file/new", "--maps", "npy"], "file is a file; expected a folder"),
        (["-o", "file", "--maps", "npy", "--scores", "-"], "file is a file; expected a folder"),
        (["-o", ""], "--output is empty: expected a path"),
    ],
)
def test_predict_overwrites_nothing_that_it_reads(root, options, words):
    before = content(root)
    assert words in refused("predict", "m.safetensors", "images", *options)
    assert content(root) == before


@pytest.mark.parametrize("option", ["--history", "--output"])
def test_check_overwrites_no_baseline(root, option):
    told = refused("check", "runs", "--baseline", "base.json", option, "base.json")
    assert f"{option} base.json is the same file as --baseline" in told


@pytest.mark.parametrize("option", ["--shard=1/2", "--print-sbatch=2"])
def test_a_cluster_takes_no_shards(root, option):
    assert "--cluster divides the work" in refused("bench", "--cluster", "local", option)


def test_a_parameter_of_others_is_named_with_them(root):
    told = refused("fit", "images", "-o", "x", "--detector", "mahalanobis-ad", "--score", "max")
    assert "detector 'mahalanobis-ad' has no parameter 'score', for it makes no maps: leave it out, or take" in told
    assert "__init__" not in told
    told = refused("fit", "images", "-o", "x", "--detector", "padim(radius=1)")
    assert "detector 'padim(radius=1)' has no parameter 'radius': leave it out, or take patchcore" in told


def test_a_trim_that_is_quiet_tells_no_cost(root):
    arguments = ("fit", "images", "-o", "trimmed.safetensors", "--trim", "auto", *OPTIONS)
    assert "leave-one-out of 9 images takes" in refused(*arguments, code=0)
    assert "leave-one-out" not in refused(*arguments, "--quiet", code=0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "m.safetensors", "images", "--format", "xml"),
        ("predict", "m.safetensors", "images", "--no-such-option"),
        ("predict",),
        ("no-such-command",),
    ],
)
def test_a_mistake_in_the_usage_gets_one_line(root, arguments):
    told = refused(*arguments)
    assert told.startswith("Error: ")
    assert told.count("\n") == 1


def test_scores_that_go_nowhere_are_refused(root):
    assert "--scores is empty" in refused("predict", "m.safetensors", "images", "--scores", "")


def test_one_normal_image_is_one(root):
    told = refused("fit", "images/0.png", "-o", "x", "--trim", "auto", *OPTIONS)
    assert "there is 1 normal image: expected 8 or more" in told


def test_all_broken_images_share_one_advice(root):
    for name in ("0", "3"):
        path = Path("images", f"{name}.png")
        path.write_bytes(path.read_bytes()[:200])
    told = refused("fit", "images", "-o", "x", *OPTIONS)
    assert "2 of 9 images cannot be read" in told
    assert (told.count("replace or remove"), told.count("\n")) == (1, 1)


def test_nobody_is_told_to_delete_a_file_that_is_no_run(root):
    Path("images", "labels.json").write_text("{}")
    told = refused("leaderboard", "images")
    assert "images holds no run" in told
    assert "delete" not in told
