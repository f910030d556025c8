"""Time of a prediction, from decoded images to scores and maps, and of its parts behind the network.

Each for one image and for 32 at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from conftest import PRECISIONS, SIZE, Beside
from references import BareNetwork, embed, enlarge_and_blur, squared_distances
from torch import Tensor

from padim_zoo import PaDiM
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import Features

DIMS, PATCHES = 100, (SIZE // 4) ** 2


@pytest.fixture(scope="module")
def products() -> Callable[[Sequence[Tensor]], Tensor]:
    """Squared distances by one matrix product per patch."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.rand(PATCHES, DIMS, DIMS, generator=generator)
    mean, channels = torch.zeros(PATCHES, 1, DIMS), torch.arange(DIMS)
    return lambda maps: squared_distances(embed(maps, channels), mean, factor)


@pytest.fixture(scope="module")
def unseen_features(make_padim: Callable[..., PaDiM], unseen: np.ndarray) -> Features:
    """Features of images that nothing is fitted on."""
    return make_padim().extract(unseen)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("estimator", ["full", "diagonal"])
def test_predict(
    beside: Beside,
    make_padim: Callable[..., PaDiM],
    features: Features,
    products: Callable[[Sequence[Tensor]], Tensor],
    unseen: np.ndarray,
    estimator: str,
    batch: int,
    precision: str,
) -> None:
    """From images, beside the bare network and one matrix product per patch."""
    network, images = BareNetwork(getattr(torch, precision)), unseen[:batch]
    detector = make_padim(estimator, precision).fit_features(features)
    prediction = beside(
        lambda: products(network(images)), lambda: detector.predict(images), "bare network and products"
    )
    assert prediction.maps is not None
    assert prediction.maps.shape == images.shape[:3]


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize(
    ("form", "estimator"),
    [("nested", "full"), ("samples", "full"), ("diagonal", "diagonal")],
)
def test_score(
    beside: Beside,
    make_padim: Callable[..., PaDiM],
    features: Features,
    few: Features,
    products: Callable[[Sequence[Tensor]], Tensor],
    unseen_features: Features,
    form: str,
    estimator: str,
    batch: int,
) -> None:
    """From features, beside one matrix product per patch."""
    some = unseen_features.images(slice(batch))
    detector = make_padim(estimator).fit_features(few if form == "samples" else features)
    assert detector.gaussian_.form == form
    prediction = beside(lambda: products(some.maps), lambda: detector.predict_features(some), "products")
    assert len(prediction.scores) == batch


def test_maps(beside: Beside) -> None:
    """Maps of 32 images of 224² from distances, beside SciPy's blur."""
    distances = torch.rand(32, 56, 56, generator=torch.Generator().manual_seed(0))
    maps = beside(lambda: enlarge_and_blur(distances, 224, 4), lambda: anomaly_maps(distances, (224, 224), 4), "SciPy")
    assert maps.shape == (32, 224, 224)
