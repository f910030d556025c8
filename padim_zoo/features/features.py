"""Feature maps of a set of images at the resolution of their layers, and their reduction to D channels.

Detectors that ask for the same features share them: a benchmark extracts once and fits many. A reduction is a choice of
channels, or a projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from padim_zoo.core.errors import InputError
from padim_zoo.core.moving import HOST
from padim_zoo.core.spill import empty, is_large, release
from padim_zoo.features.poses import Poses


@dataclass(frozen=True)
class Features:
    """Feature maps of N images, or of V views of each.

    Attributes
    ----------
    maps : tuple of Tensor
        One tensor (N·V, C_l, H_l, W_l), float32, per layer; each at the layer's own resolution. Of images in tiles,
        they are mosaics: see :mod:`padim_zoo.features.tiles`. The views of one image
        lie next to each other. On the way to a detector that says ``accepts_bfloat16`` they may be in bfloat16.
    image_size : tuple of int
        Height and width in pixels of the images after the transform: the size of an anomaly map.
    views : int
        V: the image as it is, and other views of it, where a detector asks for some.
    roi_masks : Tensor (N·V, H, W), bool, or None
        The pixels of each view, or of the mosaic of its tiles, that count; None where all do.
    poses : Poses or None
        Of the parts, where images were brought to the mean pose; N of them, for there is one view then.
    sizes : Tensor (N·V, 2), int64, or None
        Height and width of each image, where images of several sizes lie on a canvas of ``image_size``.
    own_grids : Tensor (N·V, layers, 2), int64, or None
        Height and width of each layer's grid of each of these images, which backbones round up or down.
    """

    maps: tuple[Tensor, ...]
    image_size: tuple[int, int]
    views: int = 1
    roi_masks: Tensor | None = None
    poses: Poses | None = None
    sizes: Tensor | None = None
    own_grids: Tensor | None = None

    def __len__(self) -> int:
        return int(self.maps[0].shape[0]) // self.views

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each layer."""
        return tuple(int(layer.shape[1]) for layer in self.maps)

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each layer's grid."""
        return tuple((int(layer.shape[2]), int(layer.shape[3])) for layer in self.maps)

    @property
    def finest_grid(self) -> tuple[int, int]:
        """The grid with the most positions, that of the patches."""
        return max(self.grids, key=lambda grid: grid[0] * grid[1])

    def images(self, indices: Sequence[int] | np.ndarray | slice) -> Features:
        """The features of some of the images, all views of each, in the order of ``indices``."""
        if self.views == 1:
            rows = indices if isinstance(indices, slice) else torch.as_tensor(np.asarray(indices))
        else:
            images = np.arange(len(self))[indices if isinstance(indices, slice) else np.asarray(indices)]
            rows = torch.from_numpy(rows_of(images, self.views))
        return self._rows(rows, self.views)

    def of_views(self, views: Sequence[int]) -> Features:
        """Some of the views of every image."""
        if list(views) == list(range(self.views)):
            return self
        return self._rows(torch.from_numpy(rows_of(np.arange(len(self)), self.views, views)), len(views))

    def _rows(self, rows: slice | Tensor, views: int) -> Features:
        roi_masks = None if self.roi_masks is None else self.roi_masks[rows]
        if roi_masks is not None and bool(roi_masks.all()):
            roi_masks = None
        poses = None if self.poses is None else self.poses.images(rows)
        sizes, own_grids = (None if each is None else each[rows] for each in (self.sizes, self.own_grids))
        maps = tuple(_take(layer, rows) for layer in self.maps)
        return Features(maps, self.image_size, views, roi_masks, poses, sizes, own_grids)

    def in_parts(self, n_bytes: int) -> Iterator[Features]:
        """The same images, some at a time, of about so many bytes; at least one."""
        of_image = sum(layer[: self.views].nbytes for layer in self.maps)
        size = max(1, n_bytes // of_image)
        for start in range(0, len(self), size):
            yield self.images(slice(start, start + size))

    def on_canvas(self, size: tuple[int, int], strides: Sequence[int]) -> Features:
        """The same images in the top left corner of a size that others share; :meth:`apart` takes them back.

        Parameters
        ----------
        size : (int, int)
            Height and width in pixels, multiples of the strides.
        strides : sequence of int
            Of the layers.
        """
        n, (height, width) = int(self.maps[0].shape[0]), self.image_size
        roi_masks = torch.zeros(n, *size, dtype=torch.bool)
        roi_masks[:, :height, :width] = True if self.roi_masks is None else self.roi_masks
        grids = [tuple(-(-side // stride) for side in size) for stride in strides]
        maps = tuple(_continued(layer, grid) for layer, grid in zip(self.maps, grids, strict=True))
        sizes, own_grids = torch.tensor([self.image_size] * n), torch.tensor([self.grids] * n)
        return replace(self, maps=maps, image_size=size, roi_masks=roi_masks, sizes=sizes, own_grids=own_grids)

    def apart(self) -> Iterator[Features]:
        """Each image as it was before :meth:`on_canvas`."""
        assert self.sizes is not None
        assert self.own_grids is not None
        for number in range(len(self)):
            one = self.images(slice(number, number + 1))
            height, width = self.sizes[number * self.views].tolist()
            grids = self.own_grids[number * self.views].tolist()
            maps = tuple(layer[:, :, :rows, :columns] for layer, (rows, columns) in zip(one.maps, grids, strict=True))
            inside = None if one.roi_masks is None else one.roi_masks[:, :height, :width]
            roi_masks = None if inside is None or bool(inside.all()) else inside
            yield Features(maps, (height, width), self.views, roi_masks)

    def with_maps(self, maps: tuple[Tensor, ...]) -> Features:
        """The same images and views by other maps."""
        return replace(self, maps=maps)

    def to(self, device: torch.device) -> Features:
        """The same maps on a device; all else stays where it is."""
        if self.maps[0].device == device:
            return self
        return self.with_maps(tuple(layer.to(device) for layer in self.maps))

    def widened(self) -> Features:
        """The same maps in float32."""
        return self.with_maps(tuple(widened(layer) for layer in self.maps))

    @staticmethod
    def concatenate(parts: Sequence[Features]) -> Features:
        """All images of several parts, which must agree in layers, grids, image size and views."""
        maps = tuple(torch.cat(layers) for layers in zip(*(p.maps for p in parts), strict=True))
        return Features._joined(parts, maps)

    @staticmethod
    def gather(parts: Iterable[Features], images: int) -> Features:
        """As :meth:`concatenate`, of parts that come one after the other and have so many images, in float32.

        Where all of them would be too large for the memory allowed, they lie in a file, and only a part is in memory.
        """
        parts = iter(parts)
        first = next(parts)
        views = images * first.views
        if not is_large(max(4 * views * layer[0].numel() for layer in first.maps)):
            return Features.concatenate([first, *parts]).widened()
        whole: list[Tensor] = []
        without: list[Features] = []
        row = 0
        for part in chain([first], parts):
            count = int(part.maps[0].shape[0])
            for number, layer in enumerate(part.widened().maps):
                if len(whole) == number:
                    whole.append(empty_maps(views, layer))
                whole[number][row : row + count] = layer
            without.append(part.with_maps((torch.empty(count, 0),)))  # for what goes with maps
            row += count
            release()
        return Features._joined(without, tuple(whole))

    @staticmethod
    def _joined(parts: Sequence[Features], maps: tuple[Tensor, ...]) -> Features:
        roi_masks = concatenate_roi_masks([(int(part.maps[0].shape[0]), part.roi_masks) for part in parts])
        poses = Poses.concatenate([part.poses for part in parts])
        sizes, own_grids = joined([part.sizes for part in parts]), joined([part.own_grids for part in parts])
        return Features(maps, parts[0].image_size, parts[0].views, roi_masks, poses, sizes, own_grids)


def empty_maps(n: int, like: Tensor) -> Tensor:
    """Maps (n, C, h, w) of undefined content, channels last in memory as networks leave them, like those of others."""
    channels, height, width = like.shape[1:]
    return empty(n, height, width, channels, dtype=like.dtype).permute(0, 3, 1, 2)


def _take(layer: Tensor, rows: slice | Tensor) -> Tensor:
    """Some rows of a layer, in a file where they would be too large for the memory allowed."""
    if isinstance(rows, slice) or not is_large(len(rows) * layer[:1].nbytes):
        return layer[rows]
    taken = empty_maps(len(rows), layer)
    for position, row in enumerate(rows.tolist()):
        taken[position] = layer[row]
        release()
    return taken


def _some_channels(layer: Tensor, indices: Tensor) -> Tensor:
    """Some channels of a layer, in its own layout: where these lie innermost, that takes a fifth of the time."""
    if not layer.is_contiguous(memory_format=torch.channels_last):
        return layer.index_select(1, indices)
    innermost = layer.permute(0, 2, 3, 1)
    return innermost.gather(3, indices.expand(*innermost.shape[:3], -1)).permute(0, 3, 1, 2)


def _continued(layer: Tensor, grid: tuple[int, ...]) -> Tensor:
    """A layer (n, C, h, w) on a larger grid, by its last row and column."""
    height, width = (max(0, side - int(own)) for side, own in zip(grid, layer.shape[2:], strict=True))
    return pad(layer, (0, width, 0, height), mode="replicate")


def widened(layer: Tensor) -> Tensor:
    """A layer in float32, unless it is of whole numbers, as images that a detector keeps are."""
    return layer.float() if layer.is_floating_point() else layer


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """What is known of the images of several parts: of all, or of none."""
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if tensors else None


def rows_of(images: np.ndarray, views: int, subset: Sequence[int] | None = None) -> np.ndarray:
    """The rows of some or all views of images, the views of one image next to each other."""
    offsets = np.arange(views) if subset is None else np.asarray(subset, dtype=np.int64)
    return np.asarray(images[:, None] * views + offsets).ravel()


def concatenate_roi_masks(parts: Sequence[tuple[int, Tensor | None]]) -> Tensor | None:
    """The masks of all images of several parts, given as numbers of images and masks; None for all pixels."""
    size = next((masks.shape[1:] for _, masks in parts if masks is not None), None)
    if size is None:
        return None
    return torch.cat([torch.ones(n, *size, dtype=torch.bool) if masks is None else masks for n, masks in parts])


@lru_cache(maxsize=64)
def nearest_positions(grid: tuple[int, int], finest: tuple[int, int], device: torch.device = HOST) -> Tensor:
    """For each patch of the finest grid, the flat index of its nearest neighbor on ``grid``.

    The rule is that of ``torch.nn.functional.interpolate(mode="nearest")``: ``floor(position * size / finest size)``.

    Returns
    -------
    Tensor (P,), int64
    """
    rows = torch.arange(finest[0]) * grid[0] // finest[0]
    columns = torch.arange(finest[1]) * grid[1] // finest[1]
    return (rows[:, None] * grid[1] + columns[None, :]).flatten().to(device)


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

    def apply(self, features: Features) -> Features:
        """The chosen channels of features that have all of them."""
        device = features.maps[0].device
        chosen = (torch.from_numpy(indices).to(device, non_blocking=True) for indices in self.channels)
        return features.with_maps(tuple(map(_some_channels, features.maps, chosen)))

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

    def apply(self, features: Features) -> Features:
        """One layer of D channels: all layers are projected on their own grids, and added on the finest."""
        grid = features.finest_grid
        device = features.maps[0].device
        total = torch.zeros(1, device=device)
        matrices = torch.split(self.matrix.to(device, non_blocking=True), list(features.channels))
        for layer, own_grid, matrix in zip(features.maps, features.grids, matrices, strict=True):
            projected = layer.flatten(2).permute(2, 0, 1).float() @ matrix
            total = total + projected[nearest_positions(own_grid, grid, device)]
        return features.with_maps((total.permute(1, 2, 0).reshape(-1, total.shape[2], *grid),))

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
