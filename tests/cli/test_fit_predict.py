"""From normal images to a model, scores, pictures and figures, on the command line."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import padim_zoo
from padim_zoo.cli.main import main
from padim_zoo.data import duplicates
from padim_zoo.data.synthetic import generate
from padim_zoo.metrics import METRICS
from padim_zoo.report.picture_folder import picture_names

FIT = ["--resize", "none", "--crop", "none", "--n-components", "20"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def printed(*arguments: object) -> str:
    """What a command writes to standard output alone."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refuse(*arguments: object) -> str:
    """Run a command that has to fail with exit code 2 and one line; returns that line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    lines = result.output.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.fixture(scope="module")
def gear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One category of small synthetic images: 12 normal ones to fit, 3 normal and 5 anomalous ones to test."""
    root = tmp_path_factory.mktemp("synthetic")
    generate(root, categories=["gear"], train=12, good=3, defects_per_kind=1, size=64)
    return root / "gear"


@pytest.fixture(scope="module")
def model(gear: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    succeed("fit", gear / "train" / "good", "-o", path, *FIT)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- fit ---------------------------------------------------------------------------------------------------------------


def test_fit_says_what_it_did(gear: Path, tmp_path: Path) -> None:
    output = succeed("fit", gear / "train" / "good", "-o", tmp_path / "m.safetensors", *FIT)
    assert "on 12 normal images" in output
    assert "16 × 16, of 20 dimensions" in output
    assert "at most 0.0769 (the least that 12 images can promise)" in output
    assert (tmp_path / "m.safetensors").is_file()


def test_fit_is_the_python_api(gear: Path, model: Path) -> None:
    paths = sorted((gear / "train" / "good").iterdir())
    detector = padim_zoo.PaDiM(resize=None, crop=None, n_components=20).fit(paths)
    detector.calibrate()
    expected = detector.predict([gear / "test" / "crack" / "000.png"])
    found = padim_zoo.load(model).predict([gear / "test" / "crack" / "000.png"])
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    assert found.threshold == expected.threshold


@pytest.mark.parametrize(
    "images",
    [["--data-root", "{gear}"], ["--data-root", "{gear}/..", "--category", "gear"], ["{gear}/train/good/*.png"]],
)
def test_fit_takes_data_sets_and_globs(gear: Path, tmp_path: Path, images: Sequence[str]) -> None:
    arguments = [argument.format(gear=gear) for argument in images]
    assert "on 12 normal images" in succeed("fit", *arguments, "-o", tmp_path / "m.safetensors", *FIT)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--seed", "-1", "seed is -1"),
        ("--seed", "99999999999", "seed is 99999999999"),
        ("--sigma", "nan", "sigma is nan"),
        ("--sigma", "inf", "sigma is inf"),
        ("--sigma", "1e9", "expected at most 64"),
    ],
)
def test_fit_refuses_numbers_that_mean_nothing(gear: Path, tmp_path: Path, option: str, value: str, words: str) -> None:
    images = gear / "train" / "good"
    assert words in refuse("fit", images, "-o", tmp_path / "m.safetensors", *FIT, option, value)
    assert list(tmp_path.iterdir()) == []


def test_fit_of_a_single_image_has_no_threshold(gear: Path, tmp_path: Path) -> None:
    image = gear / "train" / "good" / "000.png"
    assert "threshold  none" in succeed("fit", image, "-o", tmp_path / "m.safetensors", *FIT)
    assert padim_zoo.load(tmp_path / "m.safetensors").predict([image]).threshold is None


def test_a_resumable_model_goes_on_with_more_images(gear: Path, tmp_path: Path) -> None:
    images = sorted((gear / "train" / "good").iterdir())
    few = ["--resize", "none", "--crop", "none", "--n-components", "4", "--reduction", "orthogonal", "--resumable"]
    succeed("fit", *images[:8], "-o", tmp_path / "m.safetensors", *few)
    continued = padim_zoo.load(tmp_path / "m.safetensors").partial_fit(images[8:])
    whole = padim_zoo.PaDiM(resize=None, crop=None, n_components=4, reduction="orthogonal").fit(images)
    np.testing.assert_allclose(continued.predict(images).scores, whole.predict(images).scores, rtol=1e-5)


