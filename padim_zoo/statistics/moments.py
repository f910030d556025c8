"""Statistics as sums over the images, about a fixed reference; they merge by addition, and forget by subtraction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from padim_zoo.core.parallel import map_blocks
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.samples import divisor


@dataclass(frozen=True)
class Moments:
    """Sums over n images of powers of y = x − reference; they merge by addition.

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

    def __sub__(self, other: Moments) -> Moments:
        """Moments of the images that are not in the other, whose own are all in this one.

        Parameters
        ----------
        other : Moments
            About the same point.
        """
        pairs = zip(self.arrays().values(), other.arrays().values(), strict=True)
        return Moments(self.n - other.n, self.reference, *(mine - theirs for mine, theirs in pairs))

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

    def count(self, patches: slice | Tensor) -> int | Tensor:
        """Images."""
        return self.n

    def scatter(self, patches: slice | Tensor) -> Tensor:
        """Scatter matrices, (p, D, D)."""
        first = self.first[patches]
        return self.second[patches] - first.unsqueeze(2) * first.unsqueeze(1) / self.n

    def pooled(self, patches: slice | Tensor) -> Tensor:
        """Covariances summed over the patches, (D, D)."""
        return self.scatter(patches).sum(0) / divisor(self.n)

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
        """All tensors but the reference, by name."""
        return {"first": self.first, "second": self.second, "third": self.third, "fourth_power": self.fourth_power}

    @classmethod
    def from_arrays(cls, n: int, reference: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Moments:
        """The moments that gave these arrays."""
        return cls(n, reference, arrays["first"], arrays["second"], arrays["third"], arrays["fourth_power"])
