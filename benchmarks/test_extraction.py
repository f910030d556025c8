"""Time of the first stage: decoding and transforming files, and the backbone's forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from padim_zoo import PaDiM
from padim_zoo.data.loading import batches
from padim_zoo.data.transform import Transform


def test_files(benchmark: BenchmarkFixture, category: Path) -> None:
    """Decode and resize 20 files."""
    files = sorted((category / "gear" / "train" / "good").glob("*.png"))
    transform = Transform(resize=96, crop=None)
    loaded = benchmark(lambda: sum(len(batch) for batch in batches(files, transform, batch_size=32)))
    assert loaded == len(files)


@pytest.mark.parametrize("backbone", ["builtin", "resnet18"])
def test_features(benchmark: BenchmarkFixture, images: np.ndarray, backbone: str) -> None:
    """Extract the features of 32 decoded images."""
    detector = PaDiM(backbone, weights="none" if backbone == "resnet18" else "default", resize=None, crop=None)
    detector.extract(images[:1])
    features = benchmark(detector.extract, images[:32])
    assert len(features) == 32
