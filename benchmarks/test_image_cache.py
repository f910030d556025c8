"""Time of a benchmark of three backbones on images of 1024 x 1024, with and without resized images on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from padim_zoo import PaDiM
from padim_zoo.bench.extraction import extract
from padim_zoo.caches import Caches
from padim_zoo.data.image import read_image
from padim_zoo.data.image_cache import ImageCache
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import Transform

BACKBONES = ("builtin", "resnet18", "timm/mobileone_s0")
IMAGES = 32


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


def test_resized_images(benchmark: BenchmarkFixture, samples: list[Sample], tmp_path: Path) -> None:
    """Features of three backbones: every image decoded for each, decoded once, and read from an earlier run."""
    detectors = [PaDiM(name, weights="none") for name in BACKBONES]
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
    told["second"] = benchmark.pedantic(all_features, (Caches(ImageCache(tmp_path)),), rounds=3)
    if benchmark.stats is None:
        return
    times["second"] = benchmark.stats.stats.median
    benchmark.extra_info |= {f"without_over_{name}": times["without"] / times[name] for name in ("first", "second")}
    for name, seconds in times.items():
        print(
            f"\n{name}: {seconds:.2f} s, {times['without'] / seconds:.2f} times as fast; told as time of extraction: "
            f"{told[name]:.1f} ms for an image by all three",
            end="",
        )


def test_one_resized_image(benchmark: BenchmarkFixture, samples: list[Sample], tmp_path: Path) -> None:
    """Read one resized image, beside decoding it."""
    cache, transform = ImageCache(tmp_path), Transform(256, 224)
    for sample in samples[:8]:
        cache.resized(sample.path, transform)
    times: dict[str, float] = {}
    with timed("decoded", times):
        for sample in samples[:8]:
            transform.image(read_image(sample.path))

    def read() -> None:
        for sample in samples[:8]:
            cache.resized(sample.path, transform)

    benchmark(read)
    if benchmark.stats is not None:
        decoded, found = times["decoded"] / 8, benchmark.stats.stats.median / 8
        benchmark.extra_info["decoded_over_read"] = decoded / found
        print(f"\n{1000 * decoded:.1f} ms decoded, {1000 * found:.2f} ms read, {decoded / found:.0f} times as fast")
