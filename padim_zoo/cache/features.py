"""Features of image files on disk, so that a second fit or benchmark of the same images need not compute them again.

What decides them besides the bytes of the image file: backbone and its weights, layers, transform, precision, device.

Maps are kept exactly. Half precision would halve the space, but on real images float16 moved scores by up to 1.4e-4 of
their value, and features that are read must give the scores of features that are computed to 1e-4. Maps of a backbone
in bfloat16 need no more than 16 bits, and take no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from padim_zoo.cache.content_addressed import ContentCache
from padim_zoo.core.fields import FieldError, Fields
from padim_zoo.core.spill import empty, release
from padim_zoo.data.file_notes import stored_kinds
from padim_zoo.data.opening import decoder
from padim_zoo.features.features import Features

_PROBED_VALUES = 4096


@dataclass(frozen=True)
class Entry:
    """The features of one image.

    Attributes
    ----------
    maps : tuple of Tensor (H_l, W_l, C_l), or (V, H_l, W_l, C_l) of V views
        One per layer, float32 or, where that holds them exactly, bfloat16. Read ones lie in the mapped file.
    image_size : tuple of int
        Height and width in pixels after the transform.
    seconds : float
        Time that an image took to compute: decoding, transform and forward pass.
    conditions : str
        What that time depends on besides: processor, threads, batch size, versions.
    notes : tuple of str
        The kinds of note of the file (:mod:`padim_zoo.data.file_notes`), said again when the entry is read.
    """

    maps: tuple[Tensor, ...]
    image_size: tuple[int, int]
    seconds: float
    conditions: str
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the maps."""
        return sum(layer.nbytes for layer in self.maps)


class FeatureCache(ContentCache):
    """Features by the content of image files; parameters and manners are :class:`ContentCache`'s."""

    kind = "features"
    version = 4

    def key(self, path: Path, decisive: str) -> str:
        """The name of an entry; ``decisive`` is a :attr:`~padim_zoo.detectors.detector.Detector.cache_key`."""
        return super().key(path, f"{decisive} {decoder()}")

    def read(self, key: str) -> Entry | None:
        """The entry, which is now the most recently used one; None if there is none, or it is damaged."""
        stored = self.read_tensors(key)
        if stored is None:
            return None
        about, maps = stored
        fields = Fields(about)
        try:
            seconds, conditions = fields.number("seconds", 0), fields.text("conditions")
            entry = Entry(maps, fields.sizes("image_size"), seconds, conditions, stored_kinds(about))
        except FieldError:
            return None
        types = {layer.dtype for layer in maps}
        shaped = bool(maps) and len({layer.ndim for layer in maps}) == 1 and maps[0].ndim in (3, 4)
        return entry if shaped and types <= {torch.float32, torch.bfloat16} else None

    def write(self, key: str, entry: Entry) -> None:
        """Keep an entry; where that is impossible, say so once and go on without."""
        about = {name: getattr(entry, name) for name in ("image_size", "seconds", "conditions", "notes")}
        self.write_tensors(key, about, [_narrowed(layer.contiguous()) for layer in entry.maps])


def entries_of(features: Features, seconds: float = 0.0, conditions: str = "") -> list[Entry]:
    """An entry for each image; without a time, of which nobody knows the conditions, none is told."""
    layers = [layer.permute(0, 2, 3, 1) for layer in features.maps]
    if features.views > 1:
        layers = [layer.reshape(-1, features.views, *layer.shape[1:]) for layer in layers]
    return [Entry(maps, features.image_size, seconds, conditions) for maps in zip(*layers, strict=True)]


class Stack:
    """Features of a number of images, filled in any order by any thread; the first decides the shapes."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._layers: list[Tensor] = []
        self._image_size = (0, 0)
        self._lock = Lock()

    def put(self, index: int, entry: Entry) -> bool:
        """Copy one image into its place, unless its shapes are not those of the others."""
        with self._lock:
            if not self._layers:
                self._layers = [empty(self._images, *layer.shape, dtype=torch.float32) for layer in entry.maps]
                self._image_size = entry.image_size
        shapes = [layer.shape[1:] for layer in self._layers]
        if entry.image_size != self._image_size or [layer.shape for layer in entry.maps] != shapes:
            return False
        for stack, layer in zip(self._layers, entry.maps, strict=True):
            stack[index] = layer
        release()
        return True

    @property
    def features(self) -> Features:
        """All images, channels last in memory as networks leave them."""
        views = self._layers[0].shape[1] if self._layers[0].ndim == 5 else 1
        maps = [layer.flatten(0, 1) if layer.ndim == 5 else layer for layer in self._layers]
        return Features(tuple(layer.permute(0, 3, 1, 2) for layer in maps), self._image_size, views)


def _narrowed(layer: Tensor) -> Tensor:
    """The map in 16 bits if nothing is lost by it."""
    if layer.dtype == torch.bfloat16:
        return layer
    probe = layer.flatten()[:_PROBED_VALUES]
    if not torch.equal(probe.bfloat16().float(), probe):
        return layer
    narrow = layer.bfloat16()
    return narrow if torch.equal(narrow.float(), layer) else layer
