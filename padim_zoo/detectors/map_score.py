"""The score of an image by its anomaly map: the maximum, or the mean of the highest pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.registry.spec import parse_spec

_EXPECTED = "expected max, or mean(SHARE) with a share above 0 and up to 1, e.g. mean(0.01) for the highest 1 %"


@dataclass(frozen=True)
class MapScore:
    """How a map gives a score.

    Attributes
    ----------
    share : float or None
        The mean is taken over this share of the pixels, the highest ones; at least one pixel. None for the maximum.
    """

    share: float | None = None

    @staticmethod
    def parse(rule: str) -> MapScore:
        """What ``max`` or ``mean(0.01)`` stands for.

        Raises
        ------
        InputError
            If it is neither, or the share is not above 0 and up to 1.
        """
        if rule == "max":
            return MapScore()
        try:
            name, positional, keywords = parse_spec(rule) if isinstance(rule, str) else ("", [], {})
        except InputError:
            raise InputError(f"score is {rule!r}: {_EXPECTED}") from None
        share = positional[0] if name == "mean" and len(positional) == 1 and not keywords else None
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise InputError(f"score is {rule!r}: {_EXPECTED}")
        return MapScore(float(share))

    def count(self, pixels: int) -> int:
        """How many of so many pixels the mean is taken over."""
        return 1 if self.share is None else max(1, math.ceil(self.share * pixels))

    def of(self, maps: np.ndarray, roi_masks: np.ndarray | None = None) -> np.ndarray:
        """Scores (N,), float32, of maps (N, H, W); of the pixels in masks (N, H, W) where there are any."""
        pixels = list(maps) if roi_masks is None else [one[mask] for one, mask in zip(maps, roi_masks, strict=True)]
        return np.array([self._of_pixels(one.ravel()) for one in pixels], dtype=np.float32)

    def _of_pixels(self, pixels: np.ndarray) -> float:
        count = self.count(len(pixels))
        return float(np.partition(pixels, len(pixels) - count)[-count:].mean(dtype=np.float64))

    def __str__(self) -> str:
        return "max" if self.share is None else f"mean({self.share:g})"
