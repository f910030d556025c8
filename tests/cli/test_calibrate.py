"""``padim-zoo calibrate``: another threshold of a saved model, without a fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import padim_zoo
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.recalibration import calibrate_file
from padim_zoo.detectors.storage import open_detector
from padim_zoo.metrics.conformal import conformal_threshold
from tests.command_line import run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(14):
        Image.fromarray(rng.integers(80, 160, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(images: Path) -> Path:
    path = images / "model.safetensors"
    run("fit", *sorted(images.glob("*.png")), "-o", path, "--resize", "none", "--crop", "none")
    return path


def test_another_rate_comes_from_the_scores_that_the_file_holds(model: Path, tmp_path: Path) -> None:
    before, new = open_detector(model), tmp_path / "new.safetensors"
    told = json.loads(run("calibrate", model, "--fpr", "0.3", "-o", new, "--json"))
    after = open_detector(new)
    scores = before.tensors["calibration.scores"].numpy()
    assert told["threshold"] == conformal_threshold(scores, 0.3)
    assert told["above"] == int((scores > told["threshold"]).sum())
    assert told["false_alarm_rate"] == 0.3
    assert not told["set_by_hand"]
    assert padim_zoo.load(new).threshold_ == told["threshold"]
    content = {name: value for name, value in after.header.items() if name != "calibration"}
    assert content == {name: value for name, value in before.header.items() if name != "calibration"}


def test_a_threshold_by_hand_is_told_and_goes_into_an_export(images: Path, model: Path, tmp_path: Path) -> None:
    new, exported = tmp_path / "new.safetensors", tmp_path / "model.pt2"
    assert "1.5, set by hand" in run("calibrate", model, "--threshold", "1.5", "-o", new)
    assert "1.5, set by hand" in run("show", new)
    assert json.loads(run("show", new, "--json"))["set_by_hand"]
    detector = padim_zoo.load(new)
    assert detector.threshold_ == 1.5
    assert detector.calibration_.false_alarm_rate is None
    assert detector.recalibrate().threshold == padim_zoo.load(model).threshold_
    run("export", model, "--format", "torch", "--threshold", "2.5", "-o", exported, "--images", images / "0.png")
    assert "2.5, set by hand" in run("show", exported)


def test_nothing_is_replaced_unless_told_to(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(model.read_bytes())
    assert "nothing: give --output" in run("calibrate", own, "--threshold", "2")
    assert "is the model itself" in run("calibrate", own, "--threshold", "2", "-o", own, code=2)
    assert own.read_bytes() == model.read_bytes()
    run("calibrate", own, "--threshold", "2", "--in-place")
    assert padim_zoo.load(own).threshold_ == 2


def test_another_model_is_not_overwritten(images: Path, model: Path, tmp_path: Path) -> None:
    other, text, again = (tmp_path / name for name in ("other.safetensors", "notes.txt", "again.safetensors"))
    run("fit", *sorted(images.glob("*.png")), "-o", other, "--resize", "none", "--crop", "none", "--sigma", "2")
    text.write_text("notes")
    for path in (other, text):
        before = path.read_bytes()
        assert "name another file" in run("calibrate", model, "--threshold", "2", "-o", path, code=2)
        assert path.read_bytes() == before
    for threshold in (2, 3):
        run("calibrate", model, "--threshold", threshold, "-o", again)
    assert padim_zoo.load(again).threshold_ == 3


def test_the_fit_is_told_beside_the_new_command(model: Path, tmp_path: Path) -> None:
    of_fit = json.loads(run("show", model, "--json"))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    run("calibrate", model, "--threshold", "2", "-o", first)
    run("calibrate", first, "--threshold", "3", "-o", second)
    told = json.loads(run("show", second, "--json"))
    assert told["command"].startswith("padim-zoo calibrate")
    assert (told["fit"], told["data"]) == (of_fit["command"], of_fit["data"])
    assert "fit        padim-zoo fit" in run("show", second)
    by_hand = tmp_path / "by-hand.safetensors"
    padim_zoo.load(model).save(by_hand)
    third = tmp_path / "third.safetensors"
    calibrate_file(by_hand, third, threshold=4)
    assert json.loads(run("show", third, "--json"))["fit"].startswith("version ")


def test_an_ensemble_keeps_a_threshold_by_hand(images: Path, model: Path, tmp_path: Path) -> None:
    other, both = tmp_path / "other.safetensors", tmp_path / "both.safetensors"
    run("fit", *sorted(images.glob("*.png")), "-o", other, "--resize", "none", "--crop", "none", "--sigma", "2")
    run("combine", model, other, "-o", both)
    run("calibrate", both, "--threshold", "3", "--in-place")
    assert padim_zoo.load(both).threshold_ == 3
    run("calibrate", both, "--fpr", "0.5", "--in-place")
    assert padim_zoo.load(both).calibration_.false_alarm_rate == 0.5


def test_mistakes_are_one_line(model: Path, tmp_path: Path) -> None:
    assert "at least 0.0667" in run("calibrate", model, "--fpr", "0.01", code=2)
    assert "exclude each other" in run("calibrate", model, "--fpr", "0.1", "--threshold", "3", code=2)
    assert "finite number" in run("calibrate", model, "--threshold", "nan", code=2)
    assert "is not a file" in run("calibrate", tmp_path / "none", code=2)


def test_without_scores_only_a_threshold_by_hand(model: Path) -> None:
    detector = padim_zoo.load(model)
    detector.calibration_ = None
    with pytest.raises(InputError, match="holds no out-of-fold scores"):
        detector.recalibrate()
    detector.threshold_ = 4
    assert detector.calibration_.false_alarm_rate is None
    with pytest.raises(InputError, match="no out-of-fold scores"):
        detector.recalibrate()


def test_the_function_needs_no_output(model: Path) -> None:
    before = model.read_bytes()
    assert calibrate_file(model, threshold=7).threshold == 7
    assert model.read_bytes() == before
