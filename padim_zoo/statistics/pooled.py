"""Moments of the patches of all positions together: each patch of each image is one sample of one place.

They are D × D numbers whatever the images, and merge by addition as all moments do.
"""

from __future__ import annotations

import torch

from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

POOLED_BYTES = 64 * 2**20
"""Patches in float64 that are in memory together; changes memory, and results by rounding alone."""


def pooled_moments(statistics: Samples | Moments, reference: PatchEmbeddings | None = None) -> Moments:
    """Moments of a single place that holds the patches of all positions and images.

    Patches that do not count have no part.

    Parameters
    ----------
    statistics : Samples or Moments
        Of images.
    reference : PatchEmbeddings, optional
        The point that they are about, of a single place; by default near their mean.

    Returns
    -------
    Moments
        ``P`` is 1 and ``n`` the number of patches.
    """
    if isinstance(statistics, Moments):
        return _pooled(statistics, reference)
    embeddings = statistics.embeddings
    step = max(1, POOLED_BYTES // (8 * embeddings.n * embeddings.D))
    present = embeddings.present(embeddings.grid)
    if present is not None and embeddings.subset is not None:
        present = present[embeddings.subset.indices]
    total: Moments | None = None
    for start in range(0, embeddings.P, step):
        patches = slice(start, min(start + step, embeddings.P))
        samples = embeddings[patches].flatten(0, 1)  # (p·n, D)
        if present is not None:
            samples = samples[present[patches].flatten()]
        if not len(samples):
            continue
        part = one_place(samples)
        reference = part.mean() if reference is None else reference
        moments = Moments.of(part, reference)
        total = moments if total is None else moments.absorb(total)
    assert total is not None
    return total


def one_place(samples: torch.Tensor) -> PatchEmbeddings:
    """Samples (m, D) as the embeddings of m images at a single place."""
    return PatchEmbeddings((samples[None],), ((1, 1),), (1, 1))


def _pooled(moments: Moments, reference: PatchEmbeddings | None) -> Moments:
    if moments.P == 1:
        return moments if reference is None else moments.about(reference)
    if reference is None:
        reference = one_place(moments.reference[slice(0, moments.P)].mean((0, 1), dtype=torch.float64).float()[None])
    everywhere = moments.reference.like_patches(reference[slice(0, 1)][0].expand(moments.P, -1))
    arrays = {name: array.sum(0, keepdim=True) for name, array in moments.about(everywhere).arrays().items()}
    return Moments.from_arrays(moments.n * moments.P, reference, arrays)
