"""Nearest neighbors against all pairs in float64."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from padim_zoo.core import nearest_neighbors as nearest
from padim_zoo.core.nearest_neighbors import nearest_neighbors


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (7, 40, 5), (300, 1000, 1), (5, 3, 9)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_equals_all_pairs(m, n, k, offset, monkeypatch):
    monkeypatch.setattr(nearest, "RECOMPUTED_AT_ONCE", 1000)
    rng = np.random.default_rng(m * n)
    queries, references = rng.normal(offset, 1, (m, 12)).astype("f"), rng.normal(offset, 1, (n, 12)).astype("f")
    distances, indices = nearest_neighbors(torch.from_numpy(queries), torch.from_numpy(references), k)
    pairs = cdist(queries.astype("d"), references.astype("d"))
    assert distances.shape == indices.shape == (m, min(k, n))
    np.testing.assert_allclose(distances, np.sort(pairs, 1)[:, :k], rtol=1e-5)
    assert np.array_equal(indices, np.argsort(pairs, 1, kind="stable")[:, :k])


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
def test_faiss_finds_what_scikit_learn_finds(monkeypatch):
    points = torch.randn(500, 16, generator=torch.manual_seed(0)) + 100
    found = nearest_neighbors(points[:50], points[50:], 4)
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    for one, other in zip(found, nearest_neighbors(points[:50], points[50:], 4), strict=True):
        assert torch.equal(one, other)
