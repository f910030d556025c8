"""Pasted pieces, against what the CutPaste paper says of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from padim_zoo.finetune.cutpaste import Pasted, cutpaste, cutpaste_scar

SIZE = (150, 200)
BOTH = pytest.mark.parametrize("paste", [cutpaste, cutpaste_scar])


@pytest.fixture(scope="module")
def addressed() -> Tensor:
    """An image whose pixels say where they are: red the row, green the column."""
    rows, columns = np.indices(SIZE)
    return torch.from_numpy(np.stack([rows, columns, (7 * rows + 3 * columns) % 256]).astype(np.uint8))


def draws(paste: Callable[..., Pasted], image: Tensor, count: int) -> list[Pasted]:
    return [paste(image, np.random.default_rng(seed)) for seed in range(count)]


@pytest.fixture
def _same_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are pasted as they are cut out."""
    monkeypatch.setattr("padim_zoo.finetune.cutpaste._jittered", lambda piece, rng: piece)


@BOTH
def test_nothing_changes_outside_the_piece_nor_in_the_original(addressed, paste):
    before = addressed.clone()
    for image, mask in draws(paste, addressed, 50):
        assert 0 < mask.sum() < mask.numel()
        assert torch.equal(image[:, ~mask], addressed[:, ~mask])
        assert not torch.equal(image, addressed)
    assert torch.equal(addressed, before)


@pytest.mark.usefixtures("_same_colors")
def test_the_piece_is_one_rectangle_of_the_same_image(addressed):
    for image, mask in draws(cutpaste, addressed, 50):
        rows, columns = (axis.unique() for axis in mask.nonzero(as_tuple=True))
        height, width = len(rows), len(columns)
        assert mask.sum() == height * width == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        piece = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = int(piece[0, 0, 0]), int(piece[1, 0, 0])
        assert torch.equal(piece, addressed[:, top : top + height, left : left + width])


def test_areas_and_aspects_are_those_of_the_paper(addressed):
    sides = []
    for _, mask in draws(cutpaste, addressed, 400):
        rows, columns = (axis.unique() for axis in mask.nonzero(as_tuple=True))
        sides.append((len(rows), len(columns)))
    heights, widths = np.array(sides).T
    areas, aspects = heights * widths / (SIZE[0] * SIZE[1]), widths / heights
    assert 0.019 < areas.min() < 0.03
    assert 0.13 < areas.max() < 0.155
    assert 1 / 3.5 < aspects.min() < 0.4
    assert 2.8 < aspects.max() < 3.5
    assert 0.4 < (aspects > 1).mean() < 0.6


@pytest.mark.usefixtures("_same_colors")
def test_a_scar_is_a_small_turned_rectangle_of_the_same_image(addressed):
    scale = SIZE[0] / 256  # the paper's pixels are of images of 256 x 256
    areas, extents = [], []
    for image, mask in draws(cutpaste_scar, addressed, 300):
        source = image[:2, mask].long()
        blue = (7 * source[0] + 3 * source[1]) % 256
        assert torch.equal(image[2, mask].long(), blue)  # whole pixels of the image, none mixed
        height, width = (int(axis.max() - axis.min()) + 1 for axis in source)
        assert height <= 25 * scale + 1
        assert width <= 16 * scale + 1
        assert mask.sum() <= 1.3 * (height + 1) * (width + 1)
        areas.append(int(mask.sum()))
        extents.append((height, width))
    heights, widths = np.array(extents).T
    assert heights.min() <= 10 * scale + 1
    assert heights.max() >= 24 * scale - 1
    assert widths.min() <= 2 * scale + 1
    assert widths.max() >= 15 * scale - 1
    # Turned, for the most part: it does not fill its own bounding box.
    boxes = [np.ptp(np.argwhere(mask.numpy()), axis=0) + 1 for _, mask in draws(cutpaste_scar, addressed, 100)]
    build_array = [area / np.prod(box) for area, box in zip(areas, boxes, strict=False)]
    assert np.median(build_array) < 0.9


@BOTH
def test_a_seed_gives_the_same_piece(addressed, paste):
    first, again = (draws(paste, addressed, 5) for _ in range(2))
    assert all(torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].mask, first[1].mask)


@BOTH
def test_colors_change_a_little(paste):
    gray = torch.full((3, *SIZE), 100, dtype=torch.uint8)
    gray[0] = 140
    changes = [(image.short() - gray.short())[:, mask].abs().amax().item() for image, mask in draws(paste, gray, 50)]
    assert np.median(changes) > 0
    assert max(changes) <= 45


@BOTH
def test_images_of_a_few_pixels(paste):
    tiny = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    for image, mask in draws(paste, tiny, 20):
        assert image.shape == tiny.shape
        assert mask.any()
