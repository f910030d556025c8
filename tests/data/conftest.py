from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def smooth_image() -> Callable[[int, int], np.ndarray]:
    """Makes a smooth image, (height, width, 3), uint8."""

    def make(height: int, width: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        waves = [128 + 100 * np.sin(y / 7 + number) * np.cos(x / 9) for number in range(3)]
        return np.stack(waves, 2).round().astype(np.uint8)

    return make
