"""Equal images among those of a fit, told by their embeddings: whatever they came from, and from a loaded model too."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from padim_zoo.data.groups import connected_groups, joined_groups
from padim_zoo.features.patch_embeddings import PatchEmbeddings

TOLERANCE = 1e-4
"""Embeddings of equal images differ by less, as a share of the largest value: by the batches that they were in."""

_COMPARED = 4096
"""Numbers of an image that are compared with those of all others; the rest only where these agree."""


def groups_with_copies(embeddings: PatchEmbeddings, passes: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Groups (n,), int64, of images that are equal or of one group that is given.

    Parameters
    ----------
    embeddings : PatchEmbeddings
        Of n images, each in as many views as there are passes.
    passes : int
        The first view of an image is the image itself.
    groups : ndarray (n,), int, optional
    """
    n = embeddings.n // passes
    equal = connected_groups(n, _equal_pairs([layer[:, ::passes] for layer in embeddings.layers]))
    return equal if groups is None else joined_groups(equal, groups)


def _equal_pairs(layers: list[Tensor]) -> list[tuple[int, int]]:
    """Pairs of equal images by their layers (positions, n, channels)."""
    layers = [layer for layer in layers if layer.shape[2]]  # of a layer, nothing may have been drawn
    coarsest = min(layers, key=lambda layer: layer.shape[0])
    stride = max(1, coarsest.shape[0] * coarsest.shape[2] // _COMPARED)
    part = coarsest[::stride].transpose(0, 1).flatten(1).double()
    part = part - part.mean(0)
    norms = part.square().sum(1)
    distances = norms[:, None] + norms[None] - 2 * part @ part.T
    close = distances <= (TOLERANCE * (norms[:, None] + norms[None]).sqrt()).square() + 1e-12
    pairs = close.triu(1).nonzero().tolist()
    return [(i, j) for i, j in pairs if all(_agree(layer[:, i], layer[:, j]) for layer in layers)]


def _agree(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one.float(), other.float(), rtol=0, atol=TOLERANCE * float(one.abs().max())))
