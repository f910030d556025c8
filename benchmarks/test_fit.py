"""Time of the statistics of each estimator, from features: 60 images, 1,024 patches, 100 dimensions."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from padim_zoo import PaDiM, registry
from padim_zoo.features import Features

ARGUMENTS = {"low-rank": "low-rank(10)", "shrinkage": "shrinkage(0.1)"}


@pytest.mark.parametrize("estimator", [ARGUMENTS.get(name, name) for name in registry.estimators.names()])
def test_fit(benchmark: BenchmarkFixture, resnet18: PaDiM, features: Features, estimator: str) -> None:
    detector = PaDiM(resnet18.build_backbone(), estimator, resize=None, crop=None)

    def fit() -> int:
        return detector.fit_features(features).size_in_bytes()  # which asks for the estimate

    assert benchmark(fit) > 0
