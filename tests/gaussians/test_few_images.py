"""Gaussians of few images, by a matrix or by the nested form: the same distances, by whatever is fewer numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_zoo.estimators.linear_shrinkage import Full, LedoitWolf
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians import grid_hierarchy, nested
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.gaussians.nested import SampledGaussian
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


def fitted(n: int) -> Gaussian:
    gaussian = Full().fit(Samples(embeddings(n)))
    assert gaussian.samples is not None
    return gaussian


def test_few_images_have_a_matrix_and_more_do_not() -> None:
    assert isinstance(fitted(5), DualGaussian)
    assert isinstance(fitted(27), SampledGaussian)
    assert set(fitted(27).arrays()) == {"samples.0", "samples.1", "samples.2", "b"}
    assert isinstance(LedoitWolf().fit(Samples(embeddings(27))), DualGaussian)


@pytest.mark.parametrize("n", [5, 27])
def test_distances_are_those_of_the_definition(n: int) -> None:
    train, test = embeddings(n), embeddings(7, seed=1)
    np.testing.assert_allclose(fitted(n).squared_distances(test).numpy(), literal(train, test), rtol=1e-4)


def test_a_normal_image_itself_keeps_its_digits() -> None:
    train = embeddings(27)
    np.testing.assert_allclose(fitted(27).squared_distances(train).numpy(), literal(train, train), rtol=1e-4)


@pytest.mark.parametrize("n", [5, 27])
def test_files_give_the_same_distances(n: int) -> None:
    before, test = fitted(n), embeddings(3, seed=1)
    arrays = before.arrays()
    after = type(before).from_arrays(before.mean, arrays)
    assert torch.equal(after.squared_distances(test), before.squared_distances(test))
    assert before.size_in_bytes() == sum(array.nbytes for array in [*arrays.values(), *before.mean.layers])


def test_a_file_scores_where_rounding_would_have_decided_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another processor a condition may be beyond the limit by a hair."""
    before, test = fitted(27), embeddings(3, seed=1)
    monkeypatch.setattr(nested, "PRIMAL_CONDITION", 1.0)
    assert isinstance(fitted(27), DualGaussian)
    after = SampledGaussian.from_arrays(before.mean, before.arrays())
    assert torch.equal(after.squared_distances(test), before.squared_distances(test))


def test_no_process_that_loads_a_model_fits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_hierarchy, "REFIT_LIMIT", 1000)
    assert isinstance(fitted(27), DualGaussian)


def test_what_float32_does_not_hold_has_a_matrix() -> None:
    gaussian = Full(epsilon=1e-9).fit(Samples(embeddings(27)))
    assert isinstance(gaussian, DualGaussian)
    test = embeddings(3, seed=1)
    np.testing.assert_allclose(gaussian.squared_distances(test), literal(embeddings(27), test, 1e-9), rtol=1e-4)
