"""Mask files to the pixels that they mark: one rule for every encoding, drawn here by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from padim_zoo.core.errors import InputError
from padim_zoo.data.coverage import coverage
from padim_zoo.data.file_notes import collecting
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.mask import looks_inverted, read_mask, read_regions
from padim_zoo.data.orientation import turn
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import Transform

HEIGHT, WIDTH = 40, 60
MARK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MARK[10:20, 30:50] = True
SIZE = MARK.shape
NOISE = np.random.default_rng(0).integers(1, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def white(mark: np.ndarray = MARK) -> np.ndarray:
    return np.where(mark, 255, 0).astype(np.uint8)


def saved(path: Path, picture: np.ndarray | Image.Image, **options: object) -> Path:
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def palette(indices: np.ndarray, *colors: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([level for color in colors for level in color])
    return image


def in_alpha(color: tuple[int, int, int], mark: np.ndarray = MARK) -> np.ndarray:
    return np.dstack([np.broadcast_to(np.array(color, dtype=np.uint8), (HEIGHT, WIDTH, 3)), white(mark)])


def numbered() -> np.ndarray:
    numbers = np.zeros(SIZE, dtype=np.uint8)
    numbers[10:20, 30:40], numbers[10:20, 40:50] = 1, 2
    return numbers


def soft() -> Image.Image:
    """The mark with edges of many gray levels, half of them on either side."""
    large = Image.new("L", (WIDTH * 8, HEIGHT * 8))
    ImageDraw.Draw(large).ellipse((200, 60, 400, 180), fill=255)
    return large.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("gray.png", white()),
        ("one.png", MARK.astype(np.uint8)),
        ("bilevel.png", Image.fromarray(MARK)),
        ("color.png", np.stack([white()] * 3, axis=2)),
        ("red.png", np.dstack([white(), np.zeros((*SIZE, 2), np.uint8)])),
        ("classes.png", numbered()),
        ("class_colors.png", palette(numbered(), (0, 0, 0), (128, 0, 0), (0, 128, 0))),
        ("indexed.png", palette(MARK, (255, 255, 255), (200, 0, 0))),
        ("indexed_gray.png", palette(~MARK, (255, 255, 255), (0, 0, 0))),
        ("deep.png", MARK.astype(np.uint16)),
        ("deep.tif", np.where(MARK, 65535, 0).astype(np.uint16)),
        ("float.tif", MARK.astype(np.float32)),
        ("opaque.png", np.dstack([np.stack([white()] * 3, axis=2), np.full(SIZE, 255, np.uint8)])),
        ("alpha.png", in_alpha((0, 0, 0))),
        ("alpha_red.png", in_alpha((255, 0, 0))),
        ("hidden.png", np.dstack([np.stack([white()] * 3, axis=2), np.where(MARK, 255, 0).astype(np.uint8)])),
        ("lossy.jpg", white()),
        ("lossy.webp", white()),
        ("lossy_color.jpg", np.stack([white()] * 3, axis=2)),
        ("lossless.webp", numbered()),
    ],
)
def test_one_mark_in_every_encoding(tmp_path: Path, name: str, picture: np.ndarray | Image.Image) -> None:
    path = saved(tmp_path / name, picture, quality=60, lossless=name == "lossless.webp")
    np.testing.assert_array_equal(read_mask([path], SIZE), MARK)


def test_a_mask_with_white_as_zero(tmp_path: Path) -> None:
    """Photometric 0 in 16 bits, which Pillow does not turn round."""
    path = saved(tmp_path / "x.tif", np.where(MARK, 0, 65535).astype(np.uint16), tiffinfo={262: 0})
    np.testing.assert_array_equal(read_mask([path], SIZE), MARK)


def test_gray_levels_are_cut_at_half_and_told(tmp_path: Path) -> None:
    expected = np.asarray(soft()) > 127
    saved(tmp_path / "soft.png", soft())
    saved(tmp_path / "soft.jpg", soft(), quality=95)
    with collecting() as notes:
        np.testing.assert_array_equal(read_mask([tmp_path / "soft.png"], SIZE), expected)
        assert (read_mask([tmp_path / "soft.jpg"], SIZE) != expected).mean() < 0.002
        assert [Path(name).name for name in notes.by_kind()["gray mask"]] == ["soft.png", "soft.jpg"]
        notes.files.clear()


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("classes.png", 1 + MARK.astype(np.uint8), "no unmarked pixel, only the values 1 and 2"),
        ("full.png", np.full(SIZE, 255, np.uint8), "no unmarked pixel, only the values 255"),
        ("overlay.png", np.where(MARK[..., None], np.array([255, 0, 0], np.uint8), NOISE), "looks like a picture"),
        ("two_colors.png", np.where(MARK[..., None], [255, 0, 0], [9, 9, 200]).astype(np.uint8), "none of them black"),
        ("negative.tif", MARK.astype(np.float32) - 1, "expected 0 where nothing is marked"),
    ],
)
def test_masks_that_are_refused(tmp_path: Path, name: str, picture: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=rf"{name} .*{message}"):
        read_mask([saved(tmp_path / name, picture)], SIZE)


def test_pages_of_the_size_of_the_image_are_united(tmp_path: Path) -> None:
    first, second = np.zeros_like(MARK), np.zeros_like(MARK)
    first[:, :40], second[:, 40:] = MARK[:, :40], MARK[:, 40:]
    pages = [Image.fromarray(white(page)) for page in (first, second, MARK[::2, ::2])]
    saved(tmp_path / "x.tif", pages[0], save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_mask([tmp_path / "x.tif"], SIZE), MARK)
    with pytest.raises(InputError, match=r"x\.tif is 40x60 but its image is 9x9"):
        read_mask([tmp_path / "x.tif"], (9, 9))


def test_inverted_masks_are_told(tmp_path: Path) -> None:
    assert looks_inverted(~MARK)
    assert not looks_inverted(MARK)
    frame = np.ones_like(MARK)
    frame[1:-1, 1:-1] = False
    assert looks_inverted(frame)
    sample = Sample(saved(tmp_path / "x.png", NOISE), 1, "hole", (saved(tmp_path / "m.png", white(~MARK)),))
    with pytest.warns(UserWarning, match=r"1 mask marks most of the image, or all of its border.*m\.png"):
        masks([sample], Transform(None, None))


def test_what_no_pixel_is_left_of_is_told_apart_from_what_is_empty(tmp_path: Path) -> None:
    corner = np.zeros_like(MARK)
    corner[:3, :3] = True
    for name, mark in (("empty", MARK & False), ("corner", corner | MARK), ("mark", MARK)):
        saved(tmp_path / f"{name}_mask.png", white(mark))
    image = saved(tmp_path / "x.png", NOISE)
    samples = [Sample(image, 1, "hole", (mask,)) for mask in sorted(tmp_path.glob("*_mask.png"))]
    with pytest.warns(UserWarning, match="outside|mark no pixel") as warned:
        masks(samples, Transform(None, (30, 50)))
    texts = [str(warning.message) for warning in warned]
    assert any("1 of 3 marked regions lie outside the part of the image that counts" in text for text in texts)
    assert any("1 mask of an anomalous image marks no pixel" in text and "empty_mask.png" in text for text in texts)
    assert len(texts) == 2


# -- orientation ------------------------------------------------------------------------------------------------------


def turned_image(path: Path, stored: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(path, stored, exif=exif)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_that_fits_the_stored_pixels_alone_is_turned(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = turned_image(tmp_path / f"x{suffix}", white(), orientation)
    shown = turn(MARK, orientation)
    stored_mask, shown_mask = saved(tmp_path / "a.png", white()), saved(tmp_path / "b.png", white(shown))
    with collecting() as notes:
        for path in (stored_mask, shown_mask):
            np.testing.assert_array_equal(read_mask([path], shown.shape, image), shown)
        assert notes.by_kind() == {"turned mask": [str(stored_mask)]}
        notes.files.clear()


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_mask_that_fits_both_ways_is_as_shown_unless_told(tmp_path: Path, orientation: int) -> None:
    image = turned_image(tmp_path / "x.jpg", white(), orientation)
    mask = saved(tmp_path / "m.png", white())
    sample = Sample(image, 1, "hole", (mask, mask))
    with pytest.warns(UserWarning, match=r"1 mask fits its image both as stored and as turned.*--mask-orientation"):
        (regions,) = masks([sample], Transform(None, None))
    np.testing.assert_array_equal(regions, MARK)
    for told, expected in (("shown", MARK), ("stored", turn(MARK, orientation))):
        np.testing.assert_array_equal(read_mask([mask], SIZE, image, orientation=told), expected)


def test_a_mask_with_an_orientation_of_its_own(tmp_path: Path) -> None:
    image = turned_image(tmp_path / "x.png", white(), 3)
    mask = turned_image(tmp_path / "m.png", white(), 3)
    with collecting() as notes:
        np.testing.assert_array_equal(read_mask([mask], SIZE, image), MARK[::-1, ::-1])
        assert notes.by_kind() == {}


# -- regions ----------------------------------------------------------------------------------------------------------


def test_each_file_of_a_folder_of_masks_is_a_region(tmp_path: Path) -> None:
    (tmp_path / "000").mkdir()
    left, right = MARK.copy(), MARK.copy()
    left[:, 40:], right[:, :40] = False, False
    right[0, 0] = True  # apart from the rest of its region
    files = [saved(tmp_path / "000" / f"{n:03}.png", white(mark)) for n, mark in enumerate((left, right))]
    regions = read_regions(files, SIZE)
    np.testing.assert_array_equal(regions, left + 2 * right)
    alone = read_regions(files[1:], SIZE, Path("000.png"))
    assert np.unique(alone).tolist() == [0, 1]
    in_one_file = read_regions([saved(tmp_path / "both.png", white(left | right))], SIZE)
    assert in_one_file.dtype == np.int32
    assert (in_one_file[0, 0], in_one_file[10, 30], in_one_file[10, 49]) == (1, 2, 2)


def test_masks_are_united_where_not_zero(tmp_path: Path) -> None:
    first, second = np.zeros(SIZE, dtype=np.uint8), np.zeros(SIZE, dtype=np.uint8)
    first[0, 0], second[4, 6] = 1, 255  # VisA marks with small numbers
    union = read_mask([saved(tmp_path / "a.png", first), saved(tmp_path / "b.bmp", second)], SIZE)
    assert union.dtype == bool
    assert np.argwhere(union).tolist() == [[0, 0], [4, 6]]


def test_a_mask_of_another_size_names_both_files(tmp_path: Path) -> None:
    mask, photo = saved(tmp_path / "mask.png", white()), saved(tmp_path / "photo.png", NOISE[:9])
    with pytest.raises(InputError, match=r"mask\.png is 40x60 but its image .*photo\.png is 9x60"):
        read_mask([mask], (9, WIDTH), photo)
    with pytest.raises(InputError, match=r"mask\.png is 40x60 but its image is 5x8"):
        read_mask([mask], (5, 8))


def test_regions_of_interest_are_read_by_the_same_rule(tmp_path: Path) -> None:
    right = RegionOfInterest(saved(tmp_path / "right.png", white()))
    for name, picture in (("alpha.png", in_alpha((255, 255, 255))), ("lossy.jpg", white())):
        assert RegionOfInterest(saved(tmp_path / name, picture)).fingerprint() == right.fingerprint()
    whole = RegionOfInterest(saved(tmp_path / "whole.png", np.full(SIZE, 255, np.uint8)))
    assert whole.mask is not None
    assert whole.mask.all()
    with pytest.raises(InputError, match="no unmarked pixel, only the values 1 and 2"):
        RegionOfInterest(saved(tmp_path / "classes.png", 1 + MARK.astype(np.uint8)))


def test_coverage_is_that_of_the_orientation_in_use(tmp_path: Path) -> None:
    at_the_top = np.zeros((40, 40), dtype=bool)
    at_the_top[:10, 15:25] = True
    image = turned_image(tmp_path / "x.jpg", white(at_the_top), 6)
    sample = Sample(image, 1, "hole", (saved(tmp_path / "m.png", white(at_the_top)),))
    middle_rows = Transform(None, (10, 40))
    assert coverage(middle_rows, [sample], orientation="shown").annotated_share == 0
    assert coverage(middle_rows, [sample], orientation="stored").annotated_share == 1
