"""Every file format and pixel type to uint8 RGB, and what is refused."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, features

from padim_zoo.core.errors import InputError
from padim_zoo.data import decoding, opening, png
from padim_zoo.data.file_notes import collecting, counted
from padim_zoo.data.image import image_mode, image_size, is_image_file, read_image, to_image
from padim_zoo.data.loading import batches
from padim_zoo.data.mask import read_mask
from padim_zoo.data.pixel_limit import max_pixels, pixels_limited, refuse_many_pixels
from padim_zoo.data.transform import Transform
from tests.faults.hostile import png as png_of

HEIGHT, WIDTH = 5, 7
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)


def three(gray: np.ndarray) -> np.ndarray:
    return np.stack([gray, gray, gray], axis=-1)


def write_png_deep(path: Path, samples: np.ndarray, *more: tuple[bytes, bytes]) -> None:
    """A PNG of 16 bits in 1 to 4 channels, with other chunks before its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))


def write_tif_48_bit(path: Path, samples: np.ndarray) -> None:
    height, width, _ = samples.shape
    pixels = samples.astype("<u2").tobytes()
    entries = 10
    bits_at = 8 + 2 + 12 * entries + 4
    pixels_at = bits_at + 6
    tags = [  # tag, type (3 short, 4 long), count, value
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, bits_at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, pixels_at),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
        (284, 3, 1, 1),
    ]
    directory = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0\0\0\0"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<HHH", 16, 16, 16) + pixels)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".PNG"])
def test_lossless_rgb_is_read_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    Image.fromarray(RGB).save(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)
    assert image_size(path) == (HEIGHT, WIDTH)
    assert image_mode(path) == "RGB"


def test_webp_lossless_is_read_unchanged(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.webp"), RGB)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_one_color(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (16, 16), (120, 120, 120)).convert(mode).save(tmp_path / "x.JPG", quality=100)
    image = read_image(tmp_path / "x.JPG").astype(int)
    assert image.shape == (16, 16, 3)
    assert np.abs(image - 120).max() <= 2


def test_grey_and_alpha(tmp_path: Path) -> None:
    alpha = np.full((HEIGHT, WIDTH), 10, dtype=np.uint8)
    Image.fromarray(GREY).save(tmp_path / "gray.png")
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]).save(tmp_path / "gray_alpha.png")
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), three(GREY))
    np.testing.assert_array_equal(read_image(tmp_path / "gray_alpha.png"), three(GREY))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), RGB)  # the same everywhere: it says nothing


def test_bilevel_and_palette(tmp_path: Path) -> None:
    Image.fromarray(GREY > 127).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bilevel.png"), three(np.where(GREY > 127, 255, 0)))

    indices = (GREY % 3).astype(np.uint8)
    colors = np.array([[255, 0, 0], [0, 200, 9], [1, 2, 3]], dtype=np.uint8)
    palette = Image.fromarray(indices)
    palette.putpalette(colors.tobytes())
    palette.save(tmp_path / "palette.png")
    assert image_mode(tmp_path / "palette.png") == "P"
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), colors[indices])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_by_its_bit_depth(tmp_path: Path, suffix: str) -> None:
    samples = DEEP[:, :, 0] // 4  # a dark image must stay dark
    samples[0, :4] = [0, 128, 129, 16000]  # 128/257 rounds to 0, 129/257 to 1
    Image.fromarray(samples).save(tmp_path / f"x{suffix}")
    expected = np.round(samples / 65535 * 255).astype(np.uint8)
    image = read_image(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(image, three(expected))
    assert image.max() < 65


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_is_read_in_silence_and_left_alone(tmp_path: Path) -> None:
    Image.fromarray(RGB).quantize(8).save(tmp_path / "x.png", transparency=bytes(range(8)))
    given = Image.open(tmp_path / "x.png")
    np.testing.assert_array_equal(to_image(given), read_image(tmp_path / "x.png"))
    assert given.info["transparency"] == bytes(range(8))


def test_16_bit_white_is_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16)).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == 255).all()


def test_16_bit_color_is_read_in_full_depth(tmp_path: Path) -> None:
    write_png_deep(tmp_path / "x.png", DEEP)
    write_tif_48_bit(tmp_path / "x.tif", DEEP)
    for name in ("x.png", "x.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.round(DEEP / 257).astype(np.uint8))


def test_32_bit_integers_within_16_bits(tmp_path: Path) -> None:
    Image.fromarray(DEEP[:, :, 0].astype(np.int32)).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), three(np.round(DEEP[:, :, 0] / 257).astype(np.uint8)))
    Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)).save(tmp_path / "y.tif")
    with pytest.raises(InputError, match=r"y\.tif has values from 70000 to 70000.*at most 16 bits"):
        read_image(tmp_path / "y.tif")


