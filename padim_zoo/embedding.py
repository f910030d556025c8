"""Feature maps to patch embeddings (PaDiM §III-A): some channels of every layer, on the grid of the finest one.

The layers are never upsampled as a whole. Nearest-neighbour upsampling repeats values, so the embedding of a patch is
gathered from the layers' own grids when it is wanted, and what is linear in the layers (means, norms, Gram matrices)
is computed once per position of each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from padim_zoo.errors import InputError
from padim_zoo.features import Features


def choose_channels(channels: Sequence[int], dims: int, seed: int) -> tuple[np.ndarray, ...]:
    """Draw ``dims`` of all channels at random (PaDiM §III-A, "Rd"), without repetition.

    Parameters
    ----------
    channels : sequence of int
        Number of channels of each layer.
    dims : int
        How many to keep in all.
    seed : int
        Seed of the draw.

    Returns
    -------
    tuple of ndarray, int64
        The kept channels of each layer, ascending. A layer may lose all of them.

    Raises
    ------
    InputError
        If ``dims`` is less than 1 or more than there are.
    """
    total = sum(channels)
    if not 1 <= dims <= total:
        raise InputError(f"dims is {dims}, but the chosen layers have {total} channels: expected 1 to {total}")
    kept = np.sort(np.random.default_rng(seed).choice(total, size=dims, replace=False))
    first = np.cumsum([0, *channels])
    return tuple(
        kept[(kept >= start) & (kept < stop)] - start for start, stop in zip(first[:-1], first[1:], strict=True)
    )


def nearest_positions(grid: tuple[int, int], finest: tuple[int, int]) -> Tensor:
    """For each patch of the finest grid, the flat index of its nearest neighbour on ``grid``.

    The rule is that of ``torch.nn.functional.interpolate(mode="nearest")``: ``floor(position * size / finest size)``.

    Returns
    -------
    Tensor (P,), int64
    """
    rows = torch.arange(finest[0]) * grid[0] // finest[0]
    columns = torch.arange(finest[1]) * grid[1] // finest[1]
    return (rows[:, None] * grid[1] + columns[None, :]).flatten()


class PatchEmbeddings:
    """The embeddings of n images at P patches, D channels each, held at the layers' own resolution.

    Parameters
    ----------
    features : Features
        Feature maps of the n images, channels already selected.

    Attributes
    ----------
    grid : tuple of int
        Height and width of the patch grid, that of the finest layer.
    n, P, D : int
        Images, patches, channels.
    """

    def __init__(self, features: Features) -> None:
        self.grid = max(features.grids, key=lambda grid: grid[0] * grid[1])
        self.n = len(features)
        self.P = self.grid[0] * self.grid[1]
        self.D = sum(features.channels)
        used = [(layer, grid) for layer, grid in zip(features.maps, features.grids, strict=True) if layer.shape[1]]
        # (positions, n, channels): the samples of one position lie together.
        self._layers = [layer.flatten(2).permute(2, 0, 1).contiguous() for layer, _ in used]
        self._positions = [nearest_positions(grid, self.grid) for _, grid in used]

    def __getitem__(self, patches: slice) -> Tensor:
        """Embeddings of some patches, (p, n, D), float32."""
        return torch.cat(
            [layer[at[patches]] for layer, at in zip(self._layers, self._positions, strict=True)], dim=2
        )

    @cached_property
    def _means(self) -> list[Tensor]:
        return [layer.mean(1, dtype=torch.float64).float() for layer in self._layers]

    def mean(self, patches: slice) -> Tensor:
        """Mean over the images, (p, D), float32."""
        return torch.cat([mean[at[patches]] for mean, at in zip(self._means, self._positions, strict=True)], dim=1)

    def gram(self, patches: slice) -> Tensor:
        """Gram matrices of the centred embeddings, (p, n, n), float64.

        A Gram matrix of concatenated layers is the sum of the layers' own, and a coarse layer has few positions.
        """
        total = torch.zeros(1, dtype=torch.float64)
        for layer, mean, at in zip(self._layers, self._means, self._positions, strict=True):
            positions, inverse = at[patches].unique(return_inverse=True)
            centred = (layer[positions] - mean[positions].unsqueeze(1)).double()
            total = total + (centred @ centred.mT)[inverse]
        return total
