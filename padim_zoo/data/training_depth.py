"""The bit depth of training images: what all of them together say of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.data.bit_depth import SampleCounts, counts_of, counts_of_picture
from padim_zoo.data.decoding import may_be_deep, open_image, picture_of
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
    total = SampleCounts()
    with ThreadPoolExecutor(_READERS) as pool:
        items = [first, *ahead]
        for counts in told(pool.map(_counts_of_item, items), "looking at bit depths", len(items)):
            total = total.plus(counts)
    return total


def _counts_of_item(item: Any) -> SampleCounts:
    if isinstance(item, Path):
        try:
            status = item.stat()
        except OSError:  # which is told by the attempt to decode it
            return SampleCounts()
        return _counts_of_file(item.absolute(), status.st_size, status.st_mtime_ns)
    return counts_of(np.asarray(item)) if _is_deep_array(item) else SampleCounts()


@functools.lru_cache(maxsize=100_000)
def _counts_of_file(path: Path, *version: int) -> SampleCounts:
    try:
        image = open_image(path)
        return counts_of_picture(picture_of(image, str(path))) if may_be_deep(image) else SampleCounts()
    except InputError:  # as above
        return SampleCounts()


def _is_deep_array(item: Any) -> bool:
    return str(getattr(item, "dtype", "")).removeprefix("torch.") == "uint16"