def test_float_tif(tmp_path: Path) -> None:
    Image.fromarray((GREY / 255).astype(np.float32)).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), three(GREY))
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "y.tif")
    with pytest.raises(InputError, match=r"y\.tif has values from .* must be in \[0, 1\]"):
        read_image(tmp_path / "y.tif")


# What a viewer does with each EXIF orientation, written out.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("pixels", [RGB, DEEP[:, :, 0]], ids=["8-bit", "16-bit"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    expected = UPRIGHT[orientation](to_image(pixels))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)
    assert image_size(tmp_path / "x.png") == expected.shape[:2]
    np.testing.assert_array_equal(to_image(Image.open(tmp_path / "x.png")), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"cut\{suffix}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name, message in [
        ("text.png", "is not an image"),
        ("empty.png", "is an empty file"),
        ("missing.png", "does not exist"),
        ("folder.png", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=rf"{name} {message}"):
            read_image(tmp_path / name)


def test_images_beyond_pillows_limit_are_read_up_to_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)
    assert Image.MAX_IMAGE_PIXELS == 3
    with pixels_limited(HEIGHT * WIDTH - 1):
        for read in (read_image, image_size, lambda path: read_mask([path], (HEIGHT, WIDTH), whole=True)):
            with pytest.raises(InputError, match=r"x\.png has 35 pixels: at most 34 .*--max-pixels"):
                read(tmp_path / "x.png")


def test_image_files_are_told_by_their_suffix(tmp_path: Path) -> None:
    for name in ["a.PNG", "b.jpeg", "._c.png", "Thumbs.db", ".DS_Store", "d.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_image_file(path)] == ["a.PNG", "b.jpeg"]


@pytest.mark.parametrize(
    "given",
    [
        RGB,
        np.dstack([RGB, np.full_like(GREY, 7)]),
        RGB / 255,
        (RGB / 255).astype(np.float32),
        RGB.astype(np.uint16) * 257,
        Image.fromarray(RGB),
        Image.fromarray(RGB).convert("RGBA"),
        torch.from_numpy(RGB).permute(2, 0, 1),
        torch.from_numpy(RGB).permute(2, 0, 1) / 255,
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255).requires_grad_(),
    ],
    ids=["uint8", "rgba", "float64", "float32", "uint16", "pil", "pil-rgba", "tensor", "float tensor", "with grad"],
)
def test_in_memory_images_are_the_same_image(given: object) -> None:
    image = to_image(given)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("given", [GREY, GREY[:, :, None], torch.from_numpy(GREY.copy()), torch.from_numpy(GREY[None])])
def test_in_memory_grey(given: object) -> None:
    np.testing.assert_array_equal(to_image(given), three(GREY))


def test_half_precision_tensors() -> None:
    assert (to_image(torch.ones(3, 2, 2, dtype=torch.bfloat16)) == 255).all()
    assert (to_image(torch.zeros(3, 2, 2, dtype=torch.float16)) == 0).all()


def test_an_overshoot_below_half_a_grey_level_is_rounded_back() -> None:
    assert to_image(np.array([[-0.001, 1.001]])).tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (RGB.astype(np.float32), r"values from .* must be in \[0, 1\]"),
        (RGB / 255 - 0.5, "not normalized"),
        (np.full((2, 2), np.nan), "not a number"),
        (RGB.astype(np.int64), "type int64"),
        (GREY > 5, "type bool"),
        (RGB.transpose(2, 0, 1), r"shape \(3, 5, 7\): expected an array \(H, W, 3\)"),
        (torch.from_numpy(RGB), r"shape \(5, 7, 3\): expected a tensor \(3, H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        ("x", "is a str"),
        (None, "is a NoneType"),
    ],
)
def test_in_memory_images_that_are_refused(given: object, message: str) -> None:
    with pytest.raises(InputError, match=f"image 3 .*{message}"):
        to_image(given, "image 3")


# -- what files hold beside plain samples -----------------------------------------------------------------------------


ALPHA = np.where(GREY > 127, 255, 0).astype(np.uint8)
ON_BLACK = np.where(ALPHA[..., None] > 0, RGB, 0)


def indexed(colors: int) -> Image.Image:
    return Image.fromarray(RGB).quantize(colors)


