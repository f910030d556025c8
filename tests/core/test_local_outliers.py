"""Local outlier factors are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor

from padim_zoo.core.local_outliers import local_outlier_factors


@pytest.mark.parametrize(("n", "k"), [(2, 1), (7, 6), (30, 6)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_they_are_those_of_scikit_learn(n: int, k: int, offset: float) -> None:
    points = torch.randn(5, n, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + offset
    points[:, 0] += 3
    ours = local_outlier_factors(points, k)
    for own, factors in zip(points.numpy(), ours.numpy(), strict=True):
        theirs = -LocalOutlierFactor(n_neighbors=k).fit(own).negative_outlier_factor_
        np.testing.assert_allclose(factors, theirs, rtol=1e-8)


def test_equal_points_stand_out_of_nothing() -> None:
    assert torch.equal(local_outlier_factors(torch.ones(2, 8, 3), 6), torch.ones(2, 8, dtype=torch.float64))
