"""The literal float64 oracle that every estimator is held to."""

from __future__ import annotations

import numpy as np
import torch

from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.samples import Samples


def samples_of(values: np.ndarray) -> Samples:
    """Statistics of an array (n, P, D)."""
    return Samples(embeddings_of(values))


def embeddings_of(values: np.ndarray) -> PatchEmbeddings:
    """Embeddings from an array (n, P, D): one layer on a 1×P grid."""
    maps = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 2, 1)[:, :, None, :])).float()
    return PatchEmbeddings.of(Features((maps,), (1, values.shape[1])))


def literal_distances(covariances: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distances (P, N) by solving with each covariance, in float64."""
    return np.stack(
        [
            np.einsum("nd,nd->n", delta, np.linalg.solve(covariance, delta.T).T)
            for covariance, delta in zip(
                covariances, (test - train.mean(0)).transpose(1, 0, 2).astype(np.float64), strict=True
            )
        ]
    )


def sample_covariances(train: np.ndarray, *, biased: bool = False) -> np.ndarray:
    """S of every patch, (P, D, D): divisor n − 1, or n if biased; zero for one sample."""
    n = len(train)
    centered = (train - train.mean(0)).astype(np.float64)
    divisor = n if biased else max(n - 1, 1)
    return np.einsum("npd,npe->pde", centered, centered) / divisor
