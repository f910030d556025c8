"""The installed plugin is found, keeps the contract, and computes what the backbones that it takes compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import padim_zoo
from padim_zoo.plugin import Backbone, InputError, backbones, check_backbone

IMAGES = torch.rand(3, 3, 64, 80, generator=torch.Generator().manual_seed(0))


def difference(backbone: Backbone, name: str = "builtin") -> float:
    """From the backbone of torch in float32, relative to the largest value of a layer."""
    pairs = zip(backbone(IMAGES), backbones.create(name)(IMAGES), strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = np.clip(120 + 40 * np.sin(np.arange(72) / 4)[None, :, None] + rng.normal(0, 30, (64, 72, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_the_installed_package_registers_the_family() -> None:
    assert backbones.entry("openvino/builtin").source == "openvino"
    assert "openvino/builtin" in backbones.names("openvino/*")
    with pytest.raises(InputError, match="unknown backbone 'openvino/builtni': did you mean openvino/builtin"):
        backbones.create("openvino/builtni")


def test_it_keeps_the_contract() -> None:
    check_backbone("openvino/builtin", weights="none")


def test_float32_is_torchs() -> None:
    backbone = backbones.create("openvino/builtin")
    assert backbone.weights_hash == backbones.create("builtin").weights_hash
    assert difference(backbone) < 1e-5


def test_bfloat16_is_as_near_as_torchs() -> None:
    backbone = backbones.create("openvino/builtin").in_precision("bfloat16")
    assert 1e-4 < difference(backbone) < 0.03


def test_int8_needs_normal_images_and_is_kept_in_the_model(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    name = f"openvino/builtin(calibration={str(photos)!r}, resize=64, crop=64)"
    detector = padim_zoo.PaDiM(backbone=name, n_components=8, resize=64, crop=64).fit(str(photos))
    assert 1e-3 < difference(detector.build_backbone()) < 0.6  # random pixels are nothing that it was calibrated on
    detector.save(tmp_path / "model.safetensors", dtype="float32")
    expected = detector.predict(str(photos)).scores
    for photo in photos.iterdir():
        photo.rename(tmp_path / photo.name)  # the scales are in the file: no image is looked for
    loaded = padim_zoo.load(tmp_path / "model.safetensors")
    assert loaded.build_backbone().weights_hash == detector.build_backbone().weights_hash
    found = loaded.predict([tmp_path / f"{number}.png" for number in range(6)]).scores
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_nothing_to_calibrate_on_is_told(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    with pytest.raises(InputError, match="nowhere"):
        backbones.create(f"openvino/builtin(calibration={str(tmp_path / 'nowhere')!r})")
