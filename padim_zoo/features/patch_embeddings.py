"""Patch embeddings (PaDiM §III-A): the channels of every layer, on the grid of the finest one.

The layers are never upsampled as a whole. Nearest-neighbor upsampling repeats values, so the embedding of a patch is
gathered from the layers' own grids when it is wanted, and what is linear in the layers (means, norms, Gram matrices)
is computed once per position of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.spill import build_array, join_columns
from padim_zoo.features.features import Features, concatenate_roi_masks, joined, nearest_positions, widened
from padim_zoo.features.poses import Poses
from padim_zoo.features.tiles import TileLayout


def valid_patches(roi_masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which cells of a grid hold any pixel that counts, so that every such pixel is scored by its own cell.

    Parameters
    ----------
    roi_masks : Tensor (n, H, W), bool
    grid : tuple of int
        Height h and width w of the grid, at most H and W.

    Returns
    -------
    Tensor (h·w, n), bool
    """
    n, height, width = roi_masks.shape
    count = torch.zeros(n, grid[0], width).index_add_(1, _cell_of_pixels(height, grid[0]), roi_masks.float())
    count = torch.zeros(n, *grid).index_add_(2, _cell_of_pixels(width, grid[1]), count)
    return (count > 0).flatten(1).T


def masked_mean(maps: Tensor, roi_masks: Tensor | None) -> Tensor:
    """The mean (N, C, 1, 1) of feature maps (N, C, h, w) over the cells that count; NaN where none does."""
    if roi_masks is None:
        return maps.mean((2, 3), keepdim=True)
    grid = (int(maps.shape[2]), int(maps.shape[3]))
    counted = valid_patches(roi_masks, grid).T.reshape(-1, 1, *grid).to(maps)
    return (maps * counted).sum((2, 3), keepdim=True) / counted.sum((2, 3), keepdim=True)


def upsample_mask(cells: Tensor, image_size: tuple[int, int], tiles: TileLayout | None = None) -> Tensor:
    """The pixels (n, H, W) of cells (n, h, w): the same value at all pixels of a cell.

    Where tiles overlap, a pixel lies in a cell of each; one of them is enough.
    """
    if tiles is not None:
        inside = (axis.cells(count) for axis, count in zip((tiles.rows, tiles.columns), cells.shape[1:], strict=True))
        of_rows, of_columns = (torch.from_numpy(axis).float() for axis in inside)
        return of_rows @ cells.float() @ of_columns.T > 0
    rows, columns = (_cell_of_pixels(*sizes) for sizes in zip(image_size, cells.shape[1:], strict=True))
    return cells[:, rows][:, :, columns]


def _cell_of_pixels(pixels: int, cells: int) -> Tensor:
    """The cell of one axis that the center of each pixel lies in."""
    return (2 * torch.arange(pixels) + 1) * cells // (2 * pixels)