@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize("kind", ["rgba", "la", "rgb key", "palette", "pil", "array", "tensor", "deep", "deep gray"])
def test_what_lies_under_transparent_pixels_does_not_count(tmp_path: Path, kind: str, hidden: int) -> None:
    color = np.where(ALPHA[..., None] > 0, RGB, hidden).astype(np.uint8)
    gray = color[:, :, 0]
    expected, given = ON_BLACK, tmp_path / "x.png"
    rgba = np.dstack([color, ALPHA])
    if kind in ("rgba", "pil"):
        Image.fromarray(rgba).save(given)
    elif kind == "la":
        Image.merge("LA", [Image.fromarray(gray), Image.fromarray(ALPHA)]).save(given)
        expected = three(ON_BLACK[:, :, 0])
    elif kind == "rgb key":
        key = (hidden, 254, 7)
        Image.fromarray(np.where(ALPHA[..., None] > 0, RGB, key).astype(np.uint8)).save(given, transparency=key)
    elif kind == "palette":
        indices = np.where(ALPHA > 0, 1 + GREY % 3, 0).astype(np.uint8)
        colors = np.array([[hidden] * 3, [255, 0, 0], [0, 200, 9], [1, 2, 3]], dtype=np.uint8)
        image = Image.fromarray(indices)
        image.putpalette(colors.tobytes())
        image.save(given, transparency=0)
        expected = np.where(ALPHA[..., None] > 0, colors[indices], 0)
    elif kind == "deep":
        write_png_deep(given, rgba.astype(np.uint16) * 257)
    elif kind == "deep gray":
        write_png_deep(given, np.dstack([gray, ALPHA]).astype(np.uint16) * 257)
        expected = three(ON_BLACK[:, :, 0])
    in_memory = {
        "pil": lambda: Image.open(given),
        "array": lambda: rgba,
        "tensor": lambda: torch.tensor(rgba).movedim(2, 0),
    }
    with collecting() as notes:
        read = to_image(in_memory[kind]()) if kind in in_memory else read_image(given)
        np.testing.assert_array_equal(read, expected)
        assert list(notes.by_kind()) == ([] if kind == "pil" else ["transparent"])
        notes.files.clear()


def test_half_transparent_pixels_are_half_black(tmp_path: Path) -> None:
    alpha = np.where(GREY > 127, 128, 255).astype(np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "x.png")
    expected = np.rint(RGB * (alpha[..., None] / 255))
    assert np.abs(read_image(tmp_path / "x.png") - expected).max() <= 1


def test_deep_color_of_any_kind_is_read_in_full_depth(tmp_path: Path) -> None:
    expected = np.round(DEEP / 257).astype(np.uint8)
    opaque = np.full((HEIGHT, WIDTH), 65535, dtype=np.uint16)
    write_png_deep(tmp_path / "rgba.png", np.dstack([DEEP, opaque]))
    write_png_deep(tmp_path / "la.png", np.dstack([DEEP[:, :, 0], opaque]))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), three(expected[:, :, 0]))


def test_white_as_zero_is_the_same_picture(tmp_path: Path) -> None:
    Image.fromarray(DEEP[:, :, 0]).save(tmp_path / "black.tif")
    Image.fromarray(65535 - DEEP[:, :, 0]).save(tmp_path / "white.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif"), read_image(tmp_path / "black.tif"))


def test_long_text_and_profiles_break_no_png(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("notes", "x" * 2_000_000, zip=True)
    text.add_itxt("more", "y" * 2_000_000, zip=True)
    profile = np.random.default_rng(0).bytes(3_000_000)
    Image.fromarray(RGB).save(tmp_path / "x.png", pnginfo=text, icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)
    assert image_size(tmp_path / "x.png") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_orientation_of_a_tif_counts_once(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "x.tif", exif=exif)
    expected = UPRIGHT[orientation](RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), expected)
    assert image_size(tmp_path / "x.tif") == expected.shape[:2]


@pytest.mark.parametrize(("suffix", "kind"), [(".tif", "pages"), (".webp", "frames"), (".png", "frames")])
def test_the_first_of_several_pages_is_read_and_told(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"x{suffix}"
    other = Image.fromarray(255 - RGB)
    Image.fromarray(RGB).save(path, save_all=True, append_images=[other], lossless=True)
    with pytest.warns(UserWarning, match=re.escape(counted(kind, 1))), collecting():
        np.testing.assert_array_equal(read_image(path), RGB)


def test_a_thumbnail_before_the_picture_is_refused(tmp_path: Path) -> None:
    small = Image.fromarray(RGB[::2, ::2])
    small.save(tmp_path / "x.tif", save_all=True, append_images=[Image.fromarray(np.tile(RGB, (2, 2, 1)))])
    with pytest.raises(InputError, match=r"x\.tif has a first page of 3x4 pixels, a thumbnail of page 2 of 10x14"):
        read_image(tmp_path / "x.tif")


def test_cmyk_is_told(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "x.jpg")
    with (
        pytest.warns(UserWarning, match="^1 image is CMYK: it is converted to RGB without its"),
        collecting(),
    ):
        read_image(tmp_path / "x.jpg")


def test_one_warning_for_all_files_of_a_kind(tmp_path: Path) -> None:
    for number in range(5):
        Image.fromarray(np.dstack([RGB, ALPHA])).save(tmp_path / f"{number}.png")
    with pytest.warns(UserWarning, match=r"^5 images are partly transparent.*0\.png\)$") as warned:
        assert len(list(batches(tmp_path, Transform(None, None), 2))) == 3
    assert len(warned) == 1


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, opening.stored_size):
        with pytest.raises((InputError, OSError), match="not a regular file"):
            read(tmp_path / "pipe.png")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files")
