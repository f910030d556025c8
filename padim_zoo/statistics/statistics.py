"""What estimators can ask of the normal images: all samples, or the moments left when there are too many to keep.

Samples cost memory for every image, but little, since they stay on their layers' own grids. Moments cost D² numbers per
patch whatever the number of images. Both merge, so a fit can stream, continue and be spread over machines.
"""

from __future__ import annotations

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

    def count(self, patches: slice) -> int | Tensor:
        """Images that have a sample at the patches: n, or where that differs, (p,), float64."""

    def scatter(self, patches: slice | Tensor) -> Tensor:
        """Σᵢ (xᵢ − x̄)(xᵢ − x̄)ᵀ, (p, D, D)."""

    def squares(self, patches: slice) -> Tensor:
        """The diagonal of :meth:`scatter`, (p, D)."""

    def sum_fourth_powers(self, patches: slice) -> Tensor:
        """Σᵢ ‖xᵢ − x̄‖⁴, (p,)."""


def divisor(n: int | Tensor) -> float | Tensor:
    """n − 1, which makes a covariance of a scatter, but at least 1."""
    return (n - 1).clamp_min(1) if isinstance(n, Tensor) else max(n - 1, 1)


def per_patch(number: float | Tensor, dims: int) -> float | Tensor:
    """A number of each patch, (p,), against arrays of so many dimensions; a number of all as it is."""
    return number.view(-1, *[1] * (dims - 1)) if isinstance(number, Tensor) else number
