"""Resized images on disk: what is left of a large file when it is decoded and resized, exactly.

A PNG of 1024 x 1024 takes as long to decode and resize as a resnet18 takes for several images, and every backbone, and
every fit, wants the same 256 x 256 pixels of it. They are kept before the crop, so that all crops and all views of an
augmentation share them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from padim_zoo.cache.content_addressed import ContentCache
from padim_zoo.core.cpu import processor_name
from padim_zoo.core.fields import FieldError, Fields, is_whole
from padim_zoo.data.content import file_version, is_still
from padim_zoo.data.file_notes import note, overhearing, stored_kinds
from padim_zoo.data.image import read_image
from padim_zoo.data.opening import decoder, stored_size
from padim_zoo.data.transform import Transform

LEAST_PIXELS = 2**18
"""Images of fewer pixels, 512 x 512, are not kept: they are decoded in a few milliseconds."""

LEAST_RATIO = 2
"""Nor those of which the resize leaves more than one in so many pixels: reading them takes its time too."""


class DecodeLedger:
    """What the cache has changed about the time of decoding, in seconds of a processor core.

    Attributes
    ----------
    entries : list of (float, float)
        Of every image: what it took, when that was done, to decode and resize it, if it was read instead; and what it
        took to look for it and to read or write it.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[float, float]] = []  # threads append to a list without a lock

    @property
    def saved(self) -> float:
        """Seconds that were not spent on decoding."""
        return sum(saved for saved, _ in self.entries)

    @property
    def spent(self) -> float:
        """Seconds that the cache took itself."""
        return sum(spent for _, spent in self.entries)


class ImageCache(ContentCache):
    """Resized images by the content of image files; parameters and manners are :class:`ContentCache`'s."""

    kind = "images"
    version = 3

    def __init__(self, root: Path | None = None, limit: int | None = None, *, writes: bool = True) -> None:
        super().__init__(root, limit, writes=writes)
        self._ledgers: list[DecodeLedger] = []

    def resized(
        self, path: Path, transform: Transform, on_decode: Callable[[np.ndarray], None] | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """An image after the resize, before the crop; read, or else made and kept where that pays.

        What was noted of the file when it was decoded is noted again when its entry is read.

        Parameters
        ----------
        path : Path
        transform : Transform
        on_decode : callable, optional
            Called with the pixels of the file, (H, W, 3), uint8, if it has to be decoded.

        Returns
        -------
        pixels : ndarray (h, w, 3), uint8
            What ``transform.resized(read_image(path, transform.bit_depth))`` gives.
        size : tuple of int
            Height and width of the image in the file.

        Raises
        ------
        InputError
            If the file cannot be read, or is no image.
        """
        start = time.thread_time()
        try:
            version, key = file_version(path), self._key_if_worthwhile(path, transform)
        except OSError:  # which is told by the attempt to decode it
            version, key = None, None
        entry = None if key is None else self.read_tensors(key)
        looked_up = time.thread_time()
        found = None if entry is None else _pixels_in(entry, transform)
        if found is not None:
            pixels, size, seconds, kinds = found
            for kind in kinds:
                note(kind, str(path))
            self._note(seconds, looked_up - start)
            return pixels, size
        with overhearing() as heard:
            image = read_image(path, transform.bit_depth)
        resized = transform.resized(image)
        seconds = time.thread_time() - looked_up
        if on_decode is not None:
            on_decode(image)
        handed_out = time.thread_time()
        if key is not None and is_still(path, version):
            about = {"size": image.shape[:2], "seconds": seconds, "notes": heard.kinds_of(str(path))}
            self.write_tensors(key, about, [torch.from_numpy(np.array(resized))])
        self._note(0.0, looked_up - start + time.thread_time() - handed_out)
        return resized, (image.shape[0], image.shape[1])

    @contextmanager
    def accounting(self) -> Iterator[DecodeLedger]:
        """What the cache changes about the time of decoding while the context is open."""
        ledger = DecodeLedger()
        self._ledgers.append(ledger)
        try:
            yield ledger
        finally:
            self._ledgers.remove(ledger)

    def _note(self, saved: float, spent: float) -> None:
        for ledger in self._ledgers:
            ledger.entries.append((saved, spent))

    def _key_if_worthwhile(self, path: Path, transform: Transform) -> str | None:
        size = stored_size(path)
        if size is None:
            return None
        height, width = size
        if height * width < max(LEAST_PIXELS, LEAST_RATIO * math.prod(transform.resized_size(height, width))):
            return None
        asked = f"{transform.resize}" + f" x{transform.finer}" * (transform.finer > 1)
        return self.key(path, f"resize {asked} depth {transform.bit_depth} {decoder()} {processor_name()}")


def _pixels_in(
    entry: tuple[dict[str, Any], tuple[torch.Tensor, ...]], transform: Transform
) -> tuple[np.ndarray, tuple[int, int], float, tuple[str, ...]] | None:
    """Pixels, size of the image in the file, seconds and kinds of note of an entry; None unless they go together."""
    about, tensors = entry
    try:
        size = Fields({"size": about.get("size")}).array("size")
        seconds = Fields(about).number("seconds", 0)
        kinds = stored_kinds(about)
    except FieldError:
        return None
    if len(size) != 2 or not all(is_whole(n, 1, 2**31) for n in size) or len(tensors) != 1:
        return None
    shape = (*transform.resized_size(size[0], size[1]), 3)
    if tensors[0].shape != shape or tensors[0].dtype != torch.uint8:
        return None
    return tensors[0].numpy(), (size[0], size[1]), seconds, kinds
