"""Time of a prediction, from decoded images to scores and maps, one image at a time and 32 at a time."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from padim_zoo import PaDiM
from padim_zoo.features import Features


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("estimator", ["full", "low-rank(10)", "diagonal"])
def test_predict(
    benchmark: BenchmarkFixture, resnet18: PaDiM, features: Features, images: np.ndarray, estimator: str, batch: int
) -> None:
    detector = PaDiM(resnet18.build_backbone(), estimator, resize=None, crop=None).fit_features(features)
    detector.predict(images[:1])
    prediction = benchmark(detector.predict, images[:batch])
    assert prediction.maps is not None
    assert prediction.maps.shape == (batch, *images.shape[1:3])
