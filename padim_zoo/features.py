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
    """Feature maps of N images.

    Attributes
    ----------
    maps : tuple of Tensor
        One tensor (N, C_l, H_l, W_l), float32, per layer; each at the layer's own resolution.
    image_size : tuple of int
        Height and width in pixels of the images after the transform: the size of an anomaly map.
    """

    maps: tuple[Tensor, ...]
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return int(self.maps[0].shape[0])

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each layer."""
        return tuple(int(layer.shape[1]) for layer in self.maps)

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each layer's grid."""
        return tuple((int(layer.shape[2]), int(layer.shape[3])) for layer in self.maps)

    def images(self, indices: Sequence[int] | np.ndarray | slice) -> Features:
        """The features of some of the images, in the order of ``indices``."""
        rows = indices if isinstance(indices, slice) else torch.as_tensor(np.asarray(indices))
        return Features(tuple(layer[rows] for layer in self.maps), self.image_size)

    def select(self, channels: Sequence[Sequence[int] | np.ndarray]) -> Features:
        """The given channels of each layer."""
        return Features(
            tuple(
                layer[:, torch.as_tensor(np.asarray(chosen, dtype=np.int64))]
                for layer, chosen in zip(self.maps, channels, strict=True)
            ),
            self.image_size,
        )

    @staticmethod
    def concatenate(parts: Sequence[Features]) -> Features:
        """All images of several parts, which must agree in layers, grids and image size."""
        return Features(
            tuple(torch.cat(layers) for layers in zip(*(p.maps for p in parts), strict=True)), parts[0].image_size
        )
