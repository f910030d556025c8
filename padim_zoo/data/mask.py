"""Mask files to the pixels that they mark: one rule for all encodings.

The rule, in the order of docs/image-files.md: where color is the same everywhere and alpha is not, alpha is the mask.
Few flat colors of which one is black, or a palette: what is not black, or not index 0, is marked. Two gray values: the
one that is not zero. Numbers 0 … n: all but zero. Many gray levels, or a lossy format: those above half of the largest.
Anything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.data.bit_depth import counts_of_picture, largest_of
from padim_zoo.data.decoding import Picture, geometry, is_lossy, pages_of, picture_of, turned_to
from padim_zoo.data.file_notes import note
from padim_zoo.data.image import size_text
from padim_zoo.data.opening import open_image
from padim_zoo.data.orientation import UPRIGHT, Geometry, turn

ORIENTATIONS = ("stored", "shown")
"""What masks may be drawn on: the pixels as stored, or the upright image."""

MOST = 0.8
"""A mask that marks a larger share of its image is told of: it may be inverted."""

_LOSSY_TINT = 16
_FEW_LEVELS = 16
_LARGEST_NUMBER = 127
_FEW_COLORS = 32
# Diagonal neighbors belong to one region.
_EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)


def read_mask(
    paths: Sequence[Path],
    size: tuple[int, int],
    image: Path | None = None,
    *,
    orientation: str | None = None,
    whole: bool = False,
) -> np.ndarray:
    """Read the union of masks.

    Parameters
    ----------
    paths : sequence of Path
        Mask files.
    size : tuple of int
        Height and width of the upright image that the masks belong to.
    image : Path, optional
        That image, named by errors, whose EXIF orientation masks may have to be turned by.
    orientation : str, optional
        One of :data:`ORIENTATIONS`: what masks were drawn on. By default the one whose size fits; where both do, the
        upright image, which is noted.
    whole : bool
        Whether a mask may mark all of its image, as a region of interest does.

    Returns
    -------
    ndarray (H, W), bool

    Raises
    ------
    InputError
        If a mask cannot be read, has another size, or is coded in a way that the rule has no place for.
    """
    union = np.zeros(size, dtype=bool)
    for marked in _each(paths, size, image, orientation, whole):
        union |= marked
    return union


def read_regions(
    paths: Sequence[Path], size: tuple[int, int], image: Path | None = None, *, orientation: str | None = None
) -> np.ndarray:
    """Read masks as numbered regions; parameters are those of :func:`read_mask`.

    Where an image has a folder of masks, as in MVTec LOCO, each file is one region, whatever it touches. The regions of
    a single file are its 8-connected components.

    Returns
    -------
    ndarray (H, W), int32
        0 where nothing is marked, and k in region k. A pixel that two files mark is of the first.
    """
    from scipy import ndimage  # predict need not wait for it

    regions = np.zeros(size, dtype=np.int32)
    one_each = file_is_region(paths, image)
    number = 0
    for marked in _each(paths, size, image, orientation, False):
        if not marked.any():
            continue
        components, count = (marked, 1) if one_each else ndimage.label(marked, structure=_EIGHT_NEIGHBORS)
        free = marked & (regions == 0)
        regions[free] = components[free].astype(np.int32) + number
        number += count
    return regions


def file_is_region(paths: Sequence[Path], image: Path | None) -> bool:
    """Whether each mask file of an image is one region: where there are several, or a folder of the image's name."""
    return len(paths) > 1 or (image is not None and paths[0].parent.name == image.stem)


def looks_inverted(mask: np.ndarray) -> bool:
    """Whether a mask marks most of its image, or all of its border."""
    border = mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()
    return bool(border or mask.mean() > MOST)


def _each(
    paths: Sequence[Path], size: tuple[int, int], image: Path | None, orientation: str | None, whole: bool
) -> list[np.ndarray]:
    """What each file marks, (H, W), bool, on the upright image."""
    of_image = geometry(image) if image is not None and image.is_file() else Geometry(size)
    return [_upright(*_pages(Path(path), of_image, image, whole), of_image, path, orientation) for path in paths]


