"""Resized regions against areas that are counted pixel by pixel."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from padim_zoo.data.ground_truth import masks
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import Transform, resize_regions


def shared(length: int, target: int, resized: int, pixel: int) -> Fraction:
    """How much of an axis a resized pixel and a pixel have in common."""
    low = max(Fraction(resized, target), Fraction(pixel, length))
    high = min(Fraction(resized + 1, target), Fraction(pixel + 1, length))
    return max(high - low, Fraction(0))


def counted(regions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The region that covers most of each resized pixel, from the definition."""
    height, width = regions.shape
    result = np.zeros(size, dtype=np.int32)
    for y, x in np.ndindex(*size):
        areas: dict[int, Fraction] = {}
        for row, column in zip(*np.nonzero(regions), strict=True):
            area = shared(height, size[0], y, row) * shared(width, size[1], x, column)
            areas[regions[row, column]] = areas.get(regions[row, column], Fraction(0)) + area
        largest = max(areas.values(), default=Fraction(0))
        result[y, x] = min((number for number, area in areas.items() if area == largest > 0), default=0)
    return result


lengths = st.integers(1, 9)


@settings(deadline=None, max_examples=60)
@given(height=lengths, width=lengths, target=st.tuples(lengths, lengths), seed=st.integers(0, 99))
def test_equal_to_counted_areas(height: int, width: int, target: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    regions = (rng.integers(1, 4, (height, width)) * (rng.random((height, width)) < 0.4)).astype(np.int32)
    np.testing.assert_array_equal(resize_regions(regions, target), counted(regions, target))


def test_a_thin_mark_stays_one_region() -> None:
    from scipy import ndimage

    regions = np.zeros((512, 512), dtype=np.int32)
    for step in range(300):
        regions[100 + step, 50 + step // 3] = 1
    transform = Transform(256, 224)
    whole, torn = transform.mask(regions), transform.mask(regions, "nearest")
    eight = np.ones((3, 3))
    assert ndimage.label(whole, eight)[1] == 1
    assert ndimage.label(torn, eight)[1] > 10


def test_nearest_counts_each_speck_unless_each_file_is_a_region(tmp_path: Path) -> None:
    from scipy import ndimage

    marked = np.zeros((512, 512), dtype=np.uint8)
    for step in range(300):
        marked[100 + step, 50 + step // 3] = 255
    Image.fromarray(marked).save(tmp_path / "000.png")
    (tmp_path / "masks" / "000").mkdir(parents=True)
    for mask in (tmp_path / "000_mask.png", tmp_path / "masks" / "000" / "000.png"):
        Image.fromarray(marked).save(mask)
    transform = Transform(256, 224)
    (specks,), (one,) = (
        masks([Sample(tmp_path / "000.png", 1, "crack", (mask,))], transform, rule="nearest")
        for mask in (tmp_path / "000_mask.png", tmp_path / "masks" / "000" / "000.png")
    )
    assert specks is not None
    assert one is not None
    torn = transform.mask(marked > 0, "nearest")
    np.testing.assert_array_equal(specks, ndimage.label(torn, np.ones((3, 3)))[0])
    np.testing.assert_array_equal(one, torn)


def test_numbers_outlive_the_crop() -> None:
    regions = np.zeros((20, 20), dtype=np.int32)
    regions[0, 0], regions[10, 10] = 1, 2
    assert np.unique(Transform(None, 10).mask(regions)).tolist() == [0, 2]


@pytest.mark.parametrize("rule", ["area", "nearest"])
def test_a_mask_keeps_its_type(rule: str) -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[4:12, 4:12] = True
    resized = Transform(10, None).mask(mask, rule)
    assert resized.dtype == bool
    np.testing.assert_array_equal(np.argwhere(resized)[[0, -1]], [[2, 2], [5, 5]])
