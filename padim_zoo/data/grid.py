"""The sizes of images before they are decoded: what the grid of a fit is chosen by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.data.corruptions import CorruptedFile
from padim_zoo.data.files import paths_of
from padim_zoo.data.image import image_size, size_text, to_image
from padim_zoo.data.sample import Sample
from padim_zoo.data.sources import Source, image_items, named_images

Size = tuple[int, int]


def look_ahead(images: Any) -> tuple[list[Size], Any]:
    """Sizes of images, and the images, of which none is lost.

    Of files all sizes are read, from their headers. Of images in memory and of data loaders the first image alone is
    looked at: the others may not be there yet.

    Parameters
    ----------
    images
        As :func:`~padim_zoo.data.loading.batches` takes them.

    Returns
    -------
    sizes : list of (int, int)
        Height and width, upright; empty where there is no image.
    images
        What is to be read instead of ``images``: an iterator cannot be begun twice.

    Raises
    ------
    InputError
        If no file can be read, or what comes first is no image.
    """
    paths = _files(images)
    if paths is not None:
        return sizes_of(paths), images
    if isinstance(images, (np.ndarray, Tensor, Image.Image, dict, Sequence)):
        return _first_size(named_images(images)), images
    try:
        elements = iter(images)
    except TypeError:
        return _first_size(named_images(images)), images  # which refuses them
    first = list(_take_one(elements))
    return _first_size(named_images(first)), chain(first, elements)


def known_sizes(images: Any) -> list[Size]:
    """Sizes of images of which all are at hand: those of files from their headers. Empty for any others."""
    images = getattr(images, "source", images)
    single = isinstance(images, CorruptedFile) or _in_memory(images)
    several = list(image_items(images)) if single else images if isinstance(images, (list, tuple)) else []
    if several and all(isinstance(one, CorruptedFile) for one in several):
        return sizes_of([one.path for one in several])
    if several and all(_in_memory(one) and getattr(one, "ndim", 2) in (2, 3) for one in several):
        return [_shown_size(one) for one in several]
    paths = _files(images)
    return [] if paths is None else sizes_of(paths)


def canvas_of(sizes: Iterable[Size], stride: int, of_fit: Size | None = None) -> Size | None:
    """The size that images of several sizes lie on, in their top left corner; None where all have one size.

    Parameters
    ----------
    sizes : iterable of (int, int)
        Height and width of each image.
    stride : int
        Of the coarsest layer, in pixels: the canvas is a multiple of it.
    of_fit : (int, int), optional
        The size of the images of a fit. New ones that all have it need no canvas, and others one as large at least.
    """
    several = set(sizes)
    if not several or len(several | {of_fit or next(iter(several))}) < 2:
        return None
    height, width = (-(-max(sides) // stride) * stride for sides in zip(*several, of_fit or (0, 0), strict=True))
    return height, width


TO_ONE_SIZE = (
    "give a crop or an exact resize (--crop N, --resize HxW), or take patchcore, subspace or mahalanobis-ad with "
    "--resize none, without --tta, --tiles, --map-values and radius"
)
"""What to do about images of several sizes."""


def refuse_several_sizes(images: Any, options: Sequence[str] = ()) -> None:
    """Refuse images that are known to differ in size, before any is decoded.

    Parameters
    ----------
    images
        As of :func:`known_sizes`.
    options : sequence of str
        Those that do not allow that; none where the detector itself does not.

    Raises
    ------
    InputError
        Naming two sizes, of files two images too, and what to do.
    """
    several = sorted(set(known_sizes(images)))
    if len(several) < 2:
        return
    smallest, largest = (_with_name(size, images) for size in (several[0], several[-1]))
    found = f"images are of {len(several)} sizes, e.g. {smallest} and {largest}"
    if options:
        verb, them = ("needs", "it") if len(options) == 1 else ("need", "them")
        raise InputError(
            f"{found}, and {' and '.join(options)} {verb} one size: leave {them} out, or give an exact resize "
            "(--resize HxW)"
        )
    raise InputError(f"{found}, and this detector needs one size: {TO_ONE_SIZE}")


def _with_name(size: Size, images: Any) -> str:
    """A size in words, of files with the first that has it."""
    paths = _files(getattr(images, "source", images)) or []
    name = next((f" ({path})" for path in paths if _size_or_none(path) == size), "")
    return size_text(size) + name


def sizes_of(paths: Sequence[Path]) -> list[Size]:
    """Height and width of image files, upright, from their headers.

    Files that cannot be read are left out, for the fit names them.

    Raises
    ------
    InputError
        If none of them can be read.
    """
    with ThreadPoolExecutor() as pool:
        sizes = [size for size in pool.map(_size_or_none, paths) if size is not None]
    return sizes or [image_size(path) for path in paths[:1]]


def _files(images: Any) -> list[Path] | None:
    """The files that images are, or None if they are something else."""
    if isinstance(images, (str, Path, Sample)):
        images = [images]
    if not isinstance(images, (list, tuple)) or not all(isinstance(one, (str, Path, Sample)) for one in images):
        return None
    return [path for one in images for path in ([one.path] if isinstance(one, Sample) else paths_of(one))]


def _in_memory(image: Any) -> bool:
    return isinstance(image, (np.ndarray, Tensor, Image.Image))


def _shown_size(image: np.ndarray | Tensor | Image.Image) -> Size:
    """Height and width of an image in memory, upright."""
    if isinstance(image, Image.Image):
        image = to_image(image)
    height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
    return height, width


def _size_or_none(path: Path) -> Size | None:
    try:
        return image_size(path)
    except InputError:
        return None


def _take_one(elements: Iterator[Any]) -> Iterator[Any]:
    for element in elements:
        yield element
        return


def _first_size(images: Iterator[tuple[str, Source]]) -> list[Size]:
    for _, image in images:
        file = image.path if isinstance(image, CorruptedFile) else image
        return [image_size(file) if isinstance(file, Path) else (file.shape[0], file.shape[1])]
    return []
