"""Trimming leaves out the images that a literal loop of fits leaves out, and gives the fit on the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from padim_zoo import SPADE, InputError, PaDiM, PatchCore
from padim_zoo.cli.main import main
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.trimming import trim_images
from tests.image_files import write_images

OPTIONS: dict[str, Any] = {"resize": None, "crop": None, "precision": "float32"}
DEFECTS = [3, 11]


def drawn(count: int, side: int) -> np.ndarray:
    """Stripes with noise, two with a spot."""
    rng = np.random.default_rng(0)
    stripes = 110 + 40 * np.sin(np.arange(side) / 3)[None, None, :, None]
    images = np.clip(stripes + rng.normal(0, 6, (count, side, side, 3)), 0, 255).astype(np.uint8)
    images[DEFECTS, side * 5 // 16 : side * 5 // 8, side * 3 // 8 : side * 11 // 16] = 250
    return images


IMAGES = drawn(20, 32)


def literally(kind: Any, options: dict[str, Any], count: int) -> list[int]:
    """Concentration steps by fits alone: every image is scored by a fit on those that stay, without itself."""
    n, detector = len(IMAGES), kind(**OPTIONS, **options)
    features = detector.extract_normal(IMAGES)
    stays, before = list(range(n)), []
    while stays not in before:
        before.append(stays)
        scores = []
        for image in range(n):
            detector.fit_features(features.images([one for one in stays if one != image]))
            scores.append(detector.predict_features(features.images([image])).scores[0])
        stays = sorted(np.argsort(scores)[: n - count].tolist())
    return sorted(set(range(n)) - set(stays))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PaDiM, {"n_components": 30}),
        (PaDiM, {"n_components": 6, "estimator": "diagonal"}),
        (PaDiM, {"n_components": 6, "tta": "flip"}),
        (PatchCore, {"coreset_ratio": 1.0}),
        (SPADE, {}),
    ],
)
def test_the_images_that_go_are_those_of_a_loop_of_fits(kind: Any, options: dict[str, Any]) -> None:
    count = 4
    detector = kind(**OPTIONS, **options).fit(IMAGES)
    trimmed = trim_images(detector, count / len(IMAGES))
    assert trimmed.images.tolist() == literally(kind, options, count)
    if kind is PaDiM:  # two alike vouch for each other where patches of any position do
        assert set(DEFECTS) <= set(trimmed.images.tolist())
    assert trimmed.share == count / len(IMAGES)
    rest = np.delete(np.arange(len(IMAGES)), trimmed.images)
    refit = kind(**OPTIONS, **options).fit(IMAGES[rest])
    np.testing.assert_allclose(detector.predict(IMAGES).scores, refit.predict(IMAGES).scores, rtol=1e-5)
    assert detector.n_images_ == len(rest)
    assert detector.calibrate().threshold == pytest.approx(refit.calibrate().threshold, rel=1e-5)


def test_suspects_go_and_clean_images_stay() -> None:
    detector = PaDiM(**OPTIONS, n_components=6, estimator="diagonal").fit(drawn(24, 64))
    assert trim_images(detector, "auto").images.tolist() == DEFECTS
    again = trim_images(detector, "auto")
    assert len(again.images) == 0
    assert detector.n_images_ == 22


def test_moments_and_few_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"there are 8 normal images: expected 10 or more to trim 0\.2 of them"):
        trim_images(PaDiM(**OPTIONS, n_components=6).fit(IMAGES[:8]), 0.2)
    detector = PaDiM(**OPTIONS, n_components=6).fit(IMAGES)
    before = detector.predict(IMAGES).scores
    for share in (0.0, 0.5, "some"):
        with pytest.raises(InputError, match="the share to trim is"):
            trim_images(detector, share)
    np.testing.assert_array_equal(detector.predict(IMAGES).scores, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(IMAGES, tmp_path / "normal")


def test_the_command_names_what_it_leaves_out(folder: Path, tmp_path: Path) -> None:
    options = ["--resize", "none", "--n-components", "30", "--no-cache", "--precision", "float32"]
    model = tmp_path / "model"
    fitted = CliRunner().invoke(main, ["fit", str(folder), "-o", str(model), *options, "--trim", "0.1"])
    assert fitted.exit_code == 0, fitted.output
    assert "trimmed    2 of 20 images" in fitted.stdout
    assert "03.png" in fitted.stdout
    assert "11.png" in fitted.stdout
    assert "the threshold promises its rate and 0.1 more" in fitted.stdout
    assert "on 18 normal images" in fitted.stdout
    rest = np.delete(np.arange(len(IMAGES)), DEFECTS)
    refit = PaDiM(**OPTIONS, n_components=30).fit(IMAGES[rest])
    np.testing.assert_allclose(load(model).predict(IMAGES).scores, refit.predict(IMAGES).scores, rtol=1e-3)


@pytest.mark.parametrize("share", ["0", "0.5", "-1", "most"])
def test_a_share_that_is_none(share: str, folder: Path, tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["fit", str(folder), "-o", str(tmp_path / "model"), "--trim", share])
    assert refused.exit_code == 2
    assert f"--trim is {share}: expected a number above 0 and below 0.5" in refused.stderr


def test_a_shard_is_not_trimmed(folder: Path, tmp_path: Path) -> None:
    options = ["-o", str(tmp_path / "model"), "--trim", "auto", "--shard", "1/2"]
    refused = CliRunner().invoke(main, ["fit", str(folder), *options])
    assert refused.exit_code == 2
    assert "--shard excludes --trim" in refused.stderr
