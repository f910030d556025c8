"""Small images that checks are tried on: a texture that every normal one has, and a defect that is hard to miss."""

from __future__ import annotations

import numpy as np


def normal_images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Images (count, height, width, 3), uint8, of one woven texture in changing light with a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    threads = np.stack([np.sin(x / 2), np.sin(y / 3), np.sin((x + 2 * y) / 5)], axis=-1)
    light = random.uniform(0.9, 1.1, (count, 1, 1, 1))
    noise = random.normal(0, 4, (count, height, width, 3))
    return np.asarray(np.clip(128 * light + 40 * threads + noise, 0, 255).astype(np.uint8))


def anomalous_images(count: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    """The same texture with a bright spotted square in the upper right quarter."""
    images = normal_images(count, height, width, seed)
    rows, columns = slice(height // 8, height * 3 // 8), slice(width * 5 // 8, width * 7 // 8)
    spots = np.random.default_rng(seed).integers(0, 2, images[:, rows, columns].shape) * 255
    images[:, rows, columns] = spots
    return images
