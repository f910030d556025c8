"""The pixels of maps that count, image by image: of a large test set they are never together in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np


class ScoredPixels(Sequence[np.ndarray]):
    """The scores of all pixels that count, an array of any shape for each image.

    Parameters
    ----------
    maps : ndarray (N, H, W), float
    roi_masks : ndarray (N, H, W), bool, or None
        The pixels that count; None for all.
    images : ndarray (n,), int, optional
        Which of the N images; all by default.
    """

    def __init__(self, maps: np.ndarray, roi_masks: np.ndarray | None, images: np.ndarray | None = None) -> None:
        self._maps = maps
        self._roi_masks = roi_masks
        self._images = np.arange(len(maps)) if images is None else images

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> ScoredPixels: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | ScoredPixels:
        if isinstance(index, slice):
            return ScoredPixels(self._maps, self._roi_masks, self._images[index])
        image = self._images[index]
        scores: np.ndarray = self._maps[image]
        return scores if self._roi_masks is None else scores[self._roi_masks[image]]
