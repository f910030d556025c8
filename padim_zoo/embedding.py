"""Patch embeddings (PaDiM §III-A): the channels of every layer, on the grid of the finest one.

The layers are never upsampled as a whole. Nearest-neighbour upsampling repeats values, so the embedding of a patch is
gathered from the layers' own grids when it is wanted, and what is linear in the layers (means, norms, Gram matrices)
is computed once per position of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from padim_zoo.arrays import filled
from padim_zoo.features import Features


@lru_cache(maxsize=64)
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


@dataclass(frozen=True)
class PatchEmbeddings:
    """The embeddings of n images at P patches, D channels each, held at the layers' own resolution.

    Attributes
    ----------
    layers : tuple of Tensor
        (positions, n, channels) of each layer, float32: the samples of one position lie together.
    grids : tuple of tuple of int
        Height and width of each layer's grid.
    grid : tuple of int
        Height and width of the patch grid, that of the finest layer.
    """

    layers: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    grid: tuple[int, int]

    @classmethod
    def of(cls, features: Features) -> PatchEmbeddings:
        """The embeddings of images whose channels are already selected."""
        layers = tuple(layer.flatten(2).permute(2, 0, 1).contiguous() for layer in features.maps)
        return cls(layers, features.grids, max(features.grids, key=lambda grid: grid[0] * grid[1]))

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.layers[0].shape[1])

    @property
    def P(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1]

    @property
    def D(self) -> int:
        """Number of channels."""
        return sum(int(layer.shape[2]) for layer in self.layers)

    def __getitem__(self, patches: slice) -> Tensor:
        """Embeddings at some patches, (p, n, D), float32."""
        return torch.cat([layer[at[patches]] for layer, at in self._used], dim=2)

    def at(self, patches: Tensor) -> Tensor:
        """Embeddings at the patches of the given numbers, (p, n, D), float32."""
        return torch.cat([layer[at[patches]] for layer, at in self._used], dim=2)

    def __sub__(self, other: PatchEmbeddings) -> PatchEmbeddings:
        """Difference of two sets of embeddings on one grid, image by image; either may be a single image."""
        return self._with(other, torch.sub)

    def __add__(self, other: PatchEmbeddings) -> PatchEmbeddings:
        """Sum of two sets of embeddings on one grid, image by image; either may be a single image."""
        return self._with(other, torch.add)

    def images(self, indices: np.ndarray) -> PatchEmbeddings:
        """The embeddings of some of the images, in the order of ``indices``."""
        chosen = torch.from_numpy(indices)

        def images(layer: Tensor) -> Tensor:
            shape = (layer.shape[0], len(chosen), layer.shape[2])
            return filled(shape, layer.dtype, lambda rows: layer[rows][:, chosen])

        return self._like(tuple(images(layer) for layer in self.layers))

    @staticmethod
    def concatenate(parts: Sequence[PatchEmbeddings]) -> PatchEmbeddings:
        """All images of several parts on one grid."""

        def joined(layers: Sequence[Tensor]) -> Tensor:
            shape = (layers[0].shape[0], sum(int(layer.shape[1]) for layer in layers), layers[0].shape[2])
            return filled(shape, layers[0].dtype, lambda rows: torch.cat([layer[rows] for layer in layers], 1))

        return parts[0]._like(tuple(joined(layers) for layers in zip(*(p.layers for p in parts), strict=True)))

    def mean(self) -> PatchEmbeddings:
        """The mean over the images, as the embeddings of one image."""

        def mean(layer: Tensor) -> Tensor:
            return filled(
                (layer.shape[0], 1, layer.shape[2]),
                torch.float32,
                lambda rows: layer[rows].mean(1, keepdim=True, dtype=torch.float64).float(),
                layer.shape[1] * layer.shape[2] * layer.element_size(),
            )

        return self._like(tuple(mean(layer) for layer in self.layers))

    def inner_products(self, other: PatchEmbeddings, patches: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Inner products of every embedding of this set with every one of another, (p, n, N), in precision ``dtype``.

        Products of concatenated layers are sums of products of the layers, and a coarse layer has few positions.
        """
        total = torch.zeros(1, dtype=dtype)
        for (layer, at), (theirs, _) in zip(self._used, other._used, strict=True):
            positions, inverse = _positions(at, patches)
            total = total + (layer[positions].to(dtype) @ theirs[positions].to(dtype).mT)[inverse]
        return total

    def squared_norms(self, patches: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Squared Euclidean norm of every embedding, (p, n), in precision ``dtype``."""
        total = torch.zeros(1, dtype=dtype)
        for layer, at in self._used:
            positions, inverse = _positions(at, patches)
            total = total + layer[positions].to(dtype).square().sum(2)[inverse]
        return total

    def like_patches(self, values: Tensor) -> PatchEmbeddings:
        """One image whose embeddings are the given values (P, D), on the grids of this set.

        Values of patches that share a position of a layer must agree in the channels of that layer.
        """
        layers, start = [], 0
        for layer, grid in zip(self.layers, self.grids, strict=True):
            width = layer.shape[2]
            one = torch.zeros(layer.shape[0], 1, width, dtype=values.dtype)
            one[nearest_positions(grid, self.grid), 0] = values[:, start : start + width]
            layers.append(one)
            start += width
        return self._like(tuple(layers))

    def size_in_bytes(self) -> int:
        """Memory of all layers."""
        return sum(layer.numel() * layer.element_size() for layer in self.layers)

    @property
    def _used(self) -> list[tuple[Tensor, Tensor]]:
        """Each layer that has channels, and the position on it of every patch."""
        return [
            (layer, nearest_positions(grid, self.grid))
            for layer, grid in zip(self.layers, self.grids, strict=True)
            if layer.shape[2]
        ]

    def _with(self, other: PatchEmbeddings, operation: Callable[[Tensor, Tensor], Tensor]) -> PatchEmbeddings:
        def combined(mine: Tensor, theirs: Tensor) -> Tensor:
            shape = (mine.shape[0], max(mine.shape[1], theirs.shape[1]), mine.shape[2])
            dtype = torch.promote_types(mine.dtype, theirs.dtype)
            return filled(shape, dtype, lambda rows: operation(mine[rows], theirs[rows]))

        return self._like(tuple(combined(*pair) for pair in zip(self.layers, other.layers, strict=True)))

    def _like(self, layers: tuple[Tensor, ...]) -> PatchEmbeddings:
        return PatchEmbeddings(layers, self.grids, self.grid)


def _positions(at: Tensor, patches: slice | Tensor) -> tuple[slice | Tensor, Tensor]:
    """The positions of a layer that some patches lie on, and for each patch, which of them is its own."""
    wanted = at[patches]
    if isinstance(patches, slice):
        # Neighbouring patches lie on neighbouring positions: a slice of a layer is not copied.
        first = int(wanted.min())
        return slice(first, int(wanted.max()) + 1), wanted - first
    positions, inverse = torch.unique(wanted, return_inverse=True)
    return positions, inverse
