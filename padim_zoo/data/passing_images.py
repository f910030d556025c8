"""Images on their way to a detector, each with its file or its size: regions are in the pixels of the image itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.data.sources import named_images


class PassingImages:
    """Images one by one. Of each that has passed, its file or its size is noted.

    Parameters
    ----------
    images
        As :func:`~padim_zoo.data.loading.batches` takes them.
    bit_depth : int or None
        As of :func:`~padim_zoo.data.image.read_image`.

    Attributes
    ----------
    images
        The same images, to be gone through once.
    sources : list of Path or (int, int), or None
        The files, or the height and width, of all that have passed. None for hashed images, which pass as they are.
    """

    def __init__(self, images: Any, bit_depth: int | None) -> None:
        self.sources: list[Path | tuple[int, int]] | None = None if isinstance(images, HashedImages) else []
        self.images = images if self.sources is None else self._passing(images, bit_depth, self.sources)

    @staticmethod
    def _passing(images: Any, bit_depth: int | None, sources: list[Path | tuple[int, int]]) -> Iterator[Any]:
        for _, source in named_images(images, bit_depth):
            if isinstance(source, np.ndarray):
                sources.append((source.shape[0], source.shape[1]))
            else:
                sources.append(source if isinstance(source, Path) else source.path)
            yield source
