"""Exact nearest neighbors in bounded memory, by scikit-learn, or by faiss where that is installed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

RECOMPUTED_AT_ONCE = 16 * 2**20
"""Bytes of differences that are in memory together."""


def nearest_neighbors(queries: Tensor, references: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest references of each query, nearest first.

    The search compares blocks with blocks, so its memory does not grow with the product of their numbers. Distances are
    computed once more from the differences: those of a search by matrix products lose digits where points are close.

    Parameters
    ----------
    queries : Tensor (m, D)
    references : Tensor (n, D)
    k : int
        At most n are found.

    Returns
    -------
    distances : Tensor (m, k), float32
        Euclidean.
    indices : Tensor (m, k), int64
        Of references.
    """
    k = min(k, len(references))
    query_array, reference_array = (np.ascontiguousarray(points.float().numpy()) for points in (queries, references))
    indices = torch.from_numpy(_search(query_array, reference_array, k).astype(np.int64))
    distances = distances_to(queries, references, indices)
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), indices.gather(1, order)


def distances_to(queries: Tensor, references: Tensor, indices: Tensor) -> Tensor:
    """Distances (m, k), float32, of queries (m, D) to some references (n, D) each, by their numbers (m, k)."""
    distances = torch.empty(indices.shape)
    size = max(1, RECOMPUTED_AT_ONCE // (4 * indices.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), size):
        rows = slice(start, start + size)
        distances[rows] = torch.linalg.vector_norm(queries[rows, None] - references[indices[rows]], dim=2)
    return distances


def _search(queries: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
    try:
        import faiss
    except ImportError:
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references)
        return np.asarray(search.kneighbors(queries, return_distance=False))
    # Distances by products lose digits far from the origin; a common shift changes none of them.
    center = references.mean(0, keepdims=True)
    return np.asarray(faiss.knn(queries - center, references - center, k)[1])
