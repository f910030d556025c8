"""The bit depth of training images: what all of them together say of it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.data import png
from padim_zoo.data.bit_depth import FULL_DEPTH, SampleCounts, counts_of, counts_of_picture, largest_of
from padim_zoo.data.content import file_version
from padim_zoo.data.decoding import may_be_deep, picture_of
from padim_zoo.data.opening import open_image, open_regular
from padim_zoo.data.pixel_limit import max_pixels
from padim_zoo.data.sample import Sample
from padim_zoo.data.sources import image_items

_READERS = 8


def counts_of_images(images: Any) -> SampleCounts:
    """The counts of files, of arrays and of sequences of these.

    Files of 8 bits are told by their headers. Iterators and data loaders are not looked at: they may give their images
    once, or draw them.
    """
    if not isinstance(images, (str, Path, Sample, np.ndarray, Tensor, Sequence)):
        return SampleCounts()
    ahead: Iterator[Any] = image_items(images)
    first = next(ahead, None)
    if not isinstance(first, Path) and not _is_deep_array(first):
        return SampleCounts()
    items = [first, *ahead]
    versions = tuple(_version(item) if isinstance(item, Path) else None for item in items)
    return _counted(items) if None in versions else _counts_of_versions(max_pixels(), versions)


@functools.lru_cache(maxsize=4)
def _counts_of_versions(most_pixels: int, versions: tuple[tuple[Path, int, int, int, int], ...]) -> SampleCounts:
    """The counts of the same files again, which a benchmark asks for at every run: no thread is started for it."""
    return _counted([version[0] for version in versions])


def _version(path: Path) -> tuple[Path, int, int, int, int] | None:
    try:
        return file_version(path)
    except OSError:  # which is told by the attempt to decode it
        return None


def _counted(items: Sequence[Any]) -> SampleCounts:
    total = SampleCounts()
    with ThreadPoolExecutor(_READERS) as pool:
        for counts in told(pool.map(_counts_of_item, items), "looking at bit depths", len(items)):
            total = total.plus(counts)
    return total


def _counts_of_item(item: Any) -> SampleCounts:
    if isinstance(item, Path):
        version = _version(item)
        return SampleCounts() if version is None else _counts_of_version(max_pixels(), *version)
    return counts_of(np.asarray(item)) if _is_deep_array(item) else SampleCounts()


@functools.lru_cache(maxsize=100_000)
def _counts_of_version(most_pixels: int, path: Path, *version: int) -> SampleCounts:
    """The counts of a version of a file, under a limit that may refuse it."""
    try:
        with open_regular(path) as file:
            if png.never_deep(file.read(png.HEAD)):
                return SampleCounts()
        image = open_image(path)
        return counts_of_picture(picture_of(image, str(path))) if may_be_deep(image) else SampleCounts()
    except (InputError, OSError):  # as above
        return SampleCounts()


def _is_deep_array(item: Any) -> bool:
    return str(getattr(item, "dtype", "")).removeprefix("torch.") == "uint16"


def depth_to_assume(images: Any, asked: int | None) -> int | None:
    """The bit depth that normal images are found to have; None where one is asked for.

    Raises
    ------
    InputError
        If the one that is asked for does not hold their samples.
    """
    counts = counts_of_images(images)
    if asked is None:
        if counts.depth_or_full < FULL_DEPTH:
            warnings.warn(
                f"the normal images hold {counts.depth_or_full} bits in 16-bit samples: white is "
                f"{largest_of(counts.depth_or_full)}; set --bit-depth if that is wrong",
                stacklevel=5,
            )
        return counts.depth_or_full
    if counts.total and counts.depth > asked:
        raise InputError(
            f"bit_depth is {asked}, but the normal images have samples of {counts.depth} bits: "
            f"give --bit-depth {counts.depth}, or auto"
        )
    return None


def refuse_deeper(images: Any, depth: int) -> None:
    """Refuse normal images that hold more bits than those of the fit.

    Raises
    ------
    InputError
        Naming both.
    """
    counts = counts_of_images(images)
    if counts.total and counts.depth > depth:
        raise InputError(f"the images hold {counts.depth} bits, and those of the fit {depth}: fit again on all images")
