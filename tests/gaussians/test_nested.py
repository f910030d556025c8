from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_zoo.estimators.linear_shrinkage import Full, LedoitWolf
from padim_zoo.features.features import nearest_positions
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians import grid_hierarchy as cells
from padim_zoo.gaussians import nested
from padim_zoo.gaussians.forms import FORMS
from padim_zoo.gaussians.gaussian import HALF_ERROR, PrimalGaussian
from padim_zoo.gaussians.nested import NestedGaussian
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

CHANNELS = (3, 6, 9)
NESTING = [((8, 6), (4, 3), (2, 3)), ((7, 7), (4, 4), (2, 2)), ((6, 6), (6, 6), (3, 3)), ((2, 3), (4, 3), (8, 6))]


def embeddings(n: int, grids: tuple[tuple[int, int], ...], seed: int = 0) -> PatchEmbeddings:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9)
    layers = [
        torch.from_numpy(
            (rng.normal(size=(h * w, n, c)) @ (np.eye(c) + 0.2 * mixing.normal(size=(c, c))) + 5).astype(np.float32)
        )
        for (h, w), c in zip(grids, CHANNELS, strict=True)
    ]
    return PatchEmbeddings(tuple(layers), grids, max(grids, key=lambda grid: grid[0] * grid[1]))


def literal(train: PatchEmbeddings, test: PatchEmbeddings) -> np.ndarray:
    """Squared distances (P, N), each patch's embedding put together and its covariance inverted in float64."""
    found = []
    at = [nearest_positions(grid, train.grid) for grid in train.grids]
    for patch in range(train.P):
        x, y = (
            np.concatenate([layer[p[patch]].double().numpy() for layer, p in zip(each.layers, at, strict=True)], 1)
            for each in (train, test)
        )
        precision = np.linalg.inv(np.cov(x.T) + 0.01 * np.eye(x.shape[1]))
        found.append(np.einsum("ni,ij,nj->n", y - x.mean(0), precision, y - x.mean(0)))
    return np.stack(found)


@pytest.mark.parametrize("grids", NESTING)
@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("images", [1, 7])
def test_the_distances_of_the_covariance_at_every_patch(
    grids: tuple[tuple[int, int], ...], moments: bool, images: int
) -> None:
    train, test = embeddings(60, grids), embeddings(images, grids, seed=1)
    gaussian = Full().fit(Moments.of(train, train.mean()) if moments else Samples(train))
    assert isinstance(gaussian, NestedGaussian)
    np.testing.assert_allclose(gaussian.squared_distances(test).numpy(), literal(train, test), rtol=1e-4)


def test_moments_of_few_images_where_coarse_positions_hold_different_numbers_of_finer_ones() -> None:
    train, test = embeddings(19, NESTING[1]), embeddings(3, NESTING[1], seed=1)
    gaussian = Full().fit(Moments.of(train, train.mean()))
    assert isinstance(gaussian, NestedGaussian)
    np.testing.assert_allclose(gaussian.squared_distances(test).numpy(), literal(train, test), rtol=1e-4)


def test_other_grids_and_other_estimators_have_a_factor_at_every_patch() -> None:
    uneven = ((6, 6), (4, 4), (3, 3))
    train, test = embeddings(60, uneven), embeddings(3, uneven, seed=1)
    gaussian = Full().fit(Samples(train))
    assert isinstance(gaussian, PrimalGaussian)
    np.testing.assert_allclose(gaussian.squared_distances(test).numpy(), literal(train, test), rtol=1e-4)
    assert isinstance(LedoitWolf().fit(Samples(embeddings(60, NESTING[0]))), PrimalGaussian)


def test_float64_factors_at_every_patch_where_float32_would_not_do() -> None:
    train = embeddings(60, NESTING[0])
    train.layers[0].mul_(1e5)
    gaussian = Full().fit(Samples(train))
    assert isinstance(gaussian, PrimalGaussian)
    assert gaussian.factor.dtype == torch.float64


@pytest.mark.parametrize("half", [False, True])
def test_files_keep_them(half: bool) -> None:
    train, test = embeddings(60, NESTING[0]), embeddings(5, NESTING[0], seed=1)
    gaussian = Full().fit(Samples(train))
    error = gaussian.half_error()
    assert error is not None
    assert 0 < error < HALF_ERROR
    arrays = gaussian.arrays(half=half)
    kept = {array.dtype for name, array in arrays.items() if name.startswith("factor")}
    assert kept == {torch.float16 if half else torch.float32}
    again = FORMS["nested"].from_arrays(gaussian.mean, arrays)
    before, after = (each.squared_distances(test).sqrt() for each in (gaussian, again))
    assert float((after / before - 1).abs().max()) <= (3 * error if half else 0)
    assert again.half_rounded is half
    assert all(torch.equal(again.arrays(half=True)[name], array) for name, array in gaussian.arrays(half=True).items())
    assert {array.dtype for array in again.arrays().values()} == {torch.float32}


def test_a_position_is_kept_once() -> None:
    train = embeddings(60, NESTING[0])
    numbers = sum(array.numel() for array in Full().fit(Samples(train)).arrays().values())
    assert numbers == 6 * 9 * 9 + 12 * (9 + 6) * 6 + 48 * (9 + 6 + 3) * 3


def test_images_are_summed_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = embeddings(60, NESTING[1]), embeddings(3, NESTING[1], seed=1)
    expected = Full().fit(Samples(train)).squared_distances(test)
    monkeypatch.setattr(cells, "IMAGES_AT_ONCE", 7)
    found = Full().fit(Samples(train)).squared_distances(test)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found, literal(train, test), rtol=1e-4)


def test_cells_too_large_for_memory_have_a_factor_at_every_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "_LARGEST_CELL_BYTES", 1000)
    assert isinstance(Full().fit(Samples(embeddings(60, NESTING[0]))), PrimalGaussian)
