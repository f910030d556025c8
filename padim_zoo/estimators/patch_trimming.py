"""Trimming at each patch by itself: a fit there on the images that belong together. One bad corner costs no image.

As of :mod:`padim_zoo.detectors.trimming`, these are the concentration steps of the minimum covariance determinant,
made regular by the estimator's own ridge or shrinkage. All images are scored by a fit on those that stay at the patch,
each by one that leaves it out. The highest go, until the same images go again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.parallel import blocks
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.estimators.leave_one_out import leave_one_out
from padim_zoo.estimators.linear_shrinkage import LinearShrinkage
from padim_zoo.estimators.structured import Diagonal
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.masked_samples import LEAST_SAMPLES, MaskedSamples
from padim_zoo.statistics.samples import Samples

MOST_ROUNDS = 10


def check_estimator(estimator: Estimator) -> None:
    """Refuse an estimator whose patches are not estimated one by one.

    Raises
    ------
    InputError
        Naming it.
    """
    if not isinstance(estimator, (LinearShrinkage, Diagonal)):
        raise InputError(
            f"the estimator {estimator} does not estimate each patch by itself, and trim_patches does: use full, "
            "ledoit-wolf or diagonal"
        )


def trimmed_count(n: int, share: float) -> int:
    """How many of n images are left out at each patch."""
    return max(0, min(round(share * n), n - LEAST_SAMPLES))


def trim_samples(samples: Samples, estimator: Estimator, share: float) -> Samples:
    """The samples without those that are unlike the others at their patch.

    Parameters
    ----------
    samples : Samples
        All images at all patches.
    estimator : Estimator
        One that :func:`check_estimator` accepts.
    share : float
        In (0, 0.5), rounded to a number of images, the same at each patch.
    """
    embeddings, count = samples.embeddings, trimmed_count(samples.n, share)
    if not count:
        return samples
    # Four times the usual block: each step cuts it again, for its threads.
    parts = blocks(embeddings.P, embeddings.n * embeddings.D)
    stays = torch.cat([_concentrate(embeddings[part], estimator, count) for part in parts])
    return MaskedSamples(embeddings.on_one_grid(), stays)


def _concentrate(rows: Tensor, estimator: Estimator, count: int) -> Tensor:
    """Which samples stay at some patches, (p, n), bool; each patch ends by itself."""
    stays = torch.ones(rows.shape[:2], dtype=torch.bool)
    before, active = [stays.clone()], torch.arange(len(rows))
    for _ in range(MOST_ROUNDS):
        distances = _distances(rows[active], before[-1][active], estimator)
        highest = (-distances).argsort(dim=1, stable=True)[:, :count]
        now = torch.ones_like(distances, dtype=torch.bool).scatter_(1, highest, False)
        stays[active] = now
        known = torch.stack([(earlier[active] == now).all(1) for earlier in before]).any(0)
        active = active[~known]
        if not len(active):
            break
        before.append(stays.clone())
    return stays


def _distances(rows: Tensor, stays: Tensor, estimator: Estimator) -> Tensor:
    """Squared distances (p, n): of samples that stay by a fit on the others of these, of the rest by one on all."""
    order = (~stays).int().argsort(dim=1, stable=True)
    sizes = [int(stays[0].sum()), int((~stays[0]).sum())]
    sorted_rows = rows.gather(1, order[:, :, None].expand_as(rows))
    kept, out = (
        PatchEmbeddings((part.contiguous(),), ((len(rows), 1),), (len(rows), 1))
        for part in torch.split(sorted_rows, sizes, dim=1)
    )
    distances = [leave_one_out(kept, estimator, exact=True)]
    if out.n:
        distances.append(estimator.fit(Samples(kept)).squared_distances(out))
    return torch.empty(rows.shape[:2]).scatter_(1, order, torch.cat(distances, 1))
