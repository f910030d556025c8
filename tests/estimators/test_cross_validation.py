"""All folds of all estimators in one pass, against a fit of each on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_oracle import embeddings_of, literal_distances, sample_covariances
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_zoo.core import parallel
from padim_zoo.estimators.cross_validation import FoldDistances, fold_distances
from padim_zoo.estimators.linear_shrinkage import CovarianceStats
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.registry import estimators
from padim_zoo.statistics.samples import Samples

SPECS = ["full", "ledoit-wolf", "oas", "shrinkage(0.3)", "full(1.0)"]


def folds_of(n: int, K: int, seed: int) -> list[np.ndarray]:
    return [np.sort(part) for part in np.array_split(np.random.default_rng(seed).permutation(n), K)]


def literal(normal: PatchEmbeddings, test: PatchEmbeddings, folds, specs) -> FoldDistances:
    """One fit and two calls for each fold of each estimator."""
    of_test = torch.empty(normal.P, len(specs), len(folds), test.n)
    held_out = torch.full((normal.P, len(specs), normal.n), float("nan"))
    for e, spec in enumerate(specs):
        for k, part in enumerate(folds):
            rest = Samples(normal.images(np.setdiff1d(np.arange(normal.n), part)))
            gaussian = estimators.create(spec).fit(rest)
            of_test[:, e, k] = gaussian.squared_distances(test)
            held_out[:, e, part] = gaussian.squared_distances(normal.images(part))
    return FoldDistances(of_test, held_out)


def literal_in_float64(normal: np.ndarray, test: np.ndarray, folds, specs) -> FoldDistances:
    """The same of arrays (n, P, D) and (N, P, D), each covariance written out: float32 fits err by up to 1e-4."""
    normal, test = normal.astype(np.float64), test.astype(np.float64)
    n, P, D = normal.shape
    of_test = np.empty((P, len(specs), len(folds), len(test)))
    held_out = np.full((P, len(specs), n), np.nan)
    for e, spec in enumerate(specs):
        estimator = estimators.create(spec)
        for k, part in enumerate(folds):
            rest = np.delete(normal, part, axis=0)
            S = sample_covariances(rest)
            sum_fourth_powers = ((rest - rest.mean(0)) ** 2).sum(2) ** 2
            sums = (np.trace(S, axis1=1, axis2=2), (S**2).sum((1, 2)), sum_fourth_powers.sum(0))
            a, b = estimator.coefficients(CovarianceStats(len(rest), D, *map(torch.from_numpy, sums)))
            covariances = a.numpy()[:, None, None] * S + (b.numpy()[:, None, None] + estimator.epsilon) * np.eye(D)
            of_test[:, e, k] = literal_distances(covariances, rest, test)
            held_out[:, e, part] = literal_distances(covariances, rest, normal[part])
    return FoldDistances(torch.from_numpy(of_test).float(), torch.from_numpy(held_out).float())


def assert_same(found: FoldDistances, expected: FoldDistances, rtol: float = 1e-4) -> None:
    # A fit rounds its mean to float32, which shows where an image all but equals the mean.
    atol = 1e-5 * float(expected.test.median())
    torch.testing.assert_close(found.test, expected.test, rtol=rtol, atol=atol)
    torch.testing.assert_close(found.held_out, expected.held_out, rtol=rtol, atol=atol, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 40),
    D=st.integers(1, 40),
    K=st.integers(2, 7),
    scale=st.sampled_from([1e-2, 1.0, 30.0]),
    offset=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 99),
)
def test_folds_of_any_shape_are_those_of_covariances_written_out(n, D, K, scale, offset, seed):
    rng = np.random.default_rng(seed)
    spread = rng.choice([1e-3, 0.1, 1.0], size=D) * scale
    center = rng.normal(size=(3, D)) * offset * scale
    normal = (rng.normal(size=(n, 3, D)) * spread + center).astype(np.float32)
    test = (2 * rng.normal(size=(5, 3, D)) * spread + center).astype(np.float32)
    folds = folds_of(n, min(K, n), seed)
    found = fold_distances(
        embeddings_of(normal), embeddings_of(test), folds, [estimators.create(spec) for spec in SPECS]
    )
    assert_same(found, literal_in_float64(normal, test, folds, SPECS))


@pytest.mark.parametrize(("n", "D"), [(12, 60), (20, 16), (21, 16), (60, 8)])
def test_folds_are_those_of_a_float64_oracle(draw, n, D):
    values, test = draw(n, 3, D), draw(6, 3, D, seed=1)
    folds = folds_of(n, 5, 0)
    found = fold_distances(embeddings_of(values), embeddings_of(test), folds, [estimators.create("full")])
    for k, part in enumerate(folds):
        rest = np.delete(values, part, axis=0)
        covariances = sample_covariances(rest) + 0.01 * np.eye(D)
        np.testing.assert_allclose(found.test[:, 0, k], literal_distances(covariances, rest, test), rtol=1e-4)
        expected = literal_distances(covariances, rest, values[part])
        np.testing.assert_allclose(found.held_out[:, 0, part], expected, rtol=1e-4)


@pytest.mark.parametrize("channels", [(3, 5), (30, 50)])
def test_layers_of_several_resolutions(channels):
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> PatchEmbeddings:
        maps = [torch.randn(n, c, s, s, generator=generator) + 2 for c, s in zip(channels, (4, 2), strict=True)]
        return PatchEmbeddings.of(Features(tuple(maps), (16, 16)))

    normal, test, folds = draw(25), draw(4), folds_of(25, 4, 1)
    found = fold_distances(normal, test, folds, [estimators.create(spec) for spec in SPECS])
    assert_same(found, literal(normal, test, folds, SPECS))


@pytest.mark.parametrize("D", [6, 40])
def test_an_image_in_no_fold_is_fitted_on_by_all_and_never_held_out(draw, D):
    normal, test = embeddings_of(draw(20, 3, D)), embeddings_of(draw(4, 3, D, seed=1))
    folds = [np.array([3, 4]), np.array([0, 9, 11])]
    found = fold_distances(normal, test, folds, [estimators.create("oas")])
    assert_same(found, literal(normal, test, folds, ["oas"]))
    assert int(found.held_out[0, 0].isnan().sum()) == 15


@pytest.mark.parametrize("D", [7, 50])
def test_neither_blocks_nor_threads_change_a_distance(draw, D, monkeypatch):
    normal, test, folds = embeddings_of(draw(20, 37, D)), embeddings_of(draw(5, 37, D, seed=1)), folds_of(20, 3, 0)
    found = []
    before = torch.get_num_threads()
    for block_bytes, threads in ((2**24, 1), (1, 2), (50_000, 2)):
        monkeypatch.setattr(parallel, "BLOCK_BYTES", block_bytes)
        torch.set_num_threads(threads)
        try:
            found.append(fold_distances(normal, test, folds, [estimators.create("full")]))
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        assert_same(other, found[0], rtol=1e-6)