def _pages(path: Path, of_image: Geometry, its_image: Path | None, whole: bool) -> tuple[np.ndarray, bool]:
    """What a file marks on all pages of the image's size; and whether it states an orientation of its own.

    Raises
    ------
    InputError
        As of :func:`read_mask`.
    """
    image, name = open_image(path), str(path)
    lossy = is_lossy(image)
    own = geometry(path).orientation != UPRIGHT
    count = pages_of(image)
    if count > 1:
        note("mask pages", name)
    union: np.ndarray | None = None
    sizes: list[tuple[int, ...]] = []
    for page in range(count):
        picture = picture_of(turned_to(open_image(path), page, name), name)
        sizes.append(picture.samples.shape[:2])
        if sizes[-1] == of_image.shown or (sizes[-1] == of_image.stored and not own):
            marked = _marked(picture, name, lossy, whole)
            union = marked if union is None or union.shape != marked.shape else union | marked
    if union is None:
        of = f"its image {its_image}" if its_image is not None else "its image"
        raise InputError(
            f"mask {path} is {size_text(sizes[0])} but {of} is {size_text(of_image.shown)} (height x width): "
            "a mask must have its image's size"
        )
    return union, own


def _upright(marked: np.ndarray, own: bool, of_image: Geometry, path: Path, orientation: str | None) -> np.ndarray:
    """A mask as drawn on the upright image; ``own`` says that its file was turned by itself."""
    shown, stored = marked.shape == of_image.shown, marked.shape == of_image.stored
    if of_image.orientation == UPRIGHT or own or not stored:
        return marked
    if not shown:
        note("turned mask", str(path))
    elif orientation is None:
        note("orientation", str(path))
    return turn(marked, of_image.orientation) if orientation == "stored" or not shown else marked


def _marked(picture: Picture, name: str, lossy: bool, whole: bool) -> np.ndarray:
    """What one picture marks, by the rule."""
    samples, alpha = picture.samples, picture.alpha
    if alpha is not None:
        visible = np.atleast_3d(samples)[alpha > 0]
        if not len(visible) or (visible == visible[0]).all():
            note("alpha mask", name)
            return _marked_gray(alpha, name, lossy, whole)
        samples = np.where(np.atleast_3d(alpha > 0), np.atleast_3d(samples), 0)
    if picture.white_is_zero:
        white = largest_of(counts_of_picture(picture).depth)
        samples = white - np.minimum(samples, white)
    if samples.ndim == 3:
        tint = int(np.ptp(samples, axis=2).max())
        if tint > (_LOSSY_TINT if lossy else 0):
            return _marked_color(samples, picture.palette, name)
        samples = samples[:, :, 1]
    return _marked_gray(samples, name, lossy, whole)


def _marked_gray(levels: np.ndarray, name: str, lossy: bool, whole: bool) -> np.ndarray:
    values = np.flatnonzero(np.bincount(levels.ravel())) if levels.dtype == np.uint8 else np.unique(levels)
    largest = values[-1]
    if values[0] < 0 or not np.isfinite(largest):
        raise InputError(f"mask {name} has values from {values[0]} to {largest}: expected 0 where nothing is marked")
    numbers = largest <= _LARGEST_NUMBER and largest == len(values) - 1
    if len(values) > 2 and (lossy or (len(values) > _FEW_LEVELS and not numbers)):
        note("gray mask", name)
        return np.asarray(levels > largest / 2)
    if values[0] != 0 and not (whole and len(values) == 1):
        shown = " and ".join(f"{value:g}" for value in values[:2].tolist())
        raise InputError(
            f"mask {name} has no unmarked pixel, only the values {shown}{' and more' if len(values) > 2 else ''}: "
            "expected 0 where nothing is marked"
        )
    return np.asarray(levels != 0)


def _marked_color(samples: np.ndarray, palette: np.ndarray | None, name: str) -> np.ndarray:
    """What differs from black among few flat colors, or from the first color of a palette without black."""
    codes = samples.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1])
    colors = np.unique(codes)
    if len(colors) <= _FEW_COLORS or palette is not None:
        if colors[0] == 0:
            return np.asarray(codes != 0)
        if palette is not None and (palette == 0).any():
            return np.asarray(palette != 0)
    raise InputError(
        f"mask {name} has {len(colors)} colors{'' if colors[0] == 0 else ', none of them black'}: it looks like a "
        "picture with marks on it; expected a mask that is black where nothing is marked"
    )
