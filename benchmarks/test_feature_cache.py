"""Time to read features from the cache, beside the time to compute them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from padim_zoo import PaDiM
from padim_zoo.bench.extraction import extract
from padim_zoo.data.sample import Sample
from padim_zoo.feature_cache import FeatureCache


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_read_features(benchmark: BenchmarkFixture, category: Path, tmp_path: Path, precision: str) -> None:
    """Read 20 images' features of a resnet18 at 224²."""
    detector = PaDiM("resnet18", weights="none", resize=256, crop=224, precision=precision)
    samples = [Sample(path, 0) for path in sorted((category / "gear" / "train" / "good").glob("*.png"))]
    cache = FeatureCache(tmp_path)
    extract(detector, samples)
    computed = extract(detector, samples, cache)
    found = benchmark(extract, detector, samples, cache)
    assert (computed.cached, found.cached) == (0, len(samples))
    if benchmark.stats is not None:
        read = benchmark.stats.stats.median / len(samples)
        ratio = computed.seconds_per_image / read
        benchmark.extra_info["computed_over_read"] = ratio
        print(
            f"\n{precision}: {1000 * computed.seconds_per_image:.1f} ms per image computed, {1000 * read:.2f} ms read, "
            f"{ratio:.1f} times as fast"
        )
