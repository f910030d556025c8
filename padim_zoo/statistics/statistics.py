"""What estimators know of the normal images: all samples, or the moments that are left when there are too many to keep.

Samples cost memory for every image, but little, since they stay on their layers' own grids. Moments cost D² numbers per
patch whatever the number of images. Both merge, so a fit can stream, continue and be spread over machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.parallel import map_blocks
from padim_zoo.core.spill import build_array
from padim_zoo.features.patch_embeddings import PatchEmbeddings, PatchSubset, valid_patches


class Statistics(Protocol):
    """What every estimator can ask for; all in float64 and about the mean.

    Attributes
    ----------
    n, P, D : int
        Images, patches, channels.
    mean : PatchEmbeddings
        Mean over the images, as the embeddings of one image.
    """

    @property
    def n(self) -> int: ...

    @property
    def P(self) -> int: ...

    @property
    def D(self) -> int: ...

    @property
    def mean(self) -> PatchEmbeddings: ...

    def count(self, patches: slice) -> int | Tensor:
        """Images that have a sample at the patches: n, or where that differs, (p,), float64."""

    def scatter(self, patches: slice | Tensor) -> Tensor:
        """Σᵢ (xᵢ − x̄)(xᵢ − x̄)ᵀ, (p, D, D)."""

    def squares(self, patches: slice) -> Tensor:
        """The diagonal of :meth:`scatter`, (p, D)."""

    def sum_fourth_powers(self, patches: slice) -> Tensor:
        """Σᵢ ‖xᵢ − x̄‖⁴, (p,)."""


class Samples:
    """Statistics of samples that are all at hand.

    Parameters
    ----------
    embeddings : PatchEmbeddings
        Of n normal images.
    """

    def __init__(self, embeddings: PatchEmbeddings) -> None:
        self.embeddings = embeddings

    @property
    def n(self) -> int:
        """Number of images."""
        return self.embeddings.n

    @property
    def P(self) -> int:
        """Number of patches."""
        return self.embeddings.P

    @property
    def D(self) -> int:
        """Number of channels."""
        return self.embeddings.D

    @cached_property
    def mean(self) -> PatchEmbeddings:
        """Mean over the images."""
        return self.embeddings.mean()

    def count(self, patches: slice) -> int | Tensor:
        """Images."""
        return self.n

    def centered(self) -> PatchEmbeddings:
        """The samples about their mean."""
        return self.embeddings - self.mean

    def scatter(self, patches: slice | Tensor) -> Tensor:
        """Scatter matrices, (p, D, D)."""
        deviations = self._deviations(patches)
        return deviations.mT @ deviations

    def squares(self, patches: slice) -> Tensor:
        """Sums of squares of each channel, (p, D)."""
        return self._deviations(patches).square().sum(1)

    def sum_fourth_powers(self, patches: slice) -> Tensor:
        """Sums of fourth powers of the distance from the mean, (p,)."""
        return self._deviations(patches).square().sum(2).square().sum(1)

    def _deviations(self, patches: slice | Tensor) -> Tensor:
        if isinstance(patches, slice):
            return (self.embeddings[patches] - self.mean[patches]).double()
        return (self.embeddings.at(patches) - self.mean.at(patches)).double()


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

    def count(self, patches: slice) -> int | Tensor:
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
        assert isinstance(patches, slice)
        return super()._deviations(patches) * self.present[patches].unsqueeze(2)


def valid_samples(embeddings: PatchEmbeddings) -> Samples:
    """What is known at the patches that count in all images, or in some.

    Patches that count in no image are left out. Where images differ, so are those that count in fewer than
    :data:`LEAST_SAMPLES`: nothing is known of how they vary.

    Raises
    ------
    InputError
        If no patch is left.
    """
    if embeddings.roi_masks is None:
        return Samples(embeddings)
    present = valid_patches(embeddings.roi_masks, embeddings.grid)
    if embeddings.subset is not None:
        present = present[embeddings.subset.indices]
    differs = bool((present.any(1) & ~present.all(1)).any())
    counts = present.sum(1)
    kept = (counts >= (LEAST_SAMPLES if differs else 1)).nonzero().flatten()
    if not len(kept):
        raise InputError(
            f"no patch counts in {LEAST_SAMPLES} or more of the {embeddings.n} images: expected regions of interest "
            "that overlap"
        )
    if embeddings.subset is None:
        embeddings = embeddings.within(PatchSubset(embeddings.grid, kept))
    embeddings = replace(embeddings, roi_masks=None)
    return MaskedSamples(embeddings.on_one_grid(), present[kept]) if differs else Samples(embeddings)


@dataclass(frozen=True)
class Moments:
    """Sums over n images of powers of y = x − shift; they merge by addition.

    Attributes
    ----------
    n : int
        Images.
    reference : PatchEmbeddings
        A fixed point near the mean, as the embeddings of one image: it keeps the sums from cancelling.
    first : Tensor (P, D), float64
        Σ y
    second : Tensor (P, D, D), float64
        Σ y yᵀ
    third : Tensor (P, D), float64
        Σ ‖y‖² y, which Ledoit–Wolf shrinkage needs.
    fourth_power : Tensor (P,), float64
        Σ ‖y‖⁴, likewise.
    """

    n: int
    reference: PatchEmbeddings
    first: Tensor
    second: Tensor
    third: Tensor
    fourth_power: Tensor

    @staticmethod
    def bytes_needed(P: int, D: int) -> int:
        """Memory of the moments of P patches and D channels, whatever the number of images."""
        return 8 * P * (D * D + 2 * D + 1)

    @classmethod
    def of(cls, embeddings: PatchEmbeddings, reference: PatchEmbeddings) -> Moments:
        """Moments of n images about a given point."""

        def block(patches: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            y = (embeddings[patches] - reference[patches]).double()
            norms = y.square().sum(2)
            return y.sum(1), y.mT @ y, (norms.unsqueeze(1) @ y).squeeze(1), norms.square().sum(1)

        n_bytes = 8 * (embeddings.n * embeddings.D + embeddings.D**2)
        return cls(embeddings.n, reference, *map_blocks(block, embeddings.P, n_bytes))

    def about(self, reference: PatchEmbeddings) -> Moments:
        """The same moments about another point."""

        def block(patches: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            c = (self.reference[patches].double() - reference[patches].double()).squeeze(1)
            first, second, third = self.first[patches], self.second[patches], self.third[patches]
            square = c.square().sum(1)
            along = (second @ c.unsqueeze(2)).squeeze(2)
            trace = second.diagonal(dim1=1, dim2=2).sum(1)
            projected = (c * first).sum(1)
            cross = c.unsqueeze(2) * first.unsqueeze(1)
            return (
                first + self.n * c,
                second + cross + cross.mT + self.n * c.unsqueeze(2) * c.unsqueeze(1),
                third + 2 * along + square[:, None] * first + (trace + 2 * projected + self.n * square)[:, None] * c,
                self.fourth_power[patches]
                + 4 * (c * third).sum(1)
                + 4 * (c * along).sum(1)
                + 2 * square * trace
                + 4 * square * projected
                + self.n * square**2,
            )

        return Moments(self.n, reference, *map_blocks(block, self.P, 32 * self.D**2))

    def __add__(self, other: Moments) -> Moments:
        """Moments of the images of both."""
        return other.about(self.reference).absorb(self)

    def absorb(self, other: Moments) -> Moments:
        """Moments of the images of both, in this one's memory, which must not be used any more.

        Parameters
        ----------
        other : Moments
            About the same point.
        """
        for mine, theirs in zip(self.arrays().values(), other.arrays().values(), strict=True):
            mine += theirs
        return replace(self, n=self.n + other.n)

    @property
    def P(self) -> int:
        """Number of patches."""
        return self.reference.P

    @property
    def D(self) -> int:
        """Number of channels."""
        return self.reference.D

    @cached_property
    def mean(self) -> PatchEmbeddings:
        """Mean over the images."""
        return self.reference + self.reference.like_patches((self.first / self.n).float())

    def count(self, patches: slice) -> int | Tensor:
        """Images."""
        return self.n

    def scatter(self, patches: slice | Tensor) -> Tensor:
        """Scatter matrices, (p, D, D)."""
        first = self.first[patches]
        return self.second[patches] - first.unsqueeze(2) * first.unsqueeze(1) / self.n

    def squares(self, patches: slice) -> Tensor:
        """Sums of squares of each channel, (p, D)."""
        diagonal = self.second[patches].diagonal(dim1=1, dim2=2)
        return (diagonal - self.first[patches].square() / self.n).clamp_min(0)

    def sum_fourth_powers(self, patches: slice) -> Tensor:
        """Sums of fourth powers of the distance from the mean, (p,)."""
        m = self.first[patches] / self.n
        second = self.second[patches]
        square = m.square().sum(1)
        trace = second.diagonal(dim1=1, dim2=2).sum(1)
        return (
            self.fourth_power[patches]
            - 4 * (m * self.third[patches]).sum(1)
            + 4 * (m.unsqueeze(1) @ second @ m.unsqueeze(2)).flatten()
            + 2 * square * trace
            - 3 * self.n * square**2
        )

    def arrays(self) -> dict[str, Tensor]:
        """All tensors but the shift, by name."""
        return {"first": self.first, "second": self.second, "third": self.third, "fourth_power": self.fourth_power}

    @classmethod
    def from_arrays(cls, n: int, reference: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Moments:
        """The moments that gave these arrays."""
        return cls(n, reference, arrays["first"], arrays["second"], arrays["third"], arrays["fourth_power"])


def divisor(n: int | Tensor) -> float | Tensor:
    """n − 1, which makes a covariance of a scatter, but at least 1."""
    return (n - 1).clamp_min(1) if isinstance(n, Tensor) else max(n - 1, 1)


def per_patch(number: float | Tensor, dims: int) -> float | Tensor:
    """A number of each patch, (p,), against arrays of so many dimensions; a number of all as it is."""
    return number.view(-1, *[1] * (dims - 1)) if isinstance(number, Tensor) else number
