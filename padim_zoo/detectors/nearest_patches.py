"""The worst place of an image, and the patches of other normal images that look most like it.

Patches are compared as the network sees them, by the distance of their embeddings. Where a detector models each
position by itself, only the same position of other images is looked at, else all of them. Each image gives one patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.parallel import for_each_block
from padim_zoo.detectors.out_of_fold import require_samples
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.features.features import rows_of
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.features.tiles import AxisTiles, TileLayout

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector

NEAREST = 3
"""Patches that are shown beside one."""


@dataclass(frozen=True)
class Place:
    """A place of a normal image.

    Attributes
    ----------
    image : int
        In the order of the fit.
    row, column : float
        Its center, in pixels of the image after the transform.
    """

    image: int
    row: float
    column: float


def nearest_patches(
    detector: BackboneDetector[Any], maps: Mapping[int, np.ndarray], count: int = NEAREST
) -> dict[int, list[Place]]:
    """The worst place of some normal images, then the places of others whose patches look most like it.

    Parameters
    ----------
    detector : BackboneDetector
        Whose samples are known. With ``register`` nothing is told: its patches lie on the mean pose.
    maps : mapping of int to ndarray (H, W)
        Anomaly maps, by image in the order of the fit.
    count : int
        Other images, the most alike first.

    Raises
    ------
    InputError
        If the samples are not known.
    """
    embeddings = require_samples(detector, "compare patches").embeddings
    if embeddings.poses is not None or not maps:
        return {}
    passes = detector.extractor.views.passes
    images = list(maps)
    if passes > 1:
        embeddings = embeddings.images(rows_of(np.arange(embeddings.n // passes), passes, [0]))
    grids = _Grids(embeddings, detector.image_size_, detector.tile_layout)
    worst = [grids.patch_of(image, *_peak(maps[image], grids.size_of(image))) for image in images]
    rows = torch.tensor([grids.row_of(patch) for patch in worst])
    queries = embeddings.at(rows)[torch.arange(len(rows)), torch.tensor(images)]  # (q, D)
    if at_same_position(detector):
        distances = torch.cdist(embeddings.at(rows), queries[:, None]).squeeze(2)  # (q, n)
        patches = torch.tensor(worst)[:, None].expand_as(distances)
        if grids.present is not None:
            distances = distances.masked_fill(~grids.present[patches[:, 0]], torch.inf)
    else:
        distances, patches = _anywhere(embeddings, queries, grids.present)
    distances[torch.arange(len(rows)), torch.tensor(images)] = torch.inf
    places = {}
    for number, image in enumerate(images):
        others = distances[number].argsort(stable=True)[:count].tolist()
        others = [other for other in others if torch.isfinite(distances[number, other])]
        found = [(image, worst[number]), *((other, int(patches[number, other])) for other in others)]
        places[image] = [Place(each, *grids.center_of(each, patch)) for each, patch in found]
    return places


def at_same_position(detector: BackboneDetector[Any]) -> bool:
    """Whether patches are compared with those of the same position alone."""
    return isinstance(detector, PaDiM)


def _peak(anomaly_map: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """The pixel of the highest score of an image, which may lie on a canvas."""
    own = anomaly_map[: size[0], : size[1]]
    row, column = np.unravel_index(np.nanargmax(own), own.shape)
    return int(row), int(column)


def _anywhere(embeddings: PatchEmbeddings, queries: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each image the distance of the patch nearest to each query (q, n), and its number."""
    n = embeddings.n
    lowest = torch.full((len(queries), n), torch.inf)
    nearest = torch.zeros(lowest.shape, dtype=torch.int64)

    def of_block(patches: slice) -> tuple[Tensor, Tensor]:
        rows = embeddings[patches]  # (p, n, D)
        distances = torch.cdist(queries, rows.flatten(0, 1)).view(len(queries), -1, n)
        if present is not None:
            distances = distances.masked_fill(~present[patches], torch.inf)
        values, at = distances.min(1)
        return values, at + patches.start

    def keep(_: slice, found: tuple[Tensor, Tensor]) -> None:
        values, at = found
        nearest[values < lowest] = at[values < lowest]
        torch.minimum(lowest, values, out=lowest)

    for_each_block(of_block, embeddings.P, 4 * n * (embeddings.D + 2 * len(queries)), keep)
    return lowest, nearest


class _Grids:
    """Patches and pixels of the images of a fit.

    A patch goes by its number on the grid of all images, and its row in the embeddings may be another one.
    """

    def __init__(self, embeddings: PatchEmbeddings, image_size: tuple[int, int], tiles: TileLayout | None) -> None:
        self.embeddings = embeddings
        self.image_size = image_size
        self.axes = (None, None) if tiles is None else (tiles.rows, tiles.columns)
        self.present = embeddings.present(embeddings.grid)

    def size_of(self, image: int) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        sizes = self.embeddings.sizes
        return self.image_size if sizes is None else _pair(sizes[image])

    def patch_of(self, image: int, row: int, column: int) -> int:
        """The number of the patch that a pixel lies in."""
        cells = [
            _cell_of(pixel, length, count, axis)
            for pixel, (length, count, axis) in zip((row, column), self._axes_of(image), strict=True)
        ]
        return cells[0] * self.embeddings.grid[1] + cells[1]

    def center_of(self, image: int, patch: int) -> tuple[float, float]:
        """The center of a patch in pixels."""
        cells = divmod(patch, self.embeddings.grid[1])
        row, column = (_center_of(cell, *axis) for cell, axis in zip(cells, self._axes_of(image), strict=True))
        return row, column

    def row_of(self, patch: int) -> int:
        """Where a patch stands in the embeddings."""
        subset = self.embeddings.subset
        return patch if subset is None else int((subset.indices - patch).abs().argmin())

    def _axes_of(self, image: int) -> Iterator[tuple[int, int, AxisTiles | None]]:
        own = self.embeddings.own_grids
        grid = self.embeddings.grid if own is None else _pair(own[image])
        return zip(self.size_of(image), grid, self.axes, strict=True)


def _pair(values: Tensor) -> tuple[int, int]:
    first, second = values.tolist()
    return first, second


def _cell_of(pixel: int, length: int, cells: int, axis: AxisTiles | None) -> int:
    if axis is not None:
        return int(axis.cells(cells)[pixel].argmax())
    return (2 * pixel + 1) * cells // (2 * length)


def _center_of(cell: int, length: int, cells: int, axis: AxisTiles | None) -> float:
    if axis is not None:
        return float(np.flatnonzero(axis.cells(cells)[:, cell]).mean())
    return (cell + 0.5) * length / cells - 0.5
