"""The grid that all images of a fit are resized to, and what a transform looks at."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.data.coverage import coverage, percent
from padim_zoo.data.grid import look_ahead
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import Transform, choose_grid, count_other_aspects


@pytest.mark.parametrize(
    ("sizes", "resize", "stride", "grid"),
    [
        ([(1024, 1024)], 256, 16, (256, 256)),
        ([(960, 1280)], 256, 16, (256, 336)),  # 341.3
        ([(960, 1280)], 256, 32, (256, 352)),
        ([(1280, 960)], 256, 16, (336, 256)),
        ([(64, 240)], 256, 16, (256, 960)),
        ([(460, 1130)], 256, 16, (256, 624)),  # 628.9
        ([(100, 100)], 256, 14, (252, 252)),
        ([(100, 150)], 100, 32, (96, 160)),  # 3.125 and 4.6875 strides
        ([(10, 13)], 10, 4, (12, 12)),  # 2.5 strides are 3
        ([(5, 5)], 3, 16, (16, 16)),
        ([(10, 10), (10, 10), (10, 40)], 64, 16, (64, 64)),
        ([(10, 40), (10, 40), (10, 10)], 64, 16, (64, 256)),
        ([(10, 10), (10, 40)], 64, 16, (64, 64)),  # the lower median: an aspect that an image has
        ([(10, 40), (40, 10)], 64, 16, (256, 64)),
    ],
)
def test_grid_by_the_median_aspect(sizes, resize, stride, grid):
    assert choose_grid(sizes, resize, stride) == grid
    assert choose_grid(sizes[::-1], resize, stride) == grid


def test_grid_as_a_slow_loop_gives_it():
    random = np.random.default_rng(0)
    for _ in range(200):
        count, stride = int(random.integers(1, 8)), int(random.integers(1, 33))
        resize, sizes = int(random.integers(8, 400)), random.integers(8, 900, (count, 2)).tolist()
        aspect = sorted(width / height for height, width in sizes)[(count - 1) // 2]
        lengths = (resize / min(aspect, 1), resize * max(aspect, 1))
        expected = [max(1, math.floor(length / stride + 0.5)) * stride for length in lengths]
        assert list(choose_grid(map(tuple, sizes), resize, stride)) == expected


def test_grid_of_nothing_is_refused():
    with pytest.raises(InputError, match="no images"):
        choose_grid([], 256, 16)


def test_images_of_another_aspect_are_counted():
    sizes = [(100, 100), (100, 101), (1000, 1000), (100, 150), (150, 100)]
    assert count_other_aspects(sizes, (256, 256), 16) == 2


def test_only_a_length_without_a_crop_leaves_the_grid_to_the_images():
    assert Transform(256, None).leaves_grid
    for asked in (Transform(256, 224), Transform((256, 320), None), Transform(None, None), Transform(None, 224)):
        assert not asked.leaves_grid
        assert asked.on_grid((64, 64)) == asked
    assert Transform(256, None).on_grid((256, 336)) == Transform((256, 336), None)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, width in zip(paths, (30, 40, 50), strict=True):
        Image.new("RGB", (width, 20)).save(path)
    return paths


def test_all_files_are_looked_at(files: list[Path]):
    sizes = [(20, 30), (20, 40), (20, 50)]
    folder = files[0].parent
    for images in (files, tuple(map(str, files)), folder, str(folder), [Sample(path, 0) for path in files]):
        assert look_ahead(images) == (sizes, images)
    files[1].write_bytes(b"broken")
    assert look_ahead(files)[0] == [sizes[0], sizes[2]]
    with pytest.raises(InputError, match=r"1\.png"):
        look_ahead([files[1]])


def test_sizes_are_upright(tmp_path: Path):
    turned = Image.new("RGB", (30, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert look_ahead(tmp_path)[0] == [(30, 20)]


def test_of_other_images_the_first_decides_and_none_is_lost(files: list[Path]):
    array = np.zeros((4, 20, 30, 3), dtype=np.uint8)
    for images in (array, array[0], torch.zeros(2, 3, 20, 30), Image.new("L", (30, 20)), list(array), {"image": array}):
        sizes, same = look_ahead(images)
        assert sizes == [(20, 30)]
        assert same is images
    loader = torch.utils.data.DataLoader(torch.zeros(5, 3, 20, 30), batch_size=2)
    sizes, rest = look_ahead(loader)
    assert (sizes, [len(batch) for batch in rest]) == ([(20, 30)], [2, 2, 1])
    sizes, rest = look_ahead(path for path in files)
    assert (sizes, list(rest)) == ([(20, 30)], files)
    sizes, rest = look_ahead(iter([]))
    assert (sizes, list(rest)) == ([], [])


def test_the_share_of_a_photo_that_the_old_default_left_unseen():
    assert Transform(256, 224).visible_share(960, 1280) == pytest.approx(224**2 / (256 * 341))
    assert Transform((256, 336), None).visible_share(960, 1280) == 1
    assert Transform(64, 64).visible_share(64, 240) == pytest.approx(64 / 240)


def test_coverage_counts_images_and_marks(tmp_path: Path):
    samples = []
    for number, columns in enumerate((slice(0, 10), slice(95, 105))):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        Image.new("RGB", (200, 100)).save(image)
        marks = np.zeros((100, 200), dtype=np.uint8)
        marks[40:60, columns] = 255
        Image.fromarray(marks).save(mask)
        samples.append(Sample(image, 1, "bad", (mask,)))
    seen = coverage(Transform(50, 40), samples)
    assert seen.image_share == pytest.approx(0.32)
    assert seen.annotated_share == pytest.approx(0.5)
    assert str(seen) == "resize 50, crop 40: looks at 32 % of each image and 50 % of the annotated area"
    assert seen.to_dict()["annotated_share"] == pytest.approx(0.5)
    whole = coverage(Transform((64, 128), None), [sample.path for sample in samples], 16)
    assert str(whole) == "resize 64x128, crop none: looks at all of each image"
    assert whole.note is None


def test_coverage_tells_images_of_other_aspects(files: list[Path]):
    seen = coverage(Transform((64, 128), None), files, 16)
    assert seen.note == "2 of 3 images have another aspect than 64x128: they are resized to it all the same"
    assert coverage(Transform((64, 128), None), files).note is None  # asked for
    assert "looks at 56 % of the images, at least 50 % of each" in str(coverage(Transform(20, (20, 25)), files[1:]))


def test_coverage_leaves_out_what_cannot_be_read(files: list[Path]):
    files[0].write_bytes(b"broken")
    assert coverage(Transform(20, 20), files).images == 2
    assert "no image" in str(coverage(Transform(20, 20), files[:1]))


def test_all_is_said_of_nothing_less():
    assert [percent(share) for share in (1.0, 0.999, 0.57, 0.001, 0.0)] == ["all", "99 %", "57 %", "1 %", "0 %"]
