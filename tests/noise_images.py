"""Small images of noise, which differ."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def write_noise(paths: Iterable[Path], seed: int = 0) -> list[Path]:
    """Write an image of 40 by 40 pixels to each path."""
    rng = np.random.default_rng(seed)
    written = []
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(80, 160, (40, 40, 3), dtype=np.uint8)).save(path)
        written.append(path)
    return written
