"""From all channels of all layers to the D dimensions of an embedding: a choice of channels, or a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, nearest_positions


@dataclass(frozen=True)
class RandomChannels:
    """Some channels of each layer, chosen at random (PaDiM, arXiv 2011.08785, section III-A, "Rd").

    Attributes
    ----------
    channels : tuple of ndarray, int64
        The kept channels of each layer, ascending. A layer may lose all of them.
    """

    channels: tuple[np.ndarray, ...]

    @classmethod
    def draw(cls, channels: Sequence[int], n_components: int, seed: int) -> RandomChannels:
        """Draw ``n_components`` of all channels without repetition."""
        drawn = np.sort(np.random.default_rng(seed).choice(sum(channels), size=n_components, replace=False))
        starts = np.cumsum([0, *channels[:-1]])
        layers = np.split(drawn, np.searchsorted(drawn, starts[1:]))
        return cls(tuple(layer - start for layer, start in zip(layers, starts, strict=True)))

    def apply(self, features: Features) -> PatchEmbeddings:
        """The embeddings of images whose features have all channels: selected before anything is upsampled."""
        return PatchEmbeddings.of(features.select(self.channels))

    def arrays(self) -> dict[str, Tensor]:
        """What was drawn, by name."""
        return {str(number): torch.from_numpy(channels) for number, channels in enumerate(self.channels)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> RandomChannels:
        """The reduction that gave these arrays."""
        return cls(tuple(arrays[str(number)].numpy() for number in range(len(arrays))))


@dataclass(frozen=True)
class SemiOrthogonal:
    """Projection to a random subspace (Kim et al. 2021, arXiv 2105.14737, section 3.1).

    Attributes
    ----------
    matrix : Tensor (C, D), float32
        W with Wᵀ W = I, uniform among such matrices; C channels of all layers together.
    """

    matrix: Tensor

    @classmethod
    def draw(cls, channels: Sequence[int], n_components: int, seed: int) -> SemiOrthogonal:
        """Draw a projection of all channels to ``n_components`` dimensions."""
        q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((sum(channels), n_components)))
        # The signs make the factorization unique, and with it the distribution uniform.
        return cls(torch.from_numpy(q * np.sign(np.diagonal(r))).float())

    def apply(self, features: Features) -> PatchEmbeddings:
        """As :meth:`RandomChannels.apply`: layers are projected on their own grids, and added on the finest."""
        grid = max(features.grids, key=lambda grid: grid[0] * grid[1])
        total = torch.zeros(1)
        matrices = torch.split(self.matrix, list(features.channels))
        for layer, own_grid, matrix in zip(features.maps, features.grids, matrices, strict=True):
            projected = layer.flatten(2).permute(2, 0, 1).float() @ matrix
            total = total + projected[nearest_positions(own_grid, grid)]
        return PatchEmbeddings((total,), (grid,), grid, roi_masks=features.roi_masks)

    def arrays(self) -> dict[str, Tensor]:
        """What was drawn, by name."""
        return {"matrix": self.matrix}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> SemiOrthogonal:
        """The reduction that gave these arrays."""
        return cls(arrays["matrix"])


class LeadingChannels(RandomChannels):
    """The first channels of each layer, for backbones whose channels come most informative first."""

    @classmethod
    def draw(cls, channels: Sequence[int], n_components: int, seed: int) -> LeadingChannels:
        """Each layer gives its share of ``n_components``, to the nearest whole number; ``seed`` plays no part."""
        stops = np.rint(np.cumsum(channels) * n_components / sum(channels)).astype(int)
        return cls(tuple(np.arange(count) for count in np.diff(stops, prepend=0)))


Reduction = RandomChannels | SemiOrthogonal
"""Turns feature maps into embeddings of fewer dimensions."""

REDUCTIONS: Mapping[str, type[RandomChannels] | type[SemiOrthogonal]] = {
    "leading": LeadingChannels,
    "random": RandomChannels,
    "orthogonal": SemiOrthogonal,
}
"""The reductions by the names that ``reduction`` takes."""


def draw_reduction(kind: str, channels: Sequence[int], n_components: int, seed: int) -> Reduction:
    """Draw a reduction.

    Parameters
    ----------
    kind : str
        ``"leading"``, ``"random"`` or ``"orthogonal"``.
    channels : sequence of int
        Number of channels of each layer.
    n_components : int
        Dimensions to keep in all.
    seed : int
        Seed of the draw.

    Raises
    ------
    InputError
        If there is no such kind, or ``n_components`` is less than 1 or more than there are channels.
    """
    if kind not in REDUCTIONS:
        raise InputError(f"reduction is {kind!r}: expected {', '.join(REDUCTIONS)}")
    if not 1 <= n_components <= sum(channels):
        raise InputError(
            f"n_components is {n_components}, but the layers have {sum(channels)} channels: expected 1 to that many"
        )
    return REDUCTIONS[kind].draw(channels, n_components, seed)
