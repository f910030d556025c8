"""Small categories that were once misread, with the figures that must come out: ``cases`` beside the shared data."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from padim_zoo.cli.main import main
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.transform import Transform
from padim_zoo.registry import datasets

TOLERANCE = 0.002
CONTROL = {"image_auroc": 1.0, "pixel_auroc": 0.9996, "pixel_ap": 0.9649, "aupro": 0.9986}


@pytest.fixture(scope="module")
def cases(shared: Path) -> Path:
    folder = shared / "cases"
    if not folder.is_dir():
        pytest.skip(f"needs the cases: {folder} is not there")
    return folder


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def fit(category: Path, output: Path) -> Path:
    options = ("--precision", "float32", "--resize", 256, "--crop", 224, "--no-cache")
    run("fit", category / "train" / "good", "--output", output, *options)
    return output


@pytest.fixture(scope="module")
def control(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(cases / "control", tmp_path_factory.mktemp("control") / "m.safetensors")


def evaluated(model: Path, category: Path, *options: object) -> tuple[dict[str, float], str]:
    """The metrics, and what is told on standard error."""
    result = run("evaluate", model, "--data-root", category, "--json", "--no-cache", *options)
    return json.loads(result.stdout), result.stderr


def assert_figures(figures: dict[str, float], expected: dict[str, float], tolerance: float = TOLERANCE) -> None:
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("case", "told", "tolerance"),
    [
        ("control", "", TOLERANCE),
        ("mask_jpeg", "4 masks have many gray levels", 0.005),
        ("mask_pages", "4 masks have several pages", TOLERANCE),
    ],
)
def test_masks_of_another_encoding(cases: Path, control: Path, case: str, told: str, tolerance: float) -> None:
    figures, messages = evaluated(control, cases / case)
    assert_figures(figures, CONTROL, tolerance)
    assert told in messages
    assert bool(messages) == bool(told)


def test_inverted_masks_are_told(cases: Path, control: Path) -> None:
    assert "4 masks mark most of the image" in evaluated(control, cases / "mask_inverted")[1]
    assert "4 masks mark most of the image" in run("data", "check", cases / "mask_inverted").stdout


@pytest.mark.parametrize("name", ["right.png", "alpha.png"])
def test_a_region_of_interest_in_alpha(cases: Path, control: Path, name: str) -> None:
    figures, _ = evaluated(control, cases / "control", "--roi", cases / "roi" / name)
    assert_figures(figures, {"pixel_auroc": 0.9993, "aupro": 0.9975})


@pytest.mark.parametrize(
    ("case", "options", "told", "expected"),
    [
        ("bits10", (), "", {"image_auroc": 1.0, "pixel_auroc": 0.985, "pixel_ap": 0.490, "aupro": 0.950}),
        ("alpha_clutter", (), "partly transparent", {"image_auroc": 1.0, "pixel_ap": 0.820, "aupro": 0.990}),
        ("exif_turned", (), "fit their image both as stored", {"pixel_auroc": 0.739, "aupro": 0.2145}),
        (
            "exif_turned",
            ("--mask-orientation", "stored"),
            "",
            {"pixel_auroc": 0.9995, "pixel_ap": 0.952, "aupro": 0.998},
        ),
        ("thin_scratch", (), "", {"pixel_auroc": 0.985, "pixel_ap": 0.902, "aupro": 0.738}),
        ("thin_scratch", ("--mask-resize", "nearest"), "", {"pixel_auroc": 0.9942, "aupro": 0.4815}),
    ],
)
def test_figures_of_a_case(
    cases: Path, tmp_path: Path, case: str, options: tuple[str, ...], told: str, expected: dict[str, float]
) -> None:
    figures, messages = evaluated(fit(cases / case, tmp_path / "m.safetensors"), cases / case, *options)
    assert_figures(figures, expected)
    assert told in messages
    assert bool(messages) == bool(told)


def test_white_as_zero_scores_the_same(cases: Path, control: Path) -> None:
    lines = run("predict", control, cases / "white_is_zero").stdout.splitlines()[1:]
    assert len({line.split(",")[1] for line in lines}) == 1


def test_a_png_with_long_text_is_fitted(cases: Path, tmp_path: Path) -> None:
    assert (
        "on 10 normal images"
        in run("fit", cases / "png_long_text" / "train" / "good", "--output", tmp_path / "m.safetensors").output
    )


@pytest.mark.parametrize(
    ("case", "rule", "regions"),
    [
        ("loco_touching", "area", {2}),
        ("loco_touching", "nearest", {2}),
        ("thin_scratch", "area", {1}),
        ("thin_scratch", "nearest", {1, 31, 41}),
    ],
)
def test_regions_of_each_image(cases: Path, case: str, rule: str, regions: set[int]) -> None:
    (category,) = (
        dataset.load(name)
        for dataset in [datasets.create("folder", root=cases / case)]
        for name in dataset.categories()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = masks(category.test, Transform(256, None), rule=rule)
    assert {len(np.unique(mask)) - 1 for mask in loaded if mask is not None} == regions
