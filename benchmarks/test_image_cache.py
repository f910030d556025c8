"""Time of a benchmark of three backbones on images of 1024 x 1024, with and without resized images on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import Beside
from PIL import Image
from references import BareNetwork, decode

from padim_zoo import PaDiM
from padim_zoo.bench.extraction import extract
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.images import ImageCache
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import Transform

BACKBONES = ("builtin", "resnet18", "timm/mobileone_s0")
IMAGES = 8


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Large photographs, as far as a PNG decoder can tell: smooth shapes and a camera's noise."""
    folder = tmp_path_factory.mktemp("large")
    for seed in range(IMAGES):
        rng = np.random.default_rng(seed)
        shapes = Image.fromarray(rng.integers(40, 215, (12, 12, 3)).astype(np.uint8)).resize((1024, 1024))
        pixels = np.asarray(shapes) + rng.normal(0, 3, (1024, 1024, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{seed}.png")
    return [Sample(path, 0) for path in sorted(folder.glob("*.png"))]


@contextmanager
def timed(name: str, times: dict[str, float]) -> Iterator[None]:
    """Note the seconds that the context takes."""
    start = time.perf_counter()
    yield
    times[name] = time.perf_counter() - start


def test_resized_images(beside: Beside, samples: list[Sample], tmp_path: Path) -> None:
    """Features of three backbones: every image decoded for each, decoded once, and read from an earlier run.

    The last of these is beside a bare resnet18.
    """
    detectors = [PaDiM(name, weights="none", precision="float32") for name in BACKBONES]
    for detector in detectors:
        detector.extract(samples[:2])

    def all_features(cache: Caches) -> float:
        total = 0.0
        for detector in detectors:
            detector.cache = cache
            total += extract(detector, samples).seconds_per_image
        return 1000 * total

    times: dict[str, float] = {}
    told: dict[str, float] = {}
    with timed("without", times):
        told["without"] = all_features(Caches())
    with timed("first", times):
        told["first"] = all_features(Caches(ImageCache(tmp_path)))
    network, pixels = BareNetwork(), np.zeros((IMAGES, 224, 224, 3), dtype=np.uint8)
    kept = Caches(ImageCache(tmp_path))
    told["second"] = beside(lambda: network(pixels), lambda: all_features(kept), "bare resnet18")
    with timed("second", times):
        all_features(kept)
    for name, seconds in times.items():
        print(
            f"\n{name}: {seconds:.2f} s, {times['without'] / seconds:.2f} times as fast; told as time of extraction: "
            f"{told[name]:.1f} ms for an image by all three",
            end="",
        )


def test_one_resized_image(beside: Beside, samples: list[Sample], tmp_path: Path) -> None:
    """Read resized images, beside decoding and resizing them."""
    cache, transform = ImageCache(tmp_path), Transform(256, 224)
    for sample in samples[:8]:
        cache.resized(sample.path, transform)

    def read() -> None:
        for sample in samples[:8]:
            cache.resized(sample.path, transform)

    beside(lambda: decode([sample.path for sample in samples[:2]], 256), read, "decoding two of eight")
