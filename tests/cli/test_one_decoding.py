"""A cold ``fit`` decodes each image once, and so does ``evaluate``; what is told of files is told again when kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from padim_zoo.cli.main import main
from padim_zoo.data import image as image_files
from padim_zoo.data.decoding import Picture

SMALL, LARGE = (48, 48), (600, 600)
"""The larger images are kept by the image cache."""

OPTIONS = ("--resize", 40, "--crop", "none")


def draw(path: Path, seed: int, size: tuple[int, int], mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize(size).convert(mode).save(path)


def make_images(root: Path, size: tuple[int, int]) -> Path:
    """A category of eight images to fit, two to test that are copies of these, and eight others."""
    for seed in range(8):
        draw(root / "train" / "good" / f"{seed}.png", seed, size)
    for seed in range(2, 10):
        draw(root / "test" / "good" / f"{seed}.png", seed if seed < 4 else 100 + seed, size)
    for seed in range(2):
        draw(root / "test" / "bad" / f"{seed}.png", 200 + seed, size)
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was decoded as an image."""
    counts: Counter[str] = Counter()
    original = image_files.picture_of

    def count(image: Image.Image, name: str) -> Picture:
        counts[name] += 1
        return original(image, name)

    monkeypatch.setattr(image_files, "picture_of", count)
    return counts


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def times(decoded: Counter[str], folder: Path) -> set[int]:
    return {decoded[str(path)] for path in folder.rglob("*.png")}


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("options", "of_fit"),
    [((), {1}), (("--fpr", 0.3), {1}), (("--no-cache",), {1}), (("--no-cache", "--groups", r"(\d)\.png"), {1})],
)
def test_how_often_a_cold_fit_and_evaluate_decode(
    tmp_path: Path, decoded: Counter[str], size: tuple[int, int], options: Sequence[Any], of_fit: set[int]
) -> None:
    root, model = make_images(tmp_path / "images", size), tmp_path / "m.safetensors"
    run("fit", root / "train" / "good", "-o", model, *OPTIONS, *options)
    assert times(decoded, root / "train") == of_fit
    decoded.clear()
    told = run("evaluate", model, "--data-root", root, *[option for option in options if option == "--no-cache"])
    assert "2 of 10 test images are left out" in told.stdout
    assert max(times(decoded, root / "test")) == 1
    if "--no-cache" in options:  # near copies are looked for among the images of the fit
        assert times(decoded, root / "train") == {1}
    else:
        assert decoded.total() == 8  # features of the two copies are there


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_notes_are_told_whatever_cache_answers(tmp_path: Path, decoded: Counter[str], size: tuple[int, int]) -> None:
    folder, model = tmp_path / "images", tmp_path / "m.safetensors"
    for seed in range(4):
        draw(folder / f"{seed}.png", seed, size)
    for seed in range(2):
        path = folder / f"{seed}.tif"
        draw(path, 10 + seed, size, "CMYK")
    commands = [("fit", folder, "-o", model, "--resize", 40, "--crop", crop) for crop in (32, 32, 24)]
    commands += [("predict", model, folder)] * 2
    for command in commands:
        told = run(*command).stderr
        assert "Warning: 2 images are CMYK: they are converted to RGB without their color profile" in told
        assert "0.tif" in told
    assert max(decoded.values()) == (1 if size == LARGE else 2)  # another crop has other features


def test_benchmarks_tell_notes_again(tmp_path: Path, decoded: Counter[str]) -> None:
    root = make_images(tmp_path / "images", SMALL)
    for name in ("train/good/0", "test/bad/0"):
        draw(root / f"{name}.png", 300 + len(name), SMALL)
        with Image.open(root / f"{name}.png") as image:
            rgba = np.dstack([np.asarray(image), np.full(SMALL, 255, np.uint8)])
        rgba[0, 0, 3] = 0
        Image.fromarray(rgba).save(root / f"{name}.png")
    for output in ("one", "other"):
        options = ("--estimators", "full", "--output", tmp_path / output, "--quiet", "--normal", root / "train")
        told = run("bench", *options, "--abnormal", root / "test" / "bad", *OPTIONS).stderr
        assert "Warning: 2 images are partly transparent" in told