class PatchSubset:
    """Some of the patches of a grid.

    Attributes
    ----------
    grid : tuple of int
        Height and width of the patch grid.
    indices : Tensor (P',), int64
        Flat and ascending.
    """

    def __init__(self, grid: tuple[int, int], indices: Tensor) -> None:
        self.grid = grid
        self.indices = indices
        self._on: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def on(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The positions of a layer's grid that these patches lie on, and for each patch, which of them is its own."""
        if grid not in self._on:
            self._on[grid] = torch.unique(nearest_positions(grid, self.grid)[self.indices], return_inverse=True)
        return self._on[grid]

    def mask(self) -> Tensor:
        """Which patches of the grid these are, (P,), bool."""
        mask = torch.zeros(self.grid[0] * self.grid[1], dtype=torch.bool)
        mask[self.indices] = True
        return mask


class Layout(NamedTuple):
    """Which channels of embeddings come from which grid, and nothing of any image.

    Attributes
    ----------
    grids : tuple of tuple of int
        Height and width of each layer's grid.
    widths : tuple of int
        Channels of each layer.
    grid : tuple of int
        Height and width of the patch grid.
    """

    grids: tuple[tuple[int, int], ...]
    widths: tuple[int, ...]
    grid: tuple[int, int]

    @property
    def used(self) -> list[int]:
        """The layers that have channels."""
        return [number for number, width in enumerate(self.widths) if width]


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
    subset : PatchSubset, optional
        The patches that these are the embeddings of, if not all of the grid: layers hold the positions that they lie
        on, and no others.
    roi_masks : Tensor (n, H, W), bool, or None
        The pixels of each image, or of the mosaic of its tiles, that count; None where all do.
    poses : Poses or None
        Of the parts of the images, where these were brought to the mean pose.
    sizes, own_grids : Tensor (n, 2), int64, or None
        Height and width of each image in pixels, and of its patch grid, where images of several sizes lie on a canvas.
    """

    layers: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    grid: tuple[int, int]
    subset: PatchSubset | None = None
    roi_masks: Tensor | None = None
    poses: Poses | None = None
    sizes: Tensor | None = None
    own_grids: Tensor | None = None

    @classmethod
    def of(cls, features: Features) -> PatchEmbeddings:
        """The embeddings of images whose channels are already reduced."""
        layers = tuple(widened(layer.flatten(2).permute(2, 0, 1).contiguous()) for layer in features.maps)
        return cls(layers, features.grids, features.finest_grid, roi_masks=features.roi_masks, poses=features.poses)

    @property
    def device(self) -> torch.device:
        """Where the layers lie; masks, poses and numbers of patches are always in main memory."""
        return self.layers[0].device

    def to(self, device: torch.device) -> PatchEmbeddings:
        """The same embeddings on a device."""
        if self.device == device:
            return self
        return replace(self, layers=tuple(layer.to(device) for layer in self.layers))

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.layers[0].shape[1])

    @property
    def P(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1] if self.subset is None else len(self.subset.indices)

    @property
    def D(self) -> int:
        """Number of channels."""
        return sum(int(layer.shape[2]) for layer in self.layers)

    @property
    def layout(self) -> Layout:
        """Which channels come from which grid."""
        return Layout(self.grids, tuple(int(layer.shape[2]) for layer in self.layers), self.grid)

    def __getitem__(self, patches: slice) -> Tensor:
        """Embeddings at some patches, (p, n, D), float32."""
        return torch.cat([layer[at[patches]] for layer, at in self._layers_with_positions], dim=2)

    def at(self, patches: Tensor) -> Tensor:
        """Embeddings at the patches of the given numbers, (p, n, D), float32."""
        return torch.cat([layer[at[patches]] for layer, at in self._layers_with_positions], dim=2)

    def __sub__(self, other: PatchEmbeddings) -> PatchEmbeddings:
        """Difference of two sets of embeddings on one grid, image by image; either may be a single image."""
        return self._combine(other, torch.sub)

    def __add__(self, other: PatchEmbeddings) -> PatchEmbeddings:
        """Sum of two sets of embeddings on one grid, image by image; either may be a single image."""
        return self._combine(other, torch.add)

    def images(self, indices: np.ndarray) -> PatchEmbeddings:
        """The embeddings of some of the images, in the order of ``indices``."""
        columns = torch.from_numpy(indices)

        def images(layer: Tensor) -> Tensor:
            shape = (layer.shape[0], len(columns), layer.shape[2])
            return build_array(shape, layer.dtype, lambda rows: layer[rows][:, columns])

        roi_masks = None if self.roi_masks is None else self.roi_masks[columns]
        poses = None if self.poses is None else self.poses.images(columns)
        sizes, own_grids = (None if each is None else each[columns] for each in (self.sizes, self.own_grids))
        layers = tuple(images(layer) for layer in self.layers)
        return replace(self, layers=layers, roi_masks=roi_masks, poses=poses, sizes=sizes, own_grids=own_grids)

    def on_canvas(self, image_size: tuple[int, int], size: tuple[int, int], grid: tuple[int, int]) -> PatchEmbeddings:
        """Embeddings of one layer, of images in the top left corner of a larger size; :meth:`apart` takes them back.

        Neither pixels nor patches beyond an image count.

        Parameters
        ----------
        image_size, size : (int, int)
            Height and width in pixels, of the images and of the larger size.
        grid : (int, int)
            Of the larger size.
        """
        (layer,), (height, width) = self.layers, image_size
        roi_masks = torch.zeros(self.n, *size, dtype=torch.bool)
        roi_masks[:, :height, :width] = True if self.roi_masks is None else self.roi_masks
        rows, columns = (torch.arange(cells).clamp_max(own - 1) for cells, own in zip(grid, self.grid, strict=True))
        layer = layer.view(*self.grid, *layer.shape[1:])[rows][:, columns].flatten(0, 1)
        sizes, own_grids = torch.tensor([image_size] * self.n), torch.tensor([self.grid] * self.n)
        return PatchEmbeddings((layer,), (grid,), grid, roi_masks=roi_masks, sizes=sizes, own_grids=own_grids)

    def apart(self) -> Iterator[tuple[tuple[int, int], PatchEmbeddings]]:
        """The size of each image, and its embeddings as they were before :meth:`on_canvas`."""
        (layer,) = self.layers
        for number, (inside, (rows, columns)) in enumerate(self._own()):
            own = layer[:, number : number + 1].view(*self.grid, 1, -1)[:rows, :columns].flatten(0, 1)
            roi_masks = None if bool(inside.all()) else inside
            yield (
                (int(inside.shape[1]), int(inside.shape[2])),
                PatchEmbeddings((own,), ((rows, columns),), (rows, columns), roi_masks=roi_masks),
            )

    def _own(self) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """The pixels (1, h, w) of each image on a canvas that count, and its patch grid."""
        assert self.sizes is not None
        assert self.own_grids is not None
        assert self.roi_masks is not None
        for number, (size, grid) in enumerate(zip(self.sizes.tolist(), self.own_grids.tolist(), strict=True)):
            yield self.roi_masks[number : number + 1, : size[0], : size[1]], (grid[0], grid[1])

    def present(self, grid: tuple[int, int]) -> Tensor | None:
        """Which positions of a grid count in which image, (positions, n); None where all do in all of them.

        Of images on a canvas, those that count in an image alone.
        """
        if self.roi_masks is None:
            return None
        if self.sizes is None:
            return valid_patches(self.roi_masks, grid)
        counted = torch.zeros(*grid, self.n, dtype=torch.bool)
        for number, (inside, (rows, columns)) in enumerate(self._own()):
            counted[:rows, :columns, number] = valid_patches(inside, (rows, columns)).view(rows, columns)
        return counted.flatten(0, 1)

    def within(self, subset: PatchSubset) -> PatchEmbeddings:
        """The embeddings of some of the patches, in no more memory than these take."""
        if self.subset is subset:
            return self
        assert self.subset is None

        def used(layer: Tensor, grid: tuple[int, int]) -> Tensor:
            positions, _ = subset.on(grid)
            shape = (len(positions), layer.shape[1], layer.shape[2])
            return build_array(shape, layer.dtype, lambda rows: layer[positions[rows]])

        layers = tuple(used(layer, grid) for layer, grid in zip(self.layers, self.grids, strict=True))
        return replace(self, layers=layers, subset=subset)

    def small_part(self) -> PatchEmbeddings:
        """Some of the patches: the uppermost row of the coarsest layer, or every so-many-th where grids do not nest."""
        rows = min(grid[0] for grid in self.grids)
        if any(grid[0] % rows for grid in self.grids):
            return self.within(PatchSubset(self.grid, torch.arange(0, self.P, rows)))
        grids = tuple((grid[0] // rows, grid[1]) for grid in self.grids)
        layers = tuple(layer[: height * width] for layer, (height, width) in zip(self.layers, grids, strict=True))
        return replace(self, layers=layers, grids=grids, grid=(self.grid[0] // rows, self.grid[1]))

    def on_one_grid(self) -> PatchEmbeddings:
        """The same embeddings as a single layer, which repeats what coarse layers hold once."""
        shape = (self.P, self.n, self.D)
        layer = build_array(shape, self.layers[0].dtype, lambda patches: self[patches])
        return replace(self, layers=(layer,), grids=(self.grid,))

    @staticmethod
    def concatenate(parts: Sequence[PatchEmbeddings]) -> PatchEmbeddings:
        """All images of several parts on one grid; where some lie on a canvas, others are of its size."""
        sized = next((part for part in parts if part.sizes is not None), None)
        if sized is not None and sized.roi_masks is not None:
            size = int(sized.roi_masks.shape[1]), int(sized.roi_masks.shape[2])
            parts = [part if part.sizes is not None else part.on_canvas(size, size, sized.grid) for part in parts]

        layers = tuple(join_columns(layers) for layers in zip(*(p.layers for p in parts), strict=True))
        roi_masks = concatenate_roi_masks([(part.n, part.roi_masks) for part in parts])
        poses = Poses.concatenate([part.poses for part in parts])
        sizes, own_grids = joined([part.sizes for part in parts]), joined([part.own_grids for part in parts])
        return replace(parts[0], layers=layers, roi_masks=roi_masks, poses=poses, sizes=sizes, own_grids=own_grids)

    def mean(self) -> PatchEmbeddings:
        """The mean over the images, as the embeddings of one image."""

        def mean(layer: Tensor) -> Tensor:
            return build_array(
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
        total = None
        for (layer, at), (theirs, _) in zip(self._layers_with_positions, other._layers_with_positions, strict=True):
            positions, inverse = _positions(at, patches)
            products = layer[positions].to(dtype) @ theirs[positions].to(dtype).mT
            total = _plus_those_of(total, products, inverse)
        return torch.zeros(1, dtype=dtype, device=self.device) if total is None else total

    def squared_norms(self, patches: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Squared Euclidean norm of every embedding, (p, n), in precision ``dtype``."""
        total = None
        for layer, at in self._layers_with_positions:
            positions, inverse = _positions(at, patches)
            total = _plus_those_of(total, layer[positions].to(dtype).square().sum(2), inverse)
        return torch.zeros(1, dtype=dtype, device=self.device) if total is None else total

    def summed_over_layers(self, function: Callable[[Tensor], Tensor]) -> Callable[[slice], Tensor]:
        """Sums over the layers of what a function makes of each, (positions, …): for a slice of patches, (p, …)."""
        parts = [(function(layer), at) for layer, at in self._layers_with_positions]
        return lambda patches: sum((part[at[patches]] for part, at in parts), torch.zeros((), device=self.device))

    def like_patches(self, values: Tensor) -> PatchEmbeddings:
        """One image whose embeddings are the given values (P, D), on the grids of this set.

        Values of patches that share a position of a layer must agree in the channels of that layer.
        """
        layers = []
        parts = torch.split(values, [int(layer.shape[2]) for layer in self.layers], dim=1)
        for layer, grid, part in zip(self.layers, self.grids, parts, strict=True):
            one = torch.zeros(layer.shape[0], 1, part.shape[1], dtype=values.dtype, device=values.device)
            one[self._position_of_patches(grid), 0] = part
            layers.append(one)
        return self._like(tuple(layers))

    def size_in_bytes(self) -> int:
        """Memory of all layers."""
        return sum(layer.numel() * layer.element_size() for layer in self.layers)

    @property
    def _layers_with_positions(self) -> list[tuple[Tensor, Tensor]]:
        """Each layer that has channels, and the position on it of every patch."""
        return [
            (layer, self._position_of_patches(grid))
            for layer, grid in zip(self.layers, self.grids, strict=True)
            if layer.shape[2]
        ]

    def _position_of_patches(self, grid: tuple[int, int]) -> Tensor:
        if self.subset is None:
            return nearest_positions(grid, self.grid, self.device)
        return self.subset.on(grid)[1].to(self.device)

    def _combine(self, other: PatchEmbeddings, operation: Callable[[Tensor, Tensor], Tensor]) -> PatchEmbeddings:
        def combined(mine: Tensor, theirs: Tensor) -> Tensor:
            shape = (mine.shape[0], max(mine.shape[1], theirs.shape[1]), mine.shape[2])
            dtype = torch.promote_types(mine.dtype, theirs.dtype)
            return build_array(shape, dtype, lambda rows: operation(mine[rows], theirs[rows]))

        return self._like(tuple(combined(*pair) for pair in zip(self.layers, other.layers, strict=True)))

    def _like(self, layers: tuple[Tensor, ...]) -> PatchEmbeddings:
        return PatchEmbeddings(layers, self.grids, self.grid, self.subset)


def _plus_those_of(total: Tensor | None, of_positions: Tensor, at: Tensor) -> Tensor:
    """The sum so far, and what is at the position of each patch."""
    # Of one image, of_positions[at] takes four times as long.
    of_patches = of_positions.index_select(0, at)
    return of_patches if total is None else total.add_(of_patches)


def _positions(at: Tensor, patches: slice | Tensor) -> tuple[slice | Tensor, Tensor]:
    """The positions of a layer that some patches lie on, and for each patch, which of them is its own."""
    if isinstance(patches, slice) and patches == slice(0, len(at)):
        return slice(None), at
    wanted = at[patches]
    if isinstance(patches, slice):
        # Neighboring patches lie on neighboring positions: a slice of a layer is not copied.
        first = int(wanted.min())
        return slice(first, int(wanted.max()) + 1), wanted - first
    positions, inverse = torch.unique(wanted, return_inverse=True)
    return positions, inverse
