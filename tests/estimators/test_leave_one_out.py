"""Leave-one-out distances are those of n fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_oracle import embeddings_of

from padim_zoo.estimators import leave_one_out as leave_one_out_module
from padim_zoo.estimators.leave_one_out import changes_coefficients, has_leave_one_out, leave_one_out
from padim_zoo.estimators.linear_shrinkage import OAS, CovarianceStats, Full, LedoitWolf, LinearShrinkage, Shrinkage
from padim_zoo.estimators.structured import Diagonal, Spherical, Tied
from padim_zoo.features.patch_embeddings import PatchEmbeddings, PatchSubset
from padim_zoo.statistics.samples import Samples

ESTIMATORS = [Full(), Full(1e-4), Diagonal(), Spherical(), Tied(), Shrinkage(0.2), Shrinkage(1.0), LedoitWolf(), OAS()]


def by_n_fits(values: np.ndarray, estimator) -> np.ndarray:
    return refits(embeddings_of(values), estimator)


def refits(embeddings: PatchEmbeddings, estimator) -> np.ndarray:
    columns, n = [], embeddings.n
    for image in range(n):
        rest = Samples(embeddings.images(np.delete(np.arange(n), image)))
        columns.append(estimator.fit(rest).squared_distances(embeddings.images(np.array([image])))[:, 0])
    return np.stack(columns, 1)


@pytest.mark.parametrize(("n", "D"), [(12, 30), (31, 30), (33, 30), (60, 8), (5, 5), (3, 4), (2, 4)])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_leaving_one_out_is_n_fits(draw, estimator, n, D):
    values = draw(n, 6, D, scale=2.0)
    values[0] += 3  # one that stands out
    distances = leave_one_out(embeddings_of(values), estimator, exact=True)
    np.testing.assert_allclose(distances, by_n_fits(values, estimator), rtol=2e-4)


def on_three_grids(draw, n: int) -> PatchEmbeddings:
    layers = tuple(torch.from_numpy(draw(positions, n, D)).float() for positions, D in ((64, 3), (16, 4), (4, 5)))
    return PatchEmbeddings(layers, ((8, 8), (4, 4), (2, 2)), (8, 8))


@pytest.mark.parametrize("n", [20, 33])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_copies_are_images_as_others(draw, estimator, n):
    values = draw(n, 6, 30, scale=2.0)
    values[5] = values[4]
    distances = leave_one_out(embeddings_of(values), estimator, exact=True)
    np.testing.assert_allclose(distances, by_n_fits(values, estimator), rtol=2e-4)


@pytest.mark.parametrize("n", [10, 13, 20, 60])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_patches_share_what_coarse_layers_hold(draw, estimator, n):
    embeddings = on_three_grids(draw, n)
    embeddings.layers[0][5, 3] *= 1000  # near the pole at one patch
    distances = leave_one_out(embeddings, estimator, exact=True)
    np.testing.assert_allclose(distances, refits(embeddings, estimator), rtol=3e-4)


def test_shared_factors_serve_where_they_are_accurate(draw, monkeypatch):
    embeddings = on_three_grids(draw, 60)
    embeddings.layers[0][5, 3] *= 30
    seen = []
    primal = leave_one_out_module._primal
    monkeypatch.setattr(leave_one_out_module, "_primal", lambda y, *others: seen.append(len(y)) or primal(y, *others))
    leave_one_out(embeddings, Full())
    assert sum(seen) == 1


@pytest.mark.parametrize("estimator", [Full(), Diagonal(), Spherical()], ids=repr)
def test_some_of_the_patches(draw, estimator):
    embeddings, some = on_three_grids(draw, 40), torch.tensor([0, 9, 10, 63])
    distances = leave_one_out(embeddings.within(PatchSubset((8, 8), some)), estimator)
    np.testing.assert_allclose(distances, leave_one_out(embeddings, estimator)[some], rtol=1e-4)


def test_a_small_part_has_the_uppermost_patches(draw):
    embeddings = on_three_grids(draw, 40)
    part = embeddings.small_part()
    assert part.P == 32
    expected = leave_one_out(embeddings, Full())[:32]
    np.testing.assert_allclose(leave_one_out(part, Full()), expected, rtol=1e-5)


def test_a_small_part_of_grids_that_do_not_nest(draw):
    layers = tuple(torch.from_numpy(draw(positions, 9, 3)).float() for positions in (49, 16))
    part = PatchEmbeddings(layers, ((7, 7), (4, 4)), (7, 7)).small_part()
    assert part.P == 13


class Fixed(LinearShrinkage):
    """One that has the coefficients of a fit on all."""

    def __init__(self, a, b) -> None:
        super().__init__(0.0)
        self.a, self.b = a, b

    def coefficients(self, spread):
        return self.a, self.b


@pytest.mark.parametrize(("n", "D"), [(12, 30), (60, 8)])
@pytest.mark.parametrize("estimator", [Shrinkage(0.2), LedoitWolf(), OAS()], ids=repr)
def test_the_coefficients_of_all_images_stand_for_those_of_the_others(draw, estimator, n, D):
    values = draw(n, 1, D)
    covariance = np.cov(values[:, 0].T)
    norms = np.square(values[:, 0] - values[:, 0].mean(0)).sum(1)
    spread = CovarianceStats.of(
        n, D, torch.from_numpy(covariance)[None], torch.tensor([np.square(norms).sum()], dtype=torch.float64)
    )
    expected = by_n_fits(values, Fixed(*estimator.regularized(spread)))
    np.testing.assert_allclose(leave_one_out(embeddings_of(values), estimator), expected, rtol=2e-4)
    assert changes_coefficients(estimator)


def test_what_is_known():
    assert all(map(has_leave_one_out, ESTIMATORS))
    assert not any(changes_coefficients(estimator) for estimator in ESTIMATORS[:5])


@pytest.mark.parametrize("estimator", [Full(), Diagonal()], ids=repr)
@pytest.mark.parametrize("D", [40, 200])
def test_an_image_far_from_all_others_keeps_its_digits(draw, estimator, D):
    values = draw(100, 3, D)
    values[7] *= 1000
    literal = by_n_fits(values, estimator)
    np.testing.assert_allclose(leave_one_out(embeddings_of(values), estimator), literal, rtol=1e-3)
