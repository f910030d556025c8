"""Time to read features from the cache, beside the time to compute them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conftest import PRECISIONS, Beside
from references import decode

from padim_zoo import PaDiM
from padim_zoo.bench.extraction import extract
from padim_zoo.cache.features import FeatureCache
from padim_zoo.data.sample import Sample


@pytest.mark.parametrize("precision", PRECISIONS)
def test_read_features(beside: Beside, category: Path, tmp_path: Path, precision: str) -> None:
    """Read 20 images' features of a resnet18 at 224², beside decoding the images."""
    detector = PaDiM("resnet18", weights="none", resize=256, crop=224, precision=precision)
    samples = [Sample(path, 0) for path in sorted((category / "gear" / "train" / "good").glob("*.png"))]
    cache = FeatureCache(tmp_path)
    extract(detector, samples)
    computed = extract(detector, samples, cache)
    found = beside(
        lambda: decode([sample.path for sample in samples], 256),
        lambda: extract(detector, samples, cache),
        "Pillow",
    )
    assert (computed.cached, found.cached) == (0, len(samples))
    start = time.perf_counter()
    extract(detector, samples, cache)
    read = (time.perf_counter() - start) / len(samples)
    print(
        f"\n{precision}: {1000 * computed.seconds_per_image:.1f} ms per image computed, {1000 * read:.2f} ms read, "
        f"{computed.seconds_per_image / read:.1f} times as fast"
    )