def test_memory_that_is_too_little_is_refused(gear: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    line = refuse("fit", gear / "train" / "good", "-o", output, *FIT, "--memory", "2KB")
    assert "does not fit the memory allowed, 2 KB: allow more (--memory)" in line
    assert not output.exists()
    assert "--memory is 'lots': expected a size" in run("fit", gear, "-o", output, "--memory", "lots").output
    without_unit = run("fit", gear, "-o", output, "--memory", "3")
    assert without_unit.exit_code == 2
    assert "--memory is 3, which means bytes: write a unit, e.g. 3GB" in without_unit.output


def test_fit_refuses_a_rate_that_the_images_cannot_promise(gear: Path, tmp_path: Path) -> None:
    line = refuse("fit", gear / "train" / "good", "-o", tmp_path / "m.safetensors", "--fpr", "0.01", *FIT)
    assert "needs at least 99 normal images, found 12" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{gear}"], "holds test images"),
        ([], "neither images nor a data set"),
        (["{gear}/train/good", "--data-root", "{gear}"], "both images and a data set"),
        (["{gear}/nothing"], "does not exist"),
        (["{gear}/*.jpg"], "matches nothing"),
        (["{gear}/train/good", "--backbone", "resnet81"], "did you mean resnet18"),
        (["{gear}/train/good", "--estimator", "ful"], "did you mean full"),
        (["{gear}/train/good", "--detector", "padin"], "did you mean padim"),
        (["{gear}/train/good", "--weights", "nowhere.pth"], "nowhere.pth"),
        (["{gear}/train/good", "--resize", "huge"], "HEIGHTxWIDTH"),
        (["{gear}/train/good", "--crop", "500"], "larger than the image"),
        (["{gear}/train/good", "--n-components", "10000"], "10000"),
        (["{gear}/train/good", "--device", "abacus"], "abacus"),
    ],
)
def test_fit_tells_mistakes_in_one_line(gear: Path, tmp_path: Path, arguments: Sequence[str], message: str) -> None:
    formatted = [argument.format(gear=gear) for argument in arguments]
    assert message in refuse("fit", *formatted, "-o", tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_one_of_several_categories_has_to_be_chosen(gear: Path, tmp_path: Path) -> None:
    for name in ("cog", "gear"):
        shutil.copytree(gear / "train", tmp_path / name / "train")
    line = refuse("fit", "--data-root", tmp_path, "-o", tmp_path / "m.safetensors")
    assert "folder has 2 categories: choose --category, one of cog, gear" in line


# -- predict -----------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_model(gear: Path, model: Path, tmp_path: Path) -> None:
    succeed("predict", model, gear / "test", "-o", tmp_path, "--maps", "npy")
    rows = read_csv(tmp_path / "scores.csv")
    paths = sorted((gear / "test").rglob("*.png"))
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    prediction = padim_zoo.load(model).predict(paths)
    np.testing.assert_array_equal(np.array([row["score"] for row in rows], dtype=np.float32), prediction.scores)
    assert [row["anomalous"] == "true" for row in rows] == list(prediction.anomalous)
    maps = [np.load(tmp_path / "maps" / path.relative_to(gear / "test").with_suffix(".npy")) for path in paths]
    np.testing.assert_array_equal(maps, prediction.maps)


def test_batch_size_changes_no_score(gear: Path, model: Path) -> None:
    first, second = (
        json.loads(printed("predict", model, gear / "test", "--format", "json", "--batch-size", size))
        for size in (1, 8)
    )
    np.testing.assert_allclose([row["score"] for row in first], [row["score"] for row in second], rtol=1e-4)


def test_threshold_can_be_given(gear: Path, model: Path) -> None:
    rows = json.loads(printed("predict", model, gear / "test" / "good", "--format", "json", "--threshold", "0"))
    assert all(row["anomalous"] and row["threshold"] == 0 for row in rows)


def test_format_follows_the_name_of_the_file(gear: Path, model: Path, tmp_path: Path) -> None:
    succeed("predict", model, gear / "test" / "good", "--scores", tmp_path / "scores.json")
    assert len(json.loads((tmp_path / "scores.json").read_text())) == 3


def test_broken_image_is_a_row_and_the_others_go_on(gear: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(gear / "test" / "good", tmp_path / "images")
    (tmp_path / "images" / "001.png").write_bytes(b"no image")
    Image.new("RGB", (50, 80)).save(tmp_path / "images" / "002.png")
    result = run("predict", model, tmp_path / "images", "-o", tmp_path / "out", "--pictures", "overlay")
    assert result.exit_code == 1
    rows = read_csv(tmp_path / "out" / "scores.csv")
    assert [bool(row["error"]) for row in rows] == [False, True, True]
    assert [bool(row["score"]) for row in rows] == [True, False, False]
    assert "001.png" in rows[1]["error"]
    assert [path.name for path in (tmp_path / "out" / "overlay").iterdir()] == ["000.png"]


def test_an_image_that_is_too_large_is_a_row(
    gear: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of few bytes and a thousand million pixels; in every command that reads images."""
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))  # features that are kept need no image
    shutil.copytree(gear / "test" / "good", tmp_path / "images")
    Image.new("1", (32_000, 32_000)).save(tmp_path / "images" / "bomb.png")
    result = run("predict", model, tmp_path / "images", "--format", "json")
    assert result.exit_code == 1
    errors = {row["path"]: row["error"] for row in json.loads(result.stdout) if row["error"]}
    assert list(errors) == [str(tmp_path / "images" / "bomb.png")]
    assert "has 1,024,000,000 pixels: at most 100,000,000 are read" in errors[str(tmp_path / "images" / "bomb.png")]
    assert "--max-pixels" in result.stderr
    side = Image.open(next((gear / "test" / "good").iterdir())).size[0]
    least = ("--max-pixels", side**2)
    most = ("--max-pixels", side**2 - 1)
    succeed("predict", model, gear / "test" / "good", *least)
    data = ("--data-root", gear.parent, "--category", gear.name)
    for command in [
        ("predict", model, gear / "test" / "good"),
        ("evaluate", model, *data, "--no-cache"),
        ("fit", gear / "train" / "good", "-o", tmp_path / "other.safetensors", "--no-cache"),
        ("finetune", gear / "train" / "good", "-o", tmp_path / "weights.safetensors"),
        ("update", model, gear / "test" / "good", "-o", tmp_path / "other.safetensors"),
        ("data", "check", gear.parent),
        ("bench", *data[:2], "--categories", gear.name, "-o", tmp_path / "runs", "--no-cache", "--estimators", "full"),
    ]:
        result = run(*command, *most)
        assert result.exit_code in (1, 2), (command, result.output)
        assert f"at most {side**2 - 1:,} are read" in result.output, (command, result.output)


def test_pictures_of_all_kinds(gear: Path, model: Path, tmp_path: Path) -> None:
    kinds = ["heatmap", "overlay", "boundary", "highlight", "frame", "panel"]
    succeed("predict", model, gear / "test", "-o", tmp_path, "--pictures", ",".join(kinds))
    for kind in kinds:
        pictures = sorted((tmp_path / kind).rglob("*.png"))
        assert len(pictures) == 8
        width, height = Image.open(pictures[0]).size
        assert {"panel": 4 * 64 < width < 5 * 64, "frame": 64 < width < height}.get(kind, (width, height) == (64, 64))
    assert not list(tmp_path.rglob(".*"))


def test_one_color_scale_for_all_images(gear: Path, model: Path, tmp_path: Path) -> None:
    image = gear / "test" / "good" / "000.png"
    succeed("predict", model, image, "-o", tmp_path / "alone", "--pictures", "heatmap")
    succeed("predict", model, gear / "test", "-o", tmp_path / "all", "--pictures", "heatmap")
    alone = np.asarray(Image.open(tmp_path / "alone" / "heatmap" / "000.png")).astype(int)
    among = np.asarray(Image.open(tmp_path / "all" / "heatmap" / "good" / "000.png")).astype(int)
    assert np.abs(alone - among).max() <= 4  # batches of another size may round to the next color


def test_pictures_of_equal_names_do_not_collide(gear: Path, model: Path, tmp_path: Path) -> None:
    image = gear / "test" / "good" / "000.png"
    for name in ("a/000.png", "b/000.png", "b/000.PNG.png", "b/000.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(image).save(tmp_path / name)
    succeed("predict", model, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--maps", "npy")
    assert len(list((tmp_path / "out" / "maps").rglob("*.npy"))) == 4


def test_nothing_is_written_outside_of_the_output(gear: Path, model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a/b", "c/d"):
        Path(folder).mkdir(parents=True)
        Image.open(gear / "test" / "good" / "000.png").save(Path(folder) / "000.png")
    before = Path("c/d/000.png").read_bytes()
    options = ("--pictures", "overlay", "--maps", "npy", "-o", "out")
    succeed("predict", model, "a/b/../../c/d/000.png", "a/b/000.png", *options)
    assert {path.parts[0] for path in Path().rglob("*.npy")} == {"out"}
    assert Path("c/d/000.png").read_bytes() == before
    assert len(list(Path().rglob("*.png"))) == 4


@pytest.mark.parametrize(("images", "output"), [("in", "in"), ("in", "in/out"), ("in/overlay/000.png", "in")])
def test_pictures_do_not_become_images_of_the_next_run(
    images: str, output: str, gear: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in", "overlay").mkdir(parents=True)
    Image.open(gear / "test" / "good" / "000.png").save("in/overlay/000.png")
    result = CliRunner().invoke(main, ["predict", str(model), images, "--pictures", "overlay", "-o", output])
    assert result.exit_code == 2, result.output
    assert "would be images of the next run" in result.output
    assert len(list(Path().rglob("*.png"))) == 1


def test_picture_names_are_unique_in_any_case() -> None:
    paths = [Path(path) for path in ("x/A.png", "x/a.png", "x/a.jpg", "x/a-2.png", "y/a.png")]
    names = picture_names(paths)
    assert len({str(name).casefold() for name in names}) == len(paths)
    assert names[0] == Path("x/A")
    assert names[4] == Path("y/a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{model}", "{gear}/test", "--pictures", "overlay"], "add --output DIR"),
        (["{model}", "{gear}/test", "--threshold", "nan"], "finite"),
        (["{model}", "{gear}/test", "--threshold", "-5", "--pictures", "overlay", "-o", "{out}"], "higher one"),
        (["{model}", "{gear}/nothing"], "does not exist"),
        (["{gear}/nothing", "{gear}/test"], "nothing"),
        (["{gear}/test/good/000.png", "{gear}/test"], "padim-zoo fit"),
    ],
)
def test_predict_tells_mistakes_in_one_line(
    gear: Path, model: Path, tmp_path: Path, arguments: Sequence[str], message: str
) -> None:
    out = tmp_path / "out"
    assert message in refuse("predict", *(part.format(gear=gear, model=model, out=out) for part in arguments))
    assert not out.exists()


def test_unknown_kind_of_picture_is_a_usage_error(gear: Path, model: Path, tmp_path: Path) -> None:
    result = run("predict", model, gear / "test", "-o", tmp_path, "--pictures", "oil")
    assert result.exit_code == 2
    assert "heatmap, overlay, boundary, highlight, frame or panel" in result.output


def test_alpha_and_colormap_change_overlays(gear: Path, model: Path, tmp_path: Path) -> None:
    image = gear / "test" / "good" / "000.png"
    arguments = ["predict", model, image, "-o", tmp_path, "--pictures", "overlay,heatmap"]
    succeed(*arguments, "--alpha", "0")
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "overlay" / "000.png")), np.asarray(Image.open(image))
    )
    succeed(*arguments, "--colormap", "gray")
    heat = np.asarray(Image.open(tmp_path / "heatmap" / "000.png"))
    assert (heat == heat[..., :1]).all()
    assert "did you mean gray" in refuse(*arguments, "--colormap", "grayy")


def test_a_detector_without_maps_draws_frames_alone(gear: Path, tmp_path: Path) -> None:
    saved = tmp_path / "whole.safetensors"
    succeed(
        "fit",
        gear / "train" / "good",
        "-o",
        saved,
        "--detector",
        "mahalanobis-ad",
        *["--resize", "64", "--crop", "none"],
    )
    arguments = ["predict", saved, gear / "test" / "good", "-o", tmp_path / "out"]
    assert "leave overlay out of --pictures" in refuse(*arguments, "--pictures", "overlay,frame")
    assert not (tmp_path / "out").exists()
    succeed(*arguments, "--pictures", "frame")
    assert len(list((tmp_path / "out" / "frame").iterdir())) == 3


# -- evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluate_judges_the_test_images(gear: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", model, "--data-root", gear]
    found = json.loads(succeed(*arguments, "--json", "-o", tmp_path, "--pictures", "panel"))
    assert (found["category"], found["normal_images"], found["anomalous_images"]) == ("gear", 3, 5)
    assert found["image_auroc_low"] <= found["image_auroc"] <= found["image_auroc_high"]
    assert 0 < found["aupro"] <= 1
    own, best = found["thresholds"]
    detector = padim_zoo.load(model)
    scores = detector.predict(sorted((gear / "test" / "good").iterdir())).scores
    assert own["false_alarms"]["count"] == (scores > own["score"]).sum()
    assert best["false_alarms"]["of"] == 3
    assert best["detections"]["of"] == 5
    assert len(list((tmp_path / "panel").rglob("*.png"))) == 8
    table = succeed(*arguments)
    assert "image AUROC" in table
    assert f"{own['detections']['count']} of 5" in table


def test_evaluate_takes_the_bounds_of_aupimo(gear: Path, model: Path) -> None:
    arguments = ["evaluate", model, "--data-root", gear, "--json"]
    usual, own = (json.loads(succeed(*arguments, *more)) for more in ((), ("--aupimo-bounds", "0.002,0.1")))
    assert usual["aupimo"] is None
    assert usual["aupimo_bounds"] == [1e-5, 1e-4]
    assert own["aupimo_bounds"] == [0.002, 0.1]
    assert 0 < own["aupimo"] <= 1
    assert any("false positive rates from 0.002 to 0.1" in note for note in own["notes"])
    refused = refuse(*arguments, "--aupimo-bounds", "0.1,0.002")
    assert "--aupimo-bounds is 0.1,0.002: expected two rising false positive rates, such as 1e-5,1e-4" in refused


def test_evaluate_without_test_images_says_so(gear: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(gear / "train", tmp_path / "gear" / "train")
    assert "has no test images" in refuse("evaluate", model, "--data-root", tmp_path / "gear")


def test_evaluate_without_masks_gives_image_figures(gear: Path, model: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        shutil.copytree(gear / part, tmp_path / "gear" / part)
    found = json.loads(succeed("evaluate", model, "--data-root", tmp_path / "gear", "--json"))
    assert found["image_auroc"] is not None
    assert found["aupro"] is None
    assert any("mask" in note for note in found["notes"])


def test_figures_of_an_evaluation_as_files(model: Path, gear: Path, tmp_path: Path) -> None:
    told = json.loads(printed("evaluate", model, "--data-root", gear, "--no-cache", "-o", tmp_path / "out", "--json"))
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == told
    rows = {row["figure"]: row for row in read_csv(tmp_path / "out" / "figures.csv")}
    for name in METRICS:
        assert float(rows[name]["value"] or "nan") == pytest.approx(
            math.nan if told[name] is None else told[name], nan_ok=True
        )
    assert float(rows["image_auroc"]["low"]) == told["image_auroc_low"]
    assert float(rows["detections"]["value"]) == told["thresholds"][0]["detections"]["rate"]
    (tmp_path / "file").write_text("")
    assert "is a file" in refuse("evaluate", model, "--data-root", gear, "--no-cache", "-o", tmp_path / "file")


def test_metrics_without_masks_are_not_listed(model: Path, gear: Path, tmp_path: Path) -> None:
    shutil.copytree(gear / "test", tmp_path / "gear" / "test")
    shutil.copytree(gear / "train", tmp_path / "gear" / "train")
    told = succeed("evaluate", model, "--data-root", tmp_path / "gear", "--no-cache")
    assert "image AUROC" in told
    assert "AUPIMO" not in told
    assert "AUPIMO" in succeed("evaluate", model, "--data-root", gear, "--no-cache")
    assert "near copies" not in told


def test_near_copies_of_learned_images_are_told(model: Path, gear: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gear"
    shutil.copytree(gear, folder)
    for index, path in enumerate(sorted((folder / "train" / "good").iterdir())[:2]):
        brighter = np.asarray(Image.open(path)).astype(int) + 2
        Image.fromarray(brighter.clip(0, 255).astype(np.uint8)).save(folder / "test" / "good" / f"again{index}.png")
    told = json.loads(printed("evaluate", model, "--data-root", folder, "--no-cache", "--json"))
    assert told["near_copies_of_learned_images"] == 2
    assert any("2 of" in note and "near copies of images that the model has learned" in note for note in told["notes"])
    # Of images that the model has not learned a copy is none.
    other = tmp_path / "other.safetensors"
    succeed("fit", *sorted((gear / "train" / "good").iterdir())[2:], "-o", other, *FIT)
    told = json.loads(printed("evaluate", other, "--data-root", folder, "--no-cache", "--json"))
    assert told["near_copies_of_learned_images"] == 0


def test_near_copies_of_images_elsewhere_are_not_counted_as_none(model: Path, gear: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gear"
    shutil.copytree(gear, folder)
    for path in (folder / "train" / "good").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    told = json.loads(printed("evaluate", model, "--data-root", folder, "--no-cache", "--json"))
    assert told["near_copies_of_learned_images"] is None
    assert any("none of them is among the training images" in note for note in told["notes"])


def test_near_copies_among_too_many_images_are_not_counted_as_none(
    model: Path, gear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = (len(list((gear / part).rglob("*.png"))) for part in ("train", "test"))
    monkeypatch.setattr(duplicates, "MOST_IMAGES", train + test - 1)
    told = json.loads(printed("evaluate", model, "--data-root", gear, "--no-cache", "--json"))
    assert told["near_copies_of_learned_images"] is None
    assert any("near copies of learned images are not looked for" in note for note in told["notes"])


def test_an_evaluation_says_that_a_threshold_was_set_by_hand(model: Path, gear: Path, tmp_path: Path) -> None:
    other = tmp_path / "m.safetensors"
    succeed("calibrate", model, "--threshold", 40, "-o", other)
    told = json.loads(printed("evaluate", other, "--data-root", gear, "--json"))
    assert told["thresholds"][0]["threshold_for"] == "set by hand"
    told = json.loads(printed("evaluate", model, "--data-root", gear, "--json"))
    assert told["thresholds"][0]["threshold_for"] == "false-alarm rate"
