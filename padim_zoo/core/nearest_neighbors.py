"""Exact nearest neighbors in bounded memory, by scikit-learn, or faiss where it is installed; on a GPU by torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.moving import HOST
from padim_zoo.core.parallel import blocks

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
        Euclidean, on the device of the points.
    indices : Tensor (m, k), int64
        Of references.
    """
    k = min(k, len(references))
    if queries.device == HOST:
        asked, known = (np.ascontiguousarray(points.float().numpy()) for points in (queries, references))
        indices = torch.from_numpy(_search(asked, known, k).astype(np.int64))
    else:
        indices = _search_on_device(queries, references, k)
    distances = distances_to(queries, references, indices)
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), indices.gather(1, order)


def distances_to(queries: Tensor, references: Tensor, indices: Tensor) -> Tensor:
    """Distances (m, k), float32, of queries (m, D) to some references (n, D) each, by their numbers (m, k)."""
    distances = torch.empty(indices.shape, device=indices.device)
    size = max(1, RECOMPUTED_AT_ONCE // (4 * indices.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), size):
        rows = slice(start, start + size)
        distances[rows] = torch.linalg.vector_norm(queries[rows, None] - references[indices[rows]], dim=2)
    return distances


def _search_on_device(queries: Tensor, references: Tensor, k: int) -> Tensor:
    """By products of all references with as many queries as a block has room for."""
    center = references.mean(0)
    about = references - center  # products lose digits far from the origin
    squares = about.square().sum(1)
    nearest = []
    for part in blocks(len(queries), 4 * len(references), queries.device):
        distances = torch.addmm(squares, queries[part] - center, about.T, alpha=-2)
        nearest.append(distances.topk(k, largest=False).indices)
    return torch.cat(nearest)


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
