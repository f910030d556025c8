"""Feature maps of a set of images at the resolution of their layers: what detectors are fitted on.

Detectors that ask for the same features share them: a benchmark extracts once and fits many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Feature maps of N images, or of V views of each.

    Attributes
    ----------
    maps : tuple of Tensor
        One tensor (N·V, C_l, H_l, W_l), float32, per layer; each at the layer's own resolution. The views of one image
        lie next to each other. On the way to a detector that says ``accepts_bfloat16`` they may be in bfloat16.
    image_size : tuple of int
        Height and width in pixels of the images after the transform: the size of an anomaly map.
    views : int
        V: the image as it is, and other views of it, where a detector asks for some.
    roi_masks : Tensor (N·V, H, W), bool, or None
        The pixels of each view that count; None where all do.
    """

    maps: tuple[Tensor, ...]
    image_size: tuple[int, int]
    views: int = 1
    roi_masks: Tensor | None = None

    def __len__(self) -> int:
        return int(self.maps[0].shape[0]) // self.views

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each layer."""
        return tuple(int(layer.shape[1]) for layer in self.maps)

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each layer's grid."""
        return tuple((int(layer.shape[2]), int(layer.shape[3])) for layer in self.maps)

    def images(self, indices: Sequence[int] | np.ndarray | slice) -> Features:
        """The features of some of the images, all views of each, in the order of ``indices``."""
        if self.views == 1:
            rows = indices if isinstance(indices, slice) else torch.as_tensor(np.asarray(indices))
        else:
            images = np.arange(len(self))[indices if isinstance(indices, slice) else np.asarray(indices)]
            rows = torch.from_numpy(rows_of(images, self.views))
        return self._rows(rows, self.views)

    def of_views(self, views: Sequence[int]) -> Features:
        """Some of the views of every image."""
        if list(views) == list(range(self.views)):
            return self
        return self._rows(torch.from_numpy(rows_of(np.arange(len(self)), self.views, views)), len(views))

    def _rows(self, rows: slice | Tensor, views: int) -> Features:
        roi_masks = None if self.roi_masks is None else self.roi_masks[rows]
        if roi_masks is not None and bool(roi_masks.all()):
            roi_masks = None
        return Features(tuple(layer[rows] for layer in self.maps), self.image_size, views, roi_masks)

    def select(self, channels: Sequence[Sequence[int] | np.ndarray]) -> Features:
        """The given channels of each layer."""
        return self.with_maps(
            tuple(
                layer[:, torch.as_tensor(np.asarray(indices, dtype=np.int64))]
                for layer, indices in zip(self.maps, channels, strict=True)
            )
        )

    def with_maps(self, maps: tuple[Tensor, ...]) -> Features:
        """The same images and views by other maps."""
        return Features(maps, self.image_size, self.views, self.roi_masks)

    def widened(self) -> Features:
        """The same maps in float32."""
        return self.with_maps(tuple(widened(layer) for layer in self.maps))

    @staticmethod
    def concatenate(parts: Sequence[Features]) -> Features:
        """All images of several parts, which must agree in layers, grids, image size and views."""
        maps = tuple(torch.cat(layers) for layers in zip(*(p.maps for p in parts), strict=True))
        roi_masks = concatenate_roi_masks([(int(part.maps[0].shape[0]), part.roi_masks) for part in parts])
        return Features(maps, parts[0].image_size, parts[0].views, roi_masks)


def widened(layer: Tensor) -> Tensor:
    """A layer in float32, unless it is of whole numbers, as images that a detector keeps are."""
    return layer.float() if layer.is_floating_point() else layer


def rows_of(images: np.ndarray, views: int, subset: Sequence[int] | None = None) -> np.ndarray:
    """The rows of some or all views of images, the views of one image next to each other."""
    offsets = np.arange(views) if subset is None else np.asarray(subset, dtype=np.int64)
    return np.asarray(images[:, None] * views + offsets).ravel()


def concatenate_roi_masks(parts: Sequence[tuple[int, Tensor | None]]) -> Tensor | None:
    """The masks of all images of several parts, given as numbers of images and masks; None for all pixels."""
    size = next((masks.shape[1:] for _, masks in parts if masks is not None), None)
    if size is None:
        return None
    return torch.cat([torch.ones(n, *size, dtype=torch.bool) if masks is None else masks for n, masks in parts])
