"""10 to 16 bits in 16-bit samples: what is assumed, and that a model keeps it."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import padim_zoo
from padim_zoo import PaDiM
from padim_zoo.core.errors import InputError
from padim_zoo.data import png
from padim_zoo.data.bit_depth import DEPTHS, largest_of
from padim_zoo.data.decoding import may_be_deep
from padim_zoo.data.image import read_image, to_image
from padim_zoo.data.opening import open_image
from padim_zoo.data.pixel_limit import pixels_limited
from padim_zoo.data.training_depth import counts_of_images
from padim_zoo.detectors.detector import Detector
from tests.data.test_read_image import write_png_deep

SIDE = 48


def levels(seed: int) -> np.ndarray:
    """A picture of 8 bits with levels up to 250."""
    return np.random.default_rng(seed).integers(0, 251, (SIDE, SIDE), dtype=np.uint8)


def in_bits(picture: np.ndarray, depth: int) -> np.ndarray:
    """The same picture of more bits, as a camera shifts it."""
    return picture.astype(np.uint16) << (depth - 8)


def write(folder: Path, depth: int, count: int = 8, suffix: str = ".png", first: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02}{suffix}" for number in range(first, first + count)]
    for number, path in enumerate(paths, start=first):
        Image.fromarray(in_bits(levels(number), depth) if depth > 8 else levels(number)).save(path)
    return paths


def small(**options: object) -> PaDiM:
    return PaDiM(n_components=8, resize=None, crop=None, precision="float32", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def as_8(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    paths = write(tmp_path_factory.mktemp("as8"), 8)
    return small().fit(paths).predict(paths).scores


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("depth", [10, 12, 14])
def test_auto_gives_the_scores_of_8_bits(tmp_path: Path, depth: int, suffix: str, as_8: np.ndarray) -> None:
    paths = write(tmp_path, depth, suffix=suffix)
    with pytest.warns(
        UserWarning, match=rf"normal images hold {depth} bits.*white is {largest_of(depth)}; set --bit-depth"
    ):
        detector = small().fit(paths)
    np.testing.assert_allclose(detector.predict(paths).scores, as_8, rtol=1e-6)
    np.testing.assert_allclose(small(bit_depth=depth).fit(paths).predict(paths).scores, as_8, rtol=1e-6)
    assert detector.describe_fit()["bit depth"] == f"{depth}, white is {largest_of(depth)}"


def test_arrays_in_memory_are_looked_at_too(as_8: np.ndarray) -> None:
    stack = np.stack([in_bits(levels(number), 10) for number in range(8)])
    for images in (list(stack), np.stack([stack] * 3, axis=3), [torch.from_numpy(image) for image in stack]):
        with pytest.warns(UserWarning, match="hold 10 bits"):
            detector = small().fit(images)
        np.testing.assert_allclose(detector.predict(images).scores, as_8, rtol=1e-6)


def test_saturated_pixels_do_not_decide(tmp_path: Path) -> None:
    paths = write(tmp_path, 10)
    for path in paths:
        picture = np.array(Image.open(path))
        picture[0, 0], picture[5, 5] = 65535, 4000
        Image.fromarray(picture).save(path)
    assert counts_of_images(paths).depth == 10
    picture[:4] = 65535
    Image.fromarray(picture).save(paths[0])
    assert counts_of_images(paths).depth == 16


def test_the_training_images_alone_decide(tmp_path: Path) -> None:
    train, test = write(tmp_path / "train", 10), write(tmp_path / "test", 12, count=2)
    with pytest.warns(UserWarning, match="hold 10 bits"):
        detector = small().fit(train)
    with pytest.warns(UserWarning, match=r"^2 images have brighter samples than the bit depth of the model"):
        detector.predict(test)
    with pytest.warns(UserWarning, match="hold 12 bits"):
        of_12 = small().fit(write(tmp_path / "train12", 12))
    with pytest.warns(UserWarning, match=r"^8 images use fewer bits than the bit depth of the model"):
        of_12.predict(train)


def test_dark_images_beside_bright_ones_are_no_other_depth(tmp_path: Path) -> None:
    paths = write(tmp_path, 12)
    Image.fromarray(in_bits(levels(0), 12) // 16).save(paths[0])
    with pytest.warns(UserWarning, match="hold 12 bits"):
        detector = small().fit(paths)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.predict(paths)


def test_a_file_that_is_replaced_is_looked_at_again(tmp_path: Path) -> None:
    (path,) = write(tmp_path, 10, 1, ".tif")
    before = path.stat()
    assert counts_of_images([path]).depth == 10
    write(tmp_path, 12, 1, ".tif")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as tools restore it
    assert path.stat().st_size == before.st_size
    assert counts_of_images([path]).depth == 12


def test_a_file_that_was_too_large_is_looked_at_under_another_limit(tmp_path: Path) -> None:
    paths = write(tmp_path, 12)
    with pixels_limited(10):
        assert counts_of_images(paths).total == 0
    assert counts_of_images(paths).depth == 12


def test_a_model_keeps_its_depth(tmp_path: Path) -> None:
    paths = write(tmp_path, 10)
    with pytest.warns(UserWarning, match="hold 10 bits"):
        detector = small().fit(paths)
    detector.save(tmp_path / "m.safetensors", resumable=True)
    loaded = padim_zoo.load(tmp_path / "m.safetensors")
    assert loaded.transform.bit_depth == 10
    np.testing.assert_allclose(loaded.predict(paths).scores, detector.predict(paths).scores, rtol=1e-6)
    assert loaded.features_key == detector.features_key != small(bit_depth=12).features_key

    more = write(tmp_path / "more", 12, first=8)
    assert isinstance(loaded, PaDiM)
    with pytest.raises(InputError, match="the images hold 12 bits, and those of the fit 10"):
        loaded.partial_fit(more)
    with pytest.warns(UserWarning, match="hold 12 bits"):
        other = small().fit(more)
    with pytest.raises(InputError, match=r"the detectors differ in bit depth \(10, 12\)"):
        loaded.merge(other)


def test_an_export_says_the_depth(tmp_path: Path) -> None:
    from padim_zoo.export.exporting import describe

    with pytest.warns(UserWarning, match="hold 10 bits"):
        detector = small().fit(write(tmp_path, 10))
    assert describe(detector, "", "float32", (SIDE, SIDE), False)["transform"]["bit_depth"] == 10


def test_a_depth_that_is_too_small_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, 12)
    with pytest.raises(InputError, match="bit_depth is 10, but the normal images have samples of 12 bits"):
        small(bit_depth="10").fit(paths)
    for wrong in (9, "9", "full", True, None):
        with pytest.raises(InputError, match=r"bit_depth is .*: expected auto, 8, 10, 12, 14, 16"):
            small(bit_depth=wrong).fit(paths)


def test_another_depth_drops_the_fit(tmp_path: Path) -> None:
    paths = write(tmp_path, 10)
    detector: Detector = small(bit_depth=12).fit(paths)
    assert detector.transform.bit_depth == 12
    detector.set_params(bit_depth=10)
    with pytest.raises(InputError, match="not fitted"):
        detector.predict(paths)


# -- what files state -------------------------------------------------------------------------------------------------


def dark(depth: int) -> np.ndarray:
    """A picture of which the samples alone would say 8 bits."""
    return np.random.default_rng(0).integers(0, 200, (SIDE, SIDE), dtype=np.uint16) + (depth == 16) * 60000


def write_tif_12_bit(path: Path, samples: np.ndarray) -> None:
    """A TIFF of 12 bits per sample, packed."""
    pairs = samples.reshape(-1, 2).astype(np.uint32)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    pixels = packed.astype(np.uint8).tobytes()
    height, width = samples.shape
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8 + 2 + 12 * 9 + 4), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0\0\0\0"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + pixels)


def test_what_a_file_states_counts_first(tmp_path: Path) -> None:
    write_png_deep(tmp_path / "sbit.png", dark(12)[:, :, None], (b"sBIT", bytes([12])))
    Image.fromarray(dark(12)).save(tmp_path / "largest.tif", tiffinfo={281: 4095})
    write_tif_12_bit(tmp_path / "packed.tif", dark(12))
    for path in sorted(tmp_path.iterdir()):
        assert counts_of_images([path]).depth == 12, path
        np.testing.assert_array_equal(read_image(path)[:, :, 0], np.rint(dark(12) / 16).astype(np.uint8))
    Image.fromarray(dark(12)).save(tmp_path / "silent.png")
    assert counts_of_images(tmp_path / "silent.png").depth == 8


def test_what_samples_contradict_does_not_count(tmp_path: Path) -> None:
    """A PNG of 12 significant bits has them scaled to 16, by its specification."""
    write_png_deep(tmp_path / "sbit.png", dark(16)[:, :, None], (b"sBIT", bytes([12])))
    assert counts_of_images(tmp_path / "sbit.png").depth == 16


@pytest.mark.parametrize("depth", DEPTHS)
def test_white_is_255_and_black_is_0(depth: int) -> None:
    assert to_image(np.array([[0, largest_of(depth)]], dtype=np.uint16), bit_depth=depth)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["1", "P", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "deep"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_the_first_bytes_never_hide_a_deep_file(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    picture = Image.fromarray(levels(1))
    try:
        if mode == "deep":
            write_png_deep(path, in_bits(np.stack([levels(1)] * 3, axis=2), 16))
        elif mode == "I;16":
            Image.fromarray(in_bits(levels(1), 16)).save(path)
        else:
            picture.convert(mode).save(path)
    except OSError:
        pytest.skip(f"no {suffix} of {mode}")
    quick = png.never_deep(path.read_bytes()[: png.HEAD])
    assert quick <= (not may_be_deep(open_image(path)))
    assert quick == ((suffix == ".jpg" and mode != "deep") or (suffix == ".png" and mode not in ("deep", "I;16")))
    assert not png.never_deep(path.read_bytes()[:9]) or suffix == ".jpg"
