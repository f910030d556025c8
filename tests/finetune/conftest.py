"""Images that something can be learned from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def stripes() -> Tensor:
    """Smooth stripes of slanted brightness (16, 3, 64, 64), uint8: a piece from elsewhere is out of place."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((64, 64)) / 64
    pictures = []
    for _ in range(16):
        waves = np.sin(9 * columns + rng.uniform(0, 0.5)) * np.array([60, 30, -40])[:, None, None]
        pictures.append(110 + waves + 60 * rows + rng.normal(0, 2, (3, 64, 64)))
    return torch.from_numpy(np.clip(np.stack(pictures), 0, 255).astype(np.uint8))
