"""Time of the statistics of each estimator, from features of 100 dimensions at 576 patches.

Beside: one covariance and one Cholesky factorization per patch, in float32, by torch alone.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import Beside
from references import embed, factors
from torch import Tensor

from padim_zoo import PaDiM, registry
from padim_zoo.features.features import Features

ARGUMENTS = {"shrinkage": "shrinkage(0.1)"}


@pytest.fixture(scope="module")
def embeddings(features: Features) -> Tensor:
    """(P, N, D)"""
    return embed(features.maps, torch.arange(100))


@pytest.mark.parametrize("estimator", [ARGUMENTS.get(name, name) for name in registry.estimators.names()])
def test_fit(
    beside: Beside, make_padim: Callable[..., PaDiM], features: Features, embeddings: Tensor, estimator: str
) -> None:
    """Of 120 images."""
    detector = make_padim(estimator)
    # The size asks for the estimate.
    size = beside(lambda: factors(embeddings), lambda: detector.fit_features(features).size_in_bytes(), "Cholesky")
    assert size > 0


@pytest.mark.parametrize("estimator", ["full", "ledoit-wolf"])
def test_fit_of_few_images(
    beside: Beside, make_padim: Callable[..., PaDiM], few: Features, embeddings: Tensor, estimator: str
) -> None:
    """Of 60 images, fewer than dimensions: ``full`` has the form of samples, others the dual form."""
    detector, some = make_padim(estimator), embeddings[:, : len(few)].contiguous()
    size = beside(lambda: factors(some), lambda: detector.fit_features(few).size_in_bytes(), "Cholesky")
    assert size > 0
    assert detector.gaussian_.form == ("samples" if estimator == "full" else "dual")
