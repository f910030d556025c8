"""Images on their way to a detector, and where they came from: what their regions are told in the pixels of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from padim_zoo.data.corruptions import CorruptedFile
from padim_zoo.data.image import to_image
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.data.sources import image_items


class PassingImages:
    """Images one by one, of which each leaves its file, or its size.

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
        The files, or the height and width, of all that have passed. None of hashed images, which are read themselves.
    """

    def __init__(self, images: Any, bit_depth: int | None) -> None:
        self.sources: list[Path | tuple[int, int]] | None = None if isinstance(images, HashedImages) else []
        self.images = images if self.sources is None else self._passing(images, bit_depth, self.sources)

    @staticmethod
    def _passing(images: Any, bit_depth: int | None, sources: list[Path | tuple[int, int]]) -> Iterator[Any]:
        for position, item in enumerate(image_items(images)):
            if isinstance(item, (Path, CorruptedFile)):
                sources.append(item if isinstance(item, Path) else item.path)
                yield item
            else:
                image = to_image(item, f"image {position}", bit_depth)
                sources.append((image.shape[0], image.shape[1]))
                yield image
