"""The transform is torchvision's on PIL images, byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.data.transform import Transform, parse_size

lengths = st.integers(1, 40)
sizes = st.none() | lengths | st.tuples(lengths, lengths)


def torchvision_transform(image: Image.Image, transform: Transform, nearest: bool) -> np.ndarray:
    modes = torchvision.transforms.InterpolationMode
    if transform.resize is not None:
        mode = modes.NEAREST if nearest else modes.BILINEAR
        image = torchvision.transforms.Resize(transform.resize, interpolation=mode)(image)
    if transform.crop is not None:
        image = torchvision.transforms.CenterCrop(transform.crop)(image)
    return np.asarray(image)


@settings(deadline=None)
@given(height=lengths, width=lengths, resize=sizes, crop=sizes)
def test_equal_to_torchvision(height: int, width: int, resize: object, crop: object) -> None:
    transform = Transform(resize, crop)  # type: ignore[arg-type]
    try:
        size = transform.output_size(height, width)
    except InputError:
        assume(False)
    random = np.random.default_rng(height * 100 + width)
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = random.random((height, width)) < 0.3

    result = transform.image(image)
    assert result.shape == (*size, 3)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, torchvision_transform(Image.fromarray(image), transform, nearest=False))

    result = transform.mask(mask, "nearest")
    assert result.dtype == bool
    expected = torchvision_transform(Image.fromarray(mask.astype(np.uint8)), transform, nearest=True)
    np.testing.assert_array_equal(result, expected.astype(bool))


@pytest.mark.parametrize(
    ("transform", "size", "expected"),
    [
        (Transform(256, 224), (1024, 1024), (224, 224)),
        (Transform(256, None), (1024, 700), (374, 256)),  # 374.49 and not 375
        (Transform(256, None), (700, 1024), (256, 374)),
        (Transform((100, 50), None), (9, 9), (100, 50)),
        (Transform(None, None), (9, 8), (9, 8)),
        (Transform(None, (3, 4)), (9, 8), (3, 4)),
    ],
)
def test_output_size(transform: Transform, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert transform.output_size(*size) == expected


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"crop 224x224 is larger than the image, which is 300x200 .* smaller crop"):
        Transform(200, 224).image(np.zeros((300, 200, 3), np.uint8))
    with pytest.raises(InputError, match=r"crop 10x8 .* after the resize 9x9"):
        Transform((9, 9), (10, 8)).output_size(100, 100)


@settings(deadline=None)
@given(resize=sizes, crop=sizes)
def test_dict_round_trip_through_json(resize: object, crop: object) -> None:
    transform = Transform(resize, crop)  # type: ignore[arg-type]
    assert Transform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


@pytest.mark.parametrize("size", [0, -1, True, 2.5, "256", (1, 2, 3), (1,), (0, 4), ()])
def test_sizes_that_are_refused(size: object) -> None:
    with pytest.raises(InputError, match=r"resize is .*: expected an integer from 1"):
        Transform(resize=size, crop=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="crop is"):
        Transform(resize=None, crop=size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "size"), [("256", 256), (" 256x320 ", (256, 320)), ("256X320", (256, 320)), ("none", None), ("None", None)]
)
def test_parse_size(text: str, size: object) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-3", "2.5", "256x", "x256", "0x4", "1x2x3", "big", "²"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(InputError, match="expected N, HEIGHTxWIDTH"):
        parse_size(text)


@pytest.mark.parametrize(("resize", "crop"), [(24, None), ((20, 31), None), (24, (15, 18)), (None, 13)])
def test_finer_pixels_lie_within_those_that_were_asked_for(resize, crop):
    image = np.random.default_rng(0).integers(0, 255, (90, 131, 3), dtype=np.uint8)
    asked = Transform(resize, crop)
    finer = replace(asked, finer=2)
    rows, columns = asked.resized_size(90, 131)
    assert finer.resized_size(90, 131) == (2 * rows, 2 * columns)
    top, left, bottom, right = asked.crop_box(rows, columns)
    resampling = Image.Resampling.NEAREST if resize is None else Image.Resampling.BILINEAR  # it has no finer ones
    large = np.asarray(Image.fromarray(image).resize((2 * columns, 2 * rows), resampling))
    np.testing.assert_array_equal(finer.image(image), large[2 * top : 2 * bottom, 2 * left : 2 * right])
    assert asked.to_dict() == finer.to_dict()
