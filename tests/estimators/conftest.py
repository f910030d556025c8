"""Samples at patches."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def draw():
    """Correlated samples of differing scales, (n, P, D), float32."""

    def make(n: int, P: int, D: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(P, D, D)) / np.sqrt(D)
        values = np.einsum("npd,pde->npe", rng.normal(size=(n, P, D)), mixing) + rng.normal(size=(P, D))
        return (scale * values).astype(np.float32)

    return make
