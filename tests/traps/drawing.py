"""Categories in the layout of MVTec AD that traps are made of: drawn, or a few images of a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from padim_zoo.data.image import read_image
from padim_zoo.data.mask import read_mask
from padim_zoo.data.sample import Sample
from padim_zoo.registry import datasets

KIND = "crack"
"""The kind of all defects."""

TRAIN, GOOD, DEFECTS = 10, 4, 4
"""Images of a category: to fit, and normal and anomalous ones to test."""

MANY_TRAIN, MANY_TEST = 40, 12
"""Images of a real category for traps that only a larger test can tell."""

SIDE = 64
"""Pixels of the shorter side."""


def write(path: Path, value: int = 0, size: int = 8) -> Path:
    """Write a picture of noise, another one for each value, as a PNG file whatever its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def write_mask(path: Path, marked: bool = True, size: int = 8) -> Path:
    """Write a mask with a marked square, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[size // 4 : size // 2, size // 4 : size // 2] = 255 * marked
    Image.fromarray(mask).save(path)
    return path


def normal_part(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A picture of a sound part (height, width, 3), uint8: a plate with a ring and a texture of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2 + rng.normal(0, 0.4), x - width / 2 + rng.normal(0, 0.4)) / min(height, width)
    gray = 110 + 40 * (np.abs(radius - 0.3) < 0.06) + 8 * np.sin(x / 3) + rng.normal(0, 4, (height, width))
    color = gray[..., None] * np.array([1.0, 0.95, 0.9]) + rng.normal(0, 2)
    return np.asarray(np.clip(color, 0, 255), dtype=np.uint8)


def disc(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Where a defect lies (height, width), bool: a disc away from the border."""
    rng = np.random.default_rng(1000 + seed)
    y, x = np.mgrid[:height, :width]
    side = min(height, width)
    center = rng.uniform(0.25, 0.7, 2) * (height, width)
    marked: np.ndarray = np.hypot(y - center[0], x - center[1]) < side * rng.uniform(0.06, 0.1)
    return marked


def damaged(image: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """The image with a dark defect."""
    return np.where(marked[..., None], image // 4, image)


def save(pixels: np.ndarray, path: Path) -> Path:
    """Write an array as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def draw_category(folder: Path) -> Path:
    """A drawn category of 10 + 4 + 4 images with masks."""
    for index in range(TRAIN):
        save(normal_part(index), folder / f"train/good/{index:03}.png")
    for index in range(GOOD):
        save(normal_part(100 + index), folder / f"test/good/{index:03}.png")
    for index in range(DEFECTS):
        marked = disc(index)
        save(damaged(normal_part(200 + index), marked), folder / f"test/{KIND}/{index:03}.png")
        save(np.uint8(255) * marked, folder / f"ground_truth/{KIND}/{index:03}_mask.png")
    return folder


def take_category(folder: Path, source: Path) -> Path:
    """As many images of a real category, made small, and defects whose masks have a mark left."""
    train, normal, marked = _samples_of(source)
    return _write_small(folder, train[:TRAIN], normal[:GOOD], marked[:DEFECTS])


def take_many(folder: Path, source: Path) -> Path:
    """More images of a real category, for what few cannot tell; all its normal images are one heap, drawn from."""
    train, normal, marked = _samples_of(source)
    every = [*train, *normal]
    drawn = [every[index] for index in np.random.default_rng(0).permutation(len(every))]
    return _write_small(folder, drawn[:MANY_TRAIN], drawn[MANY_TRAIN:][:MANY_TEST], marked[:MANY_TEST])


def _samples_of(source: Path) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """The images of a real category to fit, the normal ones of its test, and the marked ones."""
    dataset = datasets.create("folder", root=source)
    category = dataset.load(dataset.categories()[0])
    normal = [sample for sample in category.test if not sample.label]
    return list(category.train), normal, [sample for sample in category.test if sample.label and sample.masks]


def _write_small(folder: Path, train: list[Sample], normal: list[Sample], marked: list[Sample]) -> Path:
    for where, samples in (("train/good", train), ("test/good", normal), (f"test/{KIND}", marked)):
        for index, sample in enumerate(samples):
            image = read_image(sample.path)
            height, width = image.shape[:2]
            size = max(1, round(SIDE * width / min(height, width))), max(1, round(SIDE * height / min(height, width)))
            small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
            save(np.asarray(small), folder / where / f"{index:03}.png")
            if where.endswith(KIND):
                mask = np.uint8(255) * read_mask(sample.masks, (height, width), sample.path)
                covered = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX)) > 0
                save(np.uint8(255) * covered, folder / f"ground_truth/{KIND}/{index:03}_mask.png")
    return folder
