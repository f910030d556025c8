"""Resize and crop within a network against those of images, which are Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from padim_zoo.data.transform import Transform
from padim_zoo.export.pixels import Pixels


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def in_network(transform: Transform, image: np.ndarray) -> np.ndarray:
    pixels = Pixels(transform, image.shape[:2])(torch.from_numpy(image)[None])[0] * 255
    return pixels.permute(1, 2, 0).round().numpy()


@pytest.mark.parametrize(
    ("transform", "size"),
    [
        (Transform(64, 48), (160, 128)),
        (Transform(40, 40), (160, 160)),  # coefficients of few bits
        (Transform((50, 61), None), (97, 131)),
        (Transform(96, 80), (64, 70)),  # larger, halves in plenty
        (Transform((64, 90), (33, 90)), (64, 200)),  # rows keep their length
        (Transform(None, 40), (64, 51)),
        (Transform(None, None), (20, 30)),
    ],
)
def test_resize_and_crop_are_pillows_to_the_byte(transform: Transform, size: tuple[int, int]) -> None:
    image = noise(*size)
    np.testing.assert_array_equal(in_network(transform, image), transform.image(image))


def test_torchs_antialiased_resize_is_further_away() -> None:
    """Why the resize is not left to the runtimes: without Pillow's rounding in between, many pixels differ."""
    image = noise(160, 128)
    expected = Transform((64, 64), None).image(image).astype(float)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    other = interpolate(batch, (64, 64), mode="bilinear", antialias=True)[0].permute(1, 2, 0).round().numpy()
    assert (other != expected).mean() > 0.05
    assert np.abs(other - expected).max() <= 1


def test_images_after_the_transform_are_scaled_only() -> None:
    image = noise(30, 40)
    pixels = Pixels(Transform(256, 224))(torch.from_numpy(image)[None])
    assert torch.equal(pixels[0], torch.from_numpy(image).permute(2, 0, 1).float() / 255)
