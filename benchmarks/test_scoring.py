"""Time of a prediction, from decoded images to scores and maps, one image at a time and 32 at a time.

Beside: the bare network on the same images and, where the covariances are full, one matrix product per patch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import PRECISIONS, SIZE, Beside
from references import BareNetwork, embed, squared_distances
from torch import Tensor

from padim_zoo import PaDiM
from padim_zoo.features import Features

DIMS, PATCHES = 100, (SIZE // 4) ** 2


@pytest.fixture(scope="module")
def products() -> Callable[[list[Tensor]], Tensor]:
    """Squared distances by one matrix product per patch."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.rand(PATCHES, DIMS, DIMS, generator=generator)
    mean, channels = torch.zeros(PATCHES, 1, DIMS), torch.arange(DIMS)
    return lambda maps: squared_distances(embed(maps, channels), mean, factor)


def predict(beside: Beside, detector: PaDiM, images: np.ndarray, reference: Callable[[], object], name: str) -> None:
    prediction = beside(reference, lambda: detector.predict(images), name)
    assert prediction.maps is not None
    assert prediction.maps.shape == images.shape[:3]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("estimator", ["low-rank(10)", "diagonal"])
def test_predict(
    beside: Beside,
    make_padim: Callable[..., PaDiM],
    features: Features,
    unseen: np.ndarray,
    estimator: str,
    batch: int,
    precision: str,
) -> None:
    """Estimators of few numbers per patch."""
    network, images = BareNetwork(getattr(torch, precision)), unseen[:batch]
    detector = make_padim(estimator, precision).fit_features(features)
    predict(beside, detector, images, lambda: network(images), "bare network")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("form", ["nested", "dual"])
def test_predict_full(
    beside: Beside,
    make_padim: Callable[..., PaDiM],
    features: Features,
    few: Features,
    products: Callable[[list[Tensor]], Tensor],
    unseen: np.ndarray,
    form: str,
    batch: int,
    precision: str,
) -> None:
    """Full covariances, of more images than dimensions and of fewer."""
    network, images = BareNetwork(getattr(torch, precision)), unseen[:batch]
    detector = make_padim("full", precision).fit_features(few if form == "dual" else features)
    assert detector.gaussian_.form == form
    predict(beside, detector, images, lambda: products(network(images)), "bare network and products")
