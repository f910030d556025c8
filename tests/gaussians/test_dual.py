"""The dual form with and without a matrix of its own: the same distances, by whatever is fewer numbers to read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_zoo.estimators.linear_shrinkage import Full, LedoitWolf
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians import dual
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.statistics.samples import Samples

GRIDS, CHANNELS = ((8, 8), (4, 4), (2, 2)), (5, 9, 14)
D = sum(CHANNELS)


def embeddings(n: int, seed: int = 0) -> PatchEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.randn(h * w, n, c, generator=generator) + 2 for (h, w), c in zip(GRIDS, CHANNELS, strict=True)]
    return PatchEmbeddings(tuple(layers), GRIDS, GRIDS[0])


def literal(train: PatchEmbeddings, test: PatchEmbeddings, epsilon: float = 0.01) -> np.ndarray:
    """Squared distances (P, N) by the definition, in float64."""
    distances = []
    for normal, unknown in zip(train[:].double().numpy(), test[:].double().numpy(), strict=True):
        covariance = np.cov(normal.T) + epsilon * np.eye(D)
        deviations = unknown - normal.mean(0)
        distances.append((deviations @ np.linalg.inv(covariance) * deviations).sum(1))
    return np.stack(distances)


def fitted(n: int) -> DualGaussian:
    gaussian = Full().fit(Samples(embeddings(n)))
    assert isinstance(gaussian, DualGaussian)
    return gaussian


def test_few_images_have_a_matrix_and_more_do_not() -> None:
    assert fitted(5).nested is None
    assert fitted(27).nested is not None
    assert not [name for name in fitted(27).arrays() if name.startswith("whitener")]
    ledoit_wolf = LedoitWolf().fit(Samples(embeddings(27)))
    assert isinstance(ledoit_wolf, DualGaussian)
    assert ledoit_wolf.nested is None


@pytest.mark.parametrize("n", [5, 27])
def test_distances_are_those_of_the_definition(n: int) -> None:
    train, test = embeddings(n), embeddings(7, seed=1)
    np.testing.assert_allclose(fitted(n).squared_distances(test).numpy(), literal(train, test), rtol=1e-4)


def test_a_normal_image_itself_keeps_its_digits() -> None:
    train = embeddings(27)
    np.testing.assert_allclose(fitted(27).squared_distances(train).numpy(), literal(train, train), rtol=1e-4)


def test_files_give_the_same_distances() -> None:
    before, test = fitted(27), embeddings(3, seed=1)
    arrays = before.arrays()
    after = DualGaussian.from_arrays(before.mean, arrays)
    assert torch.equal(after.squared_distances(test), before.squared_distances(test))
    assert before.size_in_bytes() == sum(array.nbytes for array in [*arrays.values(), *before.mean.layers])


def test_a_file_whose_nested_form_is_refused_here_is_scored_by_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding may decide otherwise on another processor."""
    before, test = fitted(27), embeddings(3, seed=1)
    monkeypatch.setattr(dual, "fit_nested", lambda *_: None)
    after = DualGaussian.from_arrays(before.mean, before.arrays())
    assert after.nested is None
    np.testing.assert_allclose(after.squared_distances(test), before.squared_distances(test), rtol=1e-5)


def test_no_process_that_loads_a_model_fits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual, "REFIT_LIMIT", 1000)
    assert fitted(27).nested is None


def test_what_float32_does_not_hold_has_a_matrix() -> None:
    gaussian = Full(epsilon=1e-9).fit(Samples(embeddings(27)))
    assert isinstance(gaussian, DualGaussian)
    assert gaussian.nested is None
    test = embeddings(3, seed=1)
    np.testing.assert_allclose(gaussian.squared_distances(test), literal(embeddings(27), test, 1e-9), rtol=1e-4)
