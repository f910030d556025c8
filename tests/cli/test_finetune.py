"""``padim-zoo finetune``: weights that fit takes, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from safetensors import safe_open

import padim_zoo
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.registry import backbones
from tests.command_line import run


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data set of one category with 12 training images, and a broken test image that nobody may look at."""
    folder = tmp_path_factory.mktemp("data") / "stripes"
    rng = np.random.default_rng(0)
    rows, columns = np.indices((64, 64)) / 64
    for number in range(16):
        waves = np.sin(9 * columns + rng.uniform(0, 0.5))[..., None] * [60, 30, -40]
        image = np.clip(110 + waves + 60 * rows[..., None] + rng.normal(0, 2, (64, 64, 3)), 0, 255)
        path = folder / ("train" if number < 12 else "test") / "good" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(path)
    bad = folder / "test" / "cut" / "00.png"
    bad.parent.mkdir()
    bad.write_bytes(b"not an image")
    return folder.parent


SMALL = ("--resize", "none", "--crop", "none")
TRAINED = (*SMALL, "--method", "3-way", "--epochs", "3", "--learning-rate", "1e-3", "--train-batch", "4")


def header_of(weights: Path) -> dict[str, object]:
    with safe_open(weights, framework="pt") as file:
        header = json.loads(file.metadata()["padim_zoo_finetune"])
    assert isinstance(header, dict)
    return header


def loaded(weights: Path) -> Backbone:
    backbone = backbones.create("builtin", weights=str(weights))
    assert isinstance(backbone, Backbone)
    return backbone


@pytest.mark.parametrize("method", ["discriminants", "3-way"])
def test_the_weights_go_into_fit(root, tmp_path, method):
    weights, again = tmp_path / "my.safetensors", tmp_path / "again.safetensors"
    options = SMALL if method == "discriminants" else TRAINED
    told = run("finetune", "--data-root", root, "--output", weights, *options)
    assert ("epoch 1/3" in told) == (method == "3-way")
    assert "10 to learn from, 2 held out" in told
    assert "drawn defects in held-out normal images" in told
    header, shipped = header_of(weights), backbones.create("builtin")
    assert header["weights_hash"] == loaded(weights).weights_hash != header["source_hash"] == shipped.weights_hash
    assert header["weights_hash"] in told
    assert header["method"] == method
    assert header["backbone"] == "builtin"
    assert (header["images"], header["held_out_images"]) == (10, 2)
    # Held-out images choose the epoch of a training, and have no part in discriminants.
    assert len(header["adapted_to"]) == (10 if method == "discriminants" else 12)
    assert str(tmp_path) not in json.dumps(header)

    good = root / "stripes" / "train" / "good"
    told = run("fit", good, "--weights", weights, "--output", tmp_path / "m.safetensors", *SMALL)
    assert "12 normal images" in told
    run("finetune", good, "--output", again, *options)
    assert again.read_bytes() == weights.read_bytes()


def test_a_threshold_on_images_that_the_weights_have_seen_is_told(root, tmp_path):
    good = sorted((root / "stripes" / "train" / "good").iterdir())
    weights, model = tmp_path / "my.safetensors", tmp_path / "m.safetensors"
    run("finetune", *good[:8], "--output", weights, "--held-out", "0.25", *SMALL)
    copies = tmp_path / "copies"
    copies.mkdir()
    for number, path in enumerate(good):
        shutil.copy(path, copies / f"copy{number:02}.png")
    told = run("fit", copies, "--weights", weights, "--output", model, *SMALL)
    assert "Warning: the weights were adapted to 6 of the 12 normal images of this fit: the threshold's" in told
    test = tmp_path / "data" / "stripes" / "test"
    shutil.copytree(root / "stripes" / "test" / "good", test / "good")
    shutil.copytree(good[0].parent, test.parent / "train" / "good")
    (test / "cut").mkdir()
    for path in (test / "good").iterdir():
        with Image.open(path) as image:
            ImageOps.mirror(image).save(test / "cut" / path.name)
    told = run("evaluate", model, "--data-root", test.parents[1])
    assert "note: the weights were adapted to 6 of the 12 normal images of this fit" in told
    more = tmp_path / "more"
    more.mkdir()
    for path in good[8:]:
        with Image.open(path) as image:
            ImageOps.mirror(image).save(more / path.name)
    told = run("update", model, more, "--in-place")
    assert "adapted to 6 of the 16 normal images" in told
    assert "0 new of 8" in run("update", model, *good[:8], "--in-place")

    bench = ("bench", "--data-root", test.parents[1], "--estimators", "full", "--weights", weights, *SMALL)
    told = run(*bench, "--folds", "2", "--output", tmp_path / "runs")
    assert "my.safetensors was adapted to normal images of stripes (6 of 12)" in told
    assert "adapted to 6 of the 12 normal images" in " ".join(told.split())
    told = run(*bench, "--output", tmp_path / "runs-of-one-fold")  # whose threshold is that of fit
    assert "adapted to 6 of the 12 normal images" in " ".join(told.split())
    told = run("fit", *good[8:], "--weights", weights, "--output", model, *SMALL)
    assert "Warning" not in told
    assert padim_zoo.load(model).calibration_.caveat is None
    assert "Warning" not in run("fit", *good, "--output", model, *SMALL)


def test_a_checkpoint_is_no_part_of_the_result(root, tmp_path):
    good = root / "stripes" / "train" / "good"
    weights, again, checkpoint = (tmp_path / f"{name}.safetensors" for name in ("my", "again", "checkpoint"))
    told = run("finetune", good, "--output", weights, *TRAINED, "--checkpoint", checkpoint)
    assert "epoch 3/3" in told
    told = run("finetune", good, "--output", again, *TRAINED, "--checkpoint", checkpoint)
    assert "epoch" not in told.split("backbone")[0]
    assert again.read_bytes() == weights.read_bytes()


def test_bad_input_is_one_line_and_writes_nothing(root, tmp_path):
    output = tmp_path / "my.safetensors"

    def refused(message: str, *arguments: object, target: Path = output) -> None:
        told = run("finetune", "--output", target, *SMALL, *arguments, code=2)
        assert message in told, told
        assert len(told.strip().splitlines()) == 1, told
        assert not output.exists()

    good = root / "stripes" / "train" / "good"
    refused("neither images nor a data set")
    refused("both images and a data set", good, "--data-root", root)
    refused("unknown category 'strips': did you mean stripes?", "--data-root", root, "--categories", "strips")
    refused("holds test images", root / "stripes")
    refused("1 normal images are too few", good / "00.png")
    refused("expected a name that ends in .safetensors", good, target=tmp_path / "my.pth")
    refused("is a folder", good, target=tmp_path)
    refused("learning_rate is -1.0", good, *TRAINED, "--learning-rate", "-1")
    refused("train_batch is 0", good, *TRAINED, "--train-batch", "0")
    refused("unknown method '3way': did you mean 3-way?", good, "--method", "3way")
    refused("the method discriminants has no --epochs, --freeze", good, "--epochs", "3", "--freeze", "stem")
    refused("the method 3-way has no --components", good, "--method", "3-way", "--components", "3")
    refused("the backbone scattering cannot be trained", good, *TRAINED, "--backbone", "scattering")
    refused("is a folder or the output", good, "--checkpoint", tmp_path)
    refused("the weights file", good, "--weights", tmp_path / "none.safetensors")
    output.write_bytes(b"precious")
    told = run("finetune", good, "--output", output, *SMALL, code=2)
    assert "exists: name another file, or add --overwrite" in told
    assert output.read_bytes() == b"precious"
