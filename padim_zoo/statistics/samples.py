"""Statistics of the normal images: what estimators can ask for, and the samples that answer it.

Samples cost memory for every image, but little, since they stay on their layers' own grids. Moments
(:mod:`padim_zoo.statistics.moments`) cost D² numbers per patch whatever the number of images. Both merge, so a fit can
stream, continue and be spread over machines.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

from torch import Tensor

from padim_zoo.features.patch_embeddings import PatchEmbeddings


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

    def count(self, patches: slice | Tensor) -> int | Tensor:
        """Images that have a sample at the patches: n, or where that differs, (p,), float64."""

    def scatter(self, patches: slice | Tensor) -> Tensor:
        """Σᵢ (xᵢ − x̄)(xᵢ − x̄)ᵀ, (p, D, D)."""

    def pooled(self, patches: slice | Tensor) -> Tensor:
        """The covariances, divisor n − 1, summed over the patches, (D, D)."""

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

    def count(self, patches: slice | Tensor) -> int | Tensor:
        """Images."""
        return self.n

    def centered(self) -> PatchEmbeddings:
        """The samples about their mean."""
        return self.embeddings - self.mean

    def scatter(self, patches: slice | Tensor) -> Tensor:
        """Scatter matrices, (p, D, D)."""
        deviations = self._deviations(patches)
        return deviations.mT @ deviations

    def pooled(self, patches: slice | Tensor) -> Tensor:
        """Covariances summed over the patches, (D, D): one product, for a matrix per patch costs more than the rest."""
        freedom = per_patch(divisor(self.count(patches)), 3)
        rows = (self._deviations(patches) / freedom**0.5).flatten(0, 1)
        return rows.mT @ rows

    def squares(self, patches: slice) -> Tensor:
        """Sums of squares of each channel, (p, D)."""
        return self._deviations(patches).square().sum(1)

    def sum_fourth_powers(self, patches: slice) -> Tensor:
        """Sums of fourth powers of the distance from the mean, (p,)."""
        deviations = self._deviations(patches)
        # What rounding the mean to float32 has left: fourth powers feel it to first order, squares to second order.
        deviations -= deviations.sum(1, keepdim=True) / per_patch(self.count(patches), 3)
        return deviations.square_().sum(2).square_().sum(1)

    def _deviations(self, patches: slice | Tensor) -> Tensor:
        if isinstance(patches, slice):
            return (self.embeddings[patches] - self.mean[patches]).double()
        return (self.embeddings.at(patches) - self.mean.at(patches)).double()


def divisor(n: int | Tensor) -> float | Tensor:
    """n − 1, which makes a covariance of a scatter, but at least 1."""
    return (n - 1).clamp_min(1) if isinstance(n, Tensor) else max(n - 1, 1)


def per_patch(number: float | Tensor, dims: int) -> float | Tensor:
    """A number of each patch, (p,), against arrays of so many dimensions; a number of all as it is."""
    return number.view(-1, *[1] * (dims - 1)) if isinstance(number, Tensor) else number
