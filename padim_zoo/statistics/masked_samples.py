"""Samples of images that differ in what counts: some are absent at some patches."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.spill import build_array
from padim_zoo.features.patch_embeddings import PatchEmbeddings, PatchSubset, valid_patches
from padim_zoo.statistics.samples import Samples

LEAST_SAMPLES = 2
"""Images that a patch must be seen in for its Gaussian to be estimated, where not all images have a sample there."""


class MaskedSamples(Samples):
    """Samples of which some are absent at some patches: n differs from patch to patch.

    Parameters
    ----------
    embeddings : PatchEmbeddings
        On one grid.
    present : Tensor (P, n), bool
        At least one image at every patch.
    """

    def __init__(self, embeddings: PatchEmbeddings, present: Tensor) -> None:
        (layer,) = embeddings.layers

        def shown(rows: slice) -> Tensor:
            return layer[rows] * present[rows].unsqueeze(2)

        super().__init__(embeddings._like((build_array(tuple(layer.shape), layer.dtype, shown),)))
        self.present = present

    def count(self, patches: slice | Tensor) -> int | Tensor:
        """Images with a sample at each patch, (p,), float64."""
        return self.present[patches].sum(1, dtype=torch.float64)

    @cached_property
    def mean(self) -> PatchEmbeddings:
        """Mean at each patch over the images that have a sample there."""
        (layer,) = self.embeddings.layers
        counts = self.present.sum(1, dtype=torch.float64)[:, None, None]

        def mean(rows: slice) -> Tensor:
            return (layer[rows].sum(1, keepdim=True, dtype=torch.float64) / counts[rows]).float()

        shape = (layer.shape[0], 1, layer.shape[2])
        n_bytes = layer.shape[1] * layer.shape[2] * layer.element_size()
        return self.embeddings._like((build_array(shape, torch.float32, mean, n_bytes),))

    def centered(self) -> PatchEmbeddings:
        """The samples about their mean; 0 where there is none."""
        (layer,), (mean,) = self.embeddings.layers, self.mean.layers

        def part(rows: slice) -> Tensor:
            return (layer[rows] - mean[rows]) * self.present[rows].unsqueeze(2)

        return self.embeddings._like((build_array(tuple(layer.shape), layer.dtype, part),))

    def _deviations(self, patches: slice | Tensor) -> Tensor:
        return super()._deviations(patches) * self.present[patches].unsqueeze(2)


def valid_samples(embeddings: PatchEmbeddings) -> Samples:
    """What is known at the patches that count in all images, or in some, of embeddings with masks.

    Patches that count in no image are left out. Where images differ, so are those that count in fewer than
    :data:`LEAST_SAMPLES`: nothing is known of how they vary.

    Raises
    ------
    InputError
        If no patch is left.
    """
    assert embeddings.roi_masks is not None
    present = valid_patches(embeddings.roi_masks, embeddings.grid)
    if embeddings.subset is not None:
        present = present[embeddings.subset.indices]
    differs = bool((present.any(1) & ~present.all(1)).any())
    counts = present.sum(1)
    patches = (counts >= (LEAST_SAMPLES if differs else 1)).nonzero().flatten()
    if not len(patches):
        raise InputError(
            f"no patch counts in {LEAST_SAMPLES} or more of the {embeddings.n} images: expected regions of interest "
            "that overlap"
        )
    if embeddings.subset is None:
        embeddings = embeddings.within(PatchSubset(embeddings.grid, patches))
    embeddings = replace(embeddings, roi_masks=None)
    return MaskedSamples(embeddings.on_one_grid(), present[patches]) if differs else Samples(embeddings)
