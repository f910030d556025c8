"""Features of image files on disk, so that a second fit or benchmark of the same images need not compute them again.

What decides them besides the bytes of the image file: backbone and its weights, layers, transform, precision, device.

Maps are kept exactly. Half precision would halve the space, but on real images float16 moved scores by up to 1.4e-4 of
their value, and features that are read must give the scores of features that are computed to 1e-4. Maps of a backbone
in bfloat16 need no more than 16 bits, and take no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from padim_zoo.data.content_cache import ContentCache


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
    """

    maps: tuple[Tensor, ...]
    image_size: tuple[int, int]
    seconds: float
    conditions: str


class FeatureCache(ContentCache):
    """Features by the content of image files; parameters and manners are :class:`ContentCache`'s."""

    kind = "features"
    version = 1

    def read(self, key: str) -> Entry | None:
        """The entry, which is now the most recently used one; None if there is none, or it is damaged."""
        found = self.read_tensors(key)
        if found is None:
            return None
        known, maps = found
        height, width = known["image_size"]
        return Entry(maps, (height, width), known["seconds"], known["conditions"])

    def write(self, key: str, entry: Entry) -> None:
        """Keep an entry; where that is impossible, say so once and go on without."""
        known = {"image_size": entry.image_size, "seconds": entry.seconds, "conditions": entry.conditions}
        self.write_tensors(key, known, [_narrowed(layer.contiguous()) for layer in entry.maps])


def _narrowed(layer: Tensor) -> Tensor:
    """The map in 16 bits if nothing is lost by it."""
    narrow = layer.bfloat16()
    return narrow if torch.equal(narrow.float(), layer) else layer