def test_a_folder_is_refused_and_not_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(InputError, match="cannot be read"):
            read_image(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_beyond_the_end_of_a_png_is_looked_at(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    beyond = content + struct.pack(">I4sI", 0, b"eXIf", 0)
    assert not png.may_have_exif(io.BytesIO(beyond))
    assert png.may_have_exif(io.BytesIO(content[:33] + beyond[-12:] + content[33:]))
    assert png.without_text(beyond + struct.pack(">I4sI", 0, b"iCCP", 0))[len(beyond) :]


def test_a_name_that_no_file_can_have_is_one_line() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_image("a\0b.png")


def test_the_header_decides_before_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((400, 500, 3), dtype=np.uint8)).save(tmp_path / "x.bmp")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(10**12)  # of holes
    monkeypatch.setenv("PADIM_ZOO_MAX_PIXELS", "1000")
    monkeypatch.setattr(opening.png, "without_text", lambda content: pytest.fail("all of it was read"))
    for name, problem in [("x.bmp", "has 200,000 pixels"), ("large.png", "is not an image")]:
        with pytest.raises(InputError, match=problem):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "pgm"])
def test_a_file_with_more_bytes_than_its_pixels_take_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    Image.fromarray(GREY).save(tmp_path / f"x.{suffix}")
    with (tmp_path / f"x.{suffix}").open("r+b") as file:
        file.truncate(10**12)  # of holes
    monkeypatch.setattr(opening.png, "without_text", lambda content: pytest.fail("all of it was read"))
    with pytest.raises(InputError, match=r"1,000,000,000,000 bytes: expected at most"):
        read_image(tmp_path / f"x.{suffix}")


def test_a_later_page_that_is_too_large_is_not_decoded(tmp_path: Path) -> None:
    pages = [Image.new("L", size) for size in ((7, 5), (70, 50))]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pixels_limited(35), pytest.raises(InputError, match=r"has 3,500 pixels: at most 35"):
        read_mask([tmp_path / "x.tif"], (5, 7), whole=True)


@pytest.mark.parametrize(("width", "height"), [(1, 90_000_000), (90_000_000, 1)])
def test_a_thin_image_whose_lines_take_gigabytes_is_not_decoded(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "x.png").write_bytes(png_of(width, height, 8, 0, zlib.compress(b"")))
    with pytest.raises(InputError, match=r"90,000,000.* pixels: a side has at most 6,250,000; cut the image"):
        read_image(tmp_path / "x.png")
    with pixels_limited(10), pytest.raises(InputError, match="a side has at most 1,048,576"):
        refuse_many_pixels("x", (2_000_000, 0))


def test_the_limit_of_pixels_is_told_by_whoever_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max_pixels() == 100_000_000
    monkeypatch.setenv("PADIM_ZOO_MAX_PIXELS", "12")
    assert max_pixels() == 12
    with pixels_limited(13):
        assert max_pixels() == 13
        with pixels_limited(None):
            assert max_pixels() == 13
    for text in ("many", "-1", "0", "1.5", "9" * 400, "²"):
        monkeypatch.setenv("PADIM_ZOO_MAX_PIXELS", text)
        with pytest.raises(InputError, match=r"PADIM_ZOO_MAX_PIXELS is '.*expected a number of pixels"):
            max_pixels()


@pytest.mark.parametrize(("form", "accepted"), [("JPEG2000", True), ("AVIF", False), ("TGA", False)])
def test_the_content_decides_on_the_format(tmp_path: Path, form: str, accepted: bool) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(tmp_path / "x.png", format=form)
    if accepted:
        assert read_image(tmp_path / "x.png").shape == (32, 32, 3)
    else:
        with pytest.raises(InputError, match="is not an image: expected png, jpg, jp2"):
            read_image(tmp_path / "x.png")


def test_an_image_that_does_not_fit_into_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise MemoryError

    Image.fromarray(RGB).save(tmp_path / "x.bmp")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(InputError, match="does not fit into memory"):
        read_image(tmp_path / "x.bmp")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp", "jp2"])
def test_the_size_takes_no_more_than_the_header(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"x.{suffix}"
    exif = {} if suffix in ("png", "bmp", "jp2") else {"exif": turned_by_a_quarter()}
    Image.fromarray(RGB).save(path, **exif)
    expected = read_image(path).shape[:2]
    monkeypatch.setattr(decoding, "open_image", None)
    assert image_size(path) == expected


def turned_by_a_quarter() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif
