"""Tiles: where they lie, what goes into a mosaic and comes back, and how maps of tiles become one."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from padim_zoo import InputError
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import nearest_positions
from padim_zoo.features.patch_embeddings import upsample_mask, valid_patches
from padim_zoo.features.tiles import TileLayout, Tiles
from tests.blended_tiles import blend_by_hand

SIZES = [("2x2", (64, 80)), ("3x2", (70, 81)), ("2x2+10", (65, 80)), ("40+8", (64, 100)), ("48+30", (50, 130))]


def layout(text: str, size: tuple[int, int]) -> TileLayout:
    return Tiles.parse(text).layout(size)


def literal_map(distances: torch.Tensor, tiles: TileLayout) -> np.ndarray:
    """Each tile upsampled alone, and all blended by hand."""
    h, w = (side // count for side, count in zip(distances.shape, tiles.counts, strict=True))
    of_tiles = [
        interpolate(
            distances[None, None, row : row + h, column : column + w].double(), tiles.tile_size, mode="bilinear"
        )
        for row in range(0, distances.shape[0], h)
        for column in range(0, distances.shape[1], w)
    ]
    return blend_by_hand([tile[0, 0].numpy() for tile in of_tiles], tiles, (h, w))


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_tiles_cover_the_image_and_overlap_as_asked(text: str, size: tuple[int, int]) -> None:
    tiles, asked = layout(text, size), Tiles.parse(text)
    for axis, length in zip((tiles.rows, tiles.columns), size, strict=True):
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.size == length
        for first, second in zip(axis.starts, axis.starts[1:], strict=False):
            assert first + axis.size - second >= asked.overlap
    if asked.counts is not None:
        assert tiles.counts == asked.counts
    else:
        assert tiles.tile_size == (min(asked.size or 0, size[0]), min(asked.size or 0, size[1]))


def test_few_tiles_are_taken() -> None:
    assert layout("512+64", (2048, 2448)).counts == (
        5,
        6,
    )  # 5 · 512 − 4 · 64 = 2304 ≥ 2048; 5 of them do not reach 2448
    assert layout("512+0", (1024, 1536)).counts == (2, 3)
    assert layout("512+64", (300, 900)).counts == (1, 2)


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_a_mosaic_gives_the_tiles_back(text: str, size: tuple[int, int]) -> None:
    tiles = layout(text, size)
    images = torch.randint(0, 255, (2, 3, *size), dtype=torch.uint8)
    cut = tiles.cut(images)
    assert torch.equal(cut[1], images[0, :, tiles.windows[1][0], tiles.windows[1][1]])
    mosaic = tiles.assemble(cut)
    assert mosaic.shape[2:] == tiles.mosaic_size
    assert torch.equal(tiles.apart(mosaic), cut)
    placed = tiles.empty(2, cut)
    tiles.place(placed, cut[:3], 0)
    tiles.place(placed, cut[3:], 3)
    assert torch.equal(placed, mosaic)
    masks = images[:, 0] > 99
    assert torch.equal(tiles.restore(tiles.mosaic(masks)), masks)


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_positions_of_a_mosaic_are_those_of_its_tiles(text: str, size: tuple[int, int]) -> None:
    rows, columns = layout(text, size).counts
    coarse = torch.arange(rows * columns * 3 * 4).view(rows * 3, columns * 4)
    finest = coarse.flatten()[nearest_positions((rows * 3, columns * 4), (rows * 7, columns * 8))]
    tile = nearest_positions((3, 4), (7, 8))
    for row in range(rows):
        for column in range(columns):
            own = coarse[row * 3 : row * 3 + 3, column * 4 : column * 4 + 4].flatten()[tile]
            there = finest.view(rows * 7, -1)[row * 7 : row * 7 + 7, column * 8 : column * 8 + 8]
            assert torch.equal(there.flatten(), own)


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_blended_maps_are_the_literal_ones(text: str, size: tuple[int, int]) -> None:
    tiles = layout(text, size)
    distances = torch.rand(1, 7 * tiles.counts[0], 9 * tiles.counts[1], generator=torch.Generator().manual_seed(0))
    blended = anomaly_maps(distances, size, 0.0, tiles=tiles)[0].numpy()
    np.testing.assert_allclose(blended, literal_map(distances[0], tiles), rtol=1e-5, atol=1e-5)


def test_tiles_that_touch_are_upsampled_as_one_image() -> None:
    tiles = layout("2x4", (64, 96))
    distances = torch.rand(2, 16, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        anomaly_maps(distances, (64, 96), 3.0, tiles=tiles), anomaly_maps(distances, (64, 96), 3.0)
    )


@pytest.mark.parametrize(("text", "size"), SIZES)
@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_there_are_no_seams(text: str, size: tuple[int, int], sigma: float) -> None:
    tiles = layout(text, size)
    h, w = (side // 4 for side in tiles.tile_size)
    # The worst case: every tile has a level of its own.
    levels = torch.arange(len(tiles), dtype=torch.float32).remainder(3).view(1, *tiles.counts)
    distances = levels.repeat_interleave(h, 1).repeat_interleave(w, 2)
    elsewhere = torch.arange(h * tiles.counts[0])[None, :, None] % 2 * 2.0  # neighboring patches as different as levels
    of_tiles = anomaly_maps(distances, size, sigma, tiles=tiles)
    of_patches = anomaly_maps(elsewhere.expand_as(distances), size, sigma, tiles=tiles)
    for axis in (1, 2):
        assert of_tiles.diff(dim=axis).abs().max() <= max(2 / 4, float(of_patches.diff(dim=1).abs().max())) + 1e-5


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_a_patch_counts_by_the_pixels_of_its_tile(text: str, size: tuple[int, int]) -> None:
    tiles = layout(text, size)
    masks = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)) < 0.01
    grid = (tiles.counts[0] * 5, tiles.counts[1] * 6)
    counted = valid_patches(tiles.mosaic(masks), grid).T.reshape(2, *grid)
    of_tiles = valid_patches(tiles.cut(masks), (5, 6)).T.reshape(-1, 1, 5, 6)
    assert torch.equal(counted, tiles.assemble(of_tiles)[:, 0])
    scored = upsample_mask(counted, size, tiles)
    literal = torch.zeros_like(scored)
    for number, one in enumerate(upsample_mask(of_tiles[:, 0], tiles.tile_size)):
        rows, columns = tiles.windows[number % len(tiles)]
        literal[number // len(tiles), rows, columns] |= one
    assert torch.equal(scored, literal)
    assert (scored >= masks).all()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0x2", "there is at least one row and one column"),
        ("2x0+8", "there is at least one row and one column"),
        ("1x1", "one tile is the whole image"),
        ("512+512", "an overlap of 512 is not below the size, 512"),
        ("8+2", "a tile has at least 16 pixels a side"),
        ("abc", "that is not a way to cut"),
    ],
)
def test_what_is_wrong_is_said(text: str, found: str) -> None:
    with pytest.raises(InputError, match=f"tiles is '{re.escape(text)}', and {found}: expected ROWSxCOLUMNS"):
        Tiles.parse(text)


@pytest.mark.parametrize("text", ["", "1x1", "0x2", "2", "512", "512+512", "8+2", "2x", "x2", "2x2+", "a", "2x2x2"])
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match=r"tiles is .*: expected ROWSxCOLUMNS, e.g. 2x2"):
        Tiles.parse(text)


def test_one_text_for_one_way_to_cut() -> None:
    assert [str(Tiles.parse(text)) for text in ("02X2", " 2x3+0", "2x2+64", "512+064")] == [
        "2x2",
        "2x3",
        "2x2+64",
        "512+64",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("512+64", "cut nothing off"),
        ("20x1", "at least 16"),
        ("2x2+300", "301"),
        ("40+39", "are 217x161, with 1092 times the pixels .*: expected at most 16 times; choose a smaller overlap"),
    ],
)
def test_images_that_cannot_be_cut_so(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        layout(text, (256, 200))
