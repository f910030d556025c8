"""Corruptions: exact amounts against literal forms, strict reading, the same on every call, cached features aside."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from padim_zoo import InputError
from padim_zoo.data.augmentation import AS_IT_IS
from padim_zoo.data.corruptions import CORRUPTIONS, CorruptedFile, Corruption, canonical_corruptions, parse_corruptions
from padim_zoo.data.loading import batches, mixed_batches
from padim_zoo.data.transform import Transform


@pytest.fixture
def image(smooth_image: Callable[[int, int], np.ndarray]) -> np.ndarray:
    return smooth_image(40, 60)


def literal_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """The sum over a window of four deviations, pixel by pixel, mirrored at the edge."""
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    padded = np.pad(image.astype(float), ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    blurred = np.zeros(image.shape)
    for row, column in np.ndindex(*image.shape[:2]):
        window = padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        blurred[row, column] = np.einsum("ijc,i,j->c", window, weights, weights)
    return blurred


def test_light_is_changed_by_exact_factors(image: np.ndarray) -> None:
    brighter = Corruption("brightness", 0.2).apply(image)
    np.testing.assert_array_equal(brighter, np.rint(image * 1.2).clip(0, 255))
    assert Corruption("brightness", -0.5).apply(image).mean() == pytest.approx(image.mean() / 2, abs=0.3)
    mean = image.mean()
    np.testing.assert_array_equal(
        Corruption("contrast", -0.25).apply(image), np.rint(mean + 0.75 * (image - mean)).clip(0, 255)
    )


def test_blur_is_a_gaussian(image: np.ndarray) -> None:
    np.testing.assert_allclose(Corruption("blur", 1.5).apply(image), literal_blur(image, 1.5), atol=0.51)


def test_jpeg_is_that_of_pillow(image: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=30)
    np.testing.assert_array_equal(Corruption("jpeg", 30).apply(image), np.asarray(Image.open(buffer)))


def test_noise_has_its_deviation_and_is_the_same_every_time() -> None:
    gray = np.full((80, 80, 3), 128, dtype=np.uint8)
    noisy = Corruption("noise", 0.02).apply(gray)
    assert (noisy - 128.0).std() == pytest.approx(255 * 0.02, rel=0.03)
    np.testing.assert_array_equal(noisy, Corruption("noise", 0.02).apply(gray.copy()))
    assert (noisy != Corruption("noise", 0.02).apply(gray + 1) - 1).any()


def test_moves_go_by_the_exact_amount(image: np.ndarray) -> None:
    moved = Corruption("translate", 0.1).apply(image).astype(int)  # Pillow interpolates in steps of a gray level
    np.testing.assert_allclose(moved[4:, 6:], image[:-4, :-6], atol=1)
    np.testing.assert_allclose(moved[:4, 6:], image[:4, :-6][::-1], atol=1)  # mirrored beyond the edge
    square = image[:, :40]
    np.testing.assert_allclose(Corruption("rotate", 90).apply(square).astype(int), np.rot90(square), atol=1)
    np.testing.assert_allclose(Corruption("rotate", -90).apply(square).astype(int), np.rot90(square, -1), atol=1)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_every_corruption_keeps_the_size_and_the_image_it_was_given(image: np.ndarray, name: str) -> None:
    image.setflags(write=False)
    before = image.copy()
    changed = Corruption(name, {"jpeg": 5, "rotate": 4, "blur": 2}.get(name, 0.3)).apply(image)
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert (changed != before).any()
    np.testing.assert_array_equal(image, before)


def test_reading() -> None:
    text = " blur( 4,1, 2.0),jpeg(30), brightness(-0.2,0.2) "
    assert parse_corruptions("corruptions", text) == (
        *(Corruption("blur", amount) for amount in (1, 2, 4)),
        Corruption("jpeg", 30),
        *(Corruption("brightness", amount) for amount in (-0.2, 0.2)),
    )
    assert canonical_corruptions("corruptions", text) == "blur(1,2,4),jpeg(30),brightness(-0.2,0.2)"
    assert [str(one) for one in parse_corruptions("corruptions", "rotate(2.50)")] == ["rotate(2.5)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fog(1)", r"has 'fog\(1\)': expected brightness\(…\), contrast\(…\), .*rotate\(…\), comma-separated"),
        ("", "has '': expected brightness"),
        ("blur", r"has 'blur': expected blur\(sigma in pixels, a number from 0 to 32, not 0\)"),
        ("blur()", "has 'blur\\(\\)': expected blur"),
        ("blur(0)", "not 0"),
        ("blur(nan)", "has 'blur\\(nan\\)'"),
        ("blur(1,,2)", "several are separated by ,"),
        ("jpeg(30.5)", "quality, a whole number from 1 to 95"),
        ("jpeg(100)", "quality, a whole number from 1 to 95"),
        ("brightness(1)", "from -0.9 to 0.9"),
        ("blur(1),jpeg(5),blur(2)", "has blur twice: give all amounts at once"),
        (3, "is 3: expected text"),
    ],
)
def test_what_is_refused(text: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_corruptions("corruptions", text)


def test_a_file_is_corrupted_after_its_resize_and_before_its_crop(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    transform, corruption = Transform((20, 30), (16, 16)), Corruption("translate", 0.1)
    [batch] = batches([CorruptedFile(path, corruption)], transform, 2)
    expected = transform.cropped(corruption.apply(transform.resized(image)))
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("text", ["brightness(0.2)", "contrast(-0.3)", "blur(1.5)", "jpeg(30)", "noise(0.03)"])
def test_an_amount_means_the_same_in_finer_pixels(text: str) -> None:
    """Reduced again, they are what is made of the pixels that were asked for."""
    [corruption] = parse_corruptions("corruptions", text)
    rng = np.random.default_rng(1)
    fine = (110 + 300 * gaussian_filter(rng.normal(size=(80, 120, 3)), (3, 3, 0))).clip(0, 255).astype(np.uint8)
    halves = fine.reshape(40, 2, 60, 2, 3).mean((1, 3)).round().astype(np.uint8)
    expected = corruption.apply(halves).astype(float)
    found = corruption.apply(fine, 2).reshape(40, 2, 60, 2, 3).mean((1, 3))
    assert np.abs(expected - halves).mean() > 1.5
    assert np.abs(found - expected).mean() < 0.6


@pytest.mark.parametrize("size", [(60, 90), (20, 30), (16, 24)])  # finer, as asked for, smaller
def test_a_file_is_corrupted_in_the_pixels_that_it_has(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    asked, corruption = Transform((20, 30), (16, 16)), Corruption("blur", 1)
    [batch] = batches([CorruptedFile(path, corruption)], replace(asked, finer=2), 2)
    if size == (60, 90):
        finer = np.asarray(Image.fromarray(image).resize((60, 40), Image.Resampling.BILINEAR))
        expected = Corruption("blur", 2).apply(finer)
    else:
        expected = corruption.apply(asked.resized(image)).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), expected[4:36, 14:46])


def test_features_of_the_file_as_it_is_are_not_taken_for_it(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)

    def lookup(path: Path) -> None:
        raise AssertionError("looked up")

    files = [CorruptedFile(path, Corruption("blur", 2))]
    [batch] = mixed_batches(files, Transform(None, None), 2, AS_IT_IS, lookup=lookup)
    assert batch.paths == [None]  # nor are its own kept under that name
