"""Small image files: of noise, which differ, or of given pixels."""

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


def write_images(images: Iterable[np.ndarray], folder: Path) -> Path:
    """Write images (h, w, 3), uint8, to a new folder, named by two digits in their order."""
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder
