"""Whatever holds images, to single images with a name: files, arrays, tensors, data sets, data loaders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.data.corruptions import CorruptedFile
from padim_zoo.data.files import paths_of
from padim_zoo.data.image import to_image
from padim_zoo.data.sample import Sample

_IMAGE_KEY = "image"


Source = Path | CorruptedFile | np.ndarray
"""A file, to be corrupted or not, or a uint8 array (H, W, 3)."""


def named_images(images: Any, bit_depth: int | None = None) -> Iterator[tuple[str, Source]]:
    """Each image as a file or an array, with the name that errors call it.

    In-memory images are converted here and not in the threads: two threads must not decode one lazy PIL image.
    """
    for position, item in enumerate(image_items(images)):
        if isinstance(item, Path):
            yield str(item), item
        elif isinstance(item, CorruptedFile):
            yield str(item.path), item
        else:
            name = f"image {position}"
            yield name, to_image(item, name, bit_depth)


def count_of(images: Any) -> int | None:
    """How many images there are, where that is known without a look at them."""
    if isinstance(images, (list, tuple)):
        single = all(
            isinstance(one, (Path, Sample, CorruptedFile)) or (isinstance(one, np.ndarray) and one.ndim < 4)
            for one in images
        )
        return len(images) if single else None
    if isinstance(images, (np.ndarray, Tensor)):
        return len(images) if images.ndim == 4 else 1
    count: int | None = getattr(images, "image_count", None)
    return count


def single_images(images: Any) -> list[Path | np.ndarray]:
    """The images of a list of files and arrays, or of an array (N, H, W, 3); none of anything else."""
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if not isinstance(images, (list, tuple)):
        return []
    singles = [one.path if isinstance(one, Sample) else Path(one) if isinstance(one, str) else one for one in images]
    taken = all((isinstance(one, Path) or (isinstance(one, np.ndarray) and one.ndim < 4)) for one in singles)
    return singles if taken else []


def listed(images: Any) -> Any:
    """The same images; those of folders and glob patterns as a list of files."""
    if isinstance(images, (str, Path)):
        return paths_of(images)
    several = isinstance(images, (list, tuple)) and bool(images)
    return paths_of(images) if several and all(isinstance(one, (str, Path)) for one in images) else images


def image_items(images: Any) -> Iterator[Any]:
    """Single images: paths, files to corrupt, PIL images, arrays, tensors."""
    if isinstance(images, Sample):
        yield images.path
    elif isinstance(images, CorruptedFile):
        yield images
    elif isinstance(images, (str, Path)):
        yield from paths_of(images)
    elif isinstance(images, (np.ndarray, Tensor)):
        yield from images if images.ndim == 4 else [images]
    elif isinstance(images, Image.Image):
        yield images
    elif isinstance(images, Mapping):
        yield from image_items(_image_of(images))
    else:
        try:
            elements = iter(images)
        except TypeError:
            raise InputError(
                f"images are a {type(images).__name__}: expected paths, PIL images, arrays, tensors or a data loader"
            ) from None
        for element in elements:
            yield from image_items(_image_of(element))


def _image_of(element: Any) -> Any:
    """The image, or batch of images, in an element of a data set or data loader."""
    if isinstance(element, Mapping):
        if _IMAGE_KEY not in element:
            keys = ", ".join(map(repr, element))
            raise InputError(f"a batch is a mapping with the keys {keys}: expected the images under {_IMAGE_KEY!r}")
        return element[_IMAGE_KEY]
    if isinstance(element, tuple) and not element:
        raise InputError("a batch is an empty tuple: expected the images as its first item")
    # A data loader makes lists of the tuples of its data set, [images, labels]; any other list is one of images.
    first = element[0] if isinstance(element, (tuple, list)) and element else None
    if isinstance(element, tuple) or (isinstance(first, (np.ndarray, Tensor)) and first.ndim == 4):
        return first
    return element
