"""Regions of a prediction as data: where an image is anomalous, in its own pixels.

A region is at least so many connected pixels of the map that score above a threshold. Resize and crop are undone: a
pixel of the image belongs to the region whose pixel of the map its center falls on. This module imports no torch, for
exported detectors have regions too.

Outlines are polygons along the edges of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from padim_zoo.data.transform import Transform
from padim_zoo.metrics.conformal import conformal_p_value
from padim_zoo.metrics.region_overlap import label_regions
from padim_zoo.metrics.region_peak import region_peaks


@dataclass(frozen=True)
class RegionRule:
    """What is a region.

    Attributes
    ----------
    threshold : float
        Its pixels score above it.
    area : int
        Its pixels of the map, at least.
    normal_peaks : ndarray (n,), float32, or None
        The region peaks of normal images out of fold, for this area; they give p-values.
    groups : ndarray (n,), int64, or None
        Equal for normal images that show one thing.
    """

    threshold: float
    area: int = 1
    normal_peaks: np.ndarray | None = None
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Region:
    """A region of one image, in the pixels of the image as it is shown.

    Attributes
    ----------
    box : (int, int, int, int)
        Left, top, width and height in pixels.
    mask : ndarray (height, width), bool
        The pixels of the box that belong to the region.
    score : float
        The highest score of its pixels.
    p_value : float or None
        How likely a new normal image is to show a region as high, or higher. None where no normal image tells.
    image_size : (int, int)
        Height and width of the image.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray
    score: float
    p_value: float | None
    image_size: tuple[int, int]

    @property
    def area(self) -> int:
        """Pixels of the image."""
        return int(self.mask.sum())

    @property
    def run_lengths(self) -> list[int]:
        """Lengths of runs of pixels outside, inside, outside …, column by column of the image, as COCO has them."""
        left, top, _, _ = self.box
        height, width = self.image_size
        edges = np.diff(np.pad(self.mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
        (columns, first), (_, last) = np.nonzero(edges == 1), np.nonzero(edges == -1)
        offset = (left + columns) * height + top
        starts, ends = offset + first, offset + last
        apart = starts[1:] != ends[:-1]  # a run that ends with its column may go on in the next
        starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
        borders = np.concatenate([[0], np.stack([starts, ends], 1).ravel(), [height * width]])
        lengths: list[int] = np.diff(borders).tolist()
        return lengths if lengths[-1] else lengths[:-1]

    @property
    def polygons(self) -> list[Ring]:
        """The outline in the image, as :func:`~padim_zoo.detectors.regions.outlines` gives it."""
        left, top, _, _ = self.box
        return [[(left + x, top + y) for x, y in ring] for ring in outlines(self.mask)]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            "box": list(self.box),
            "area": self.area,
            "score": float(str(np.float32(self.score))),
            "p_value": self.p_value,
            "polygons": self.polygons,
            "mask": {"size": list(self.image_size), "counts": self.run_lengths},
        }


def find_regions(
    anomaly_map: np.ndarray, rule: RegionRule, transform: Transform, image_size: tuple[int, int]
) -> list[Region]:
    """The regions of an image, the highest first.

    Parameters
    ----------
    anomaly_map : ndarray (h, w)
        Of the image after the transform; NaN where nothing was scored.
    rule : RegionRule
    transform : Transform
    image_size : (int, int)
        Height and width of the image before it.
    """
    from scipy.ndimage import find_objects  # who asks for no regions need not wait for it

    anomaly_map = transform.own_part(anomaly_map, *image_size)
    labels = label_regions(anomaly_map > rule.threshold)
    rows, columns = _map_position(transform, image_size)
    areas = np.bincount(labels.ravel())
    regions = []
    for number, place in enumerate(find_objects(labels), 1):
        if areas[number] < rule.area:
            continue
        inside = labels == number
        box, mask = _in_image(inside, rows, columns)
        scores = np.where(inside[place], anomaly_map[place], np.nan)
        p_value = None
        if rule.normal_peaks is not None:
            p_value = conformal_p_value(region_peaks(scores, (rule.area,))[0], rule.normal_peaks, rule.groups)
        regions.append(Region(box, mask, float(np.nanmax(scores)), p_value, image_size))
    return sorted(regions, key=lambda region: -region.score)


def _map_position(transform: Transform, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The row of the map that each row (H,) of an image falls on, and the column of each column (W,).

    They lie outside of the map where the crop leaves the image out.
    """
    resized = transform.resized_size(*image_size)
    top, left, _, _ = transform.crop_box(*resized)
    rows, columns = (
        np.floor((np.arange(full) + 0.5) * small / full).astype(np.int64) - start
        for full, small, start in zip(image_size, resized, (top, left), strict=True)
    )
    return rows, columns


def _in_image(
    inside: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """The box of a region (h, w) of the map in the image, and its mask there.

    An image smaller than its map may lose a narrow region. It then gets the pixel nearest to the region's first.
    """
    ys, xs = (_span(np.any(inside, axis=axis), position) for axis, position in ((1, rows), (0, columns)))
    mask = inside[np.ix_(rows[ys], columns[xs])]
    if not mask.any():
        y, x = np.argwhere(inside)[0]
        return (_nearest(columns, x), _nearest(rows, y), 1, 1), np.ones((1, 1), dtype=bool)
    used_rows, used_columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = used_rows[0], used_rows[-1] + 1, used_columns[0], used_columns[-1] + 1
    box = (int(xs.start + left), int(ys.start + top), int(right - left), int(bottom - top))
    return box, mask[top:bottom, left:right]


def _span(used: np.ndarray, position: np.ndarray) -> slice:
    """The rows or columns of an image that fall on the used ones of a map."""
    first, last = np.flatnonzero(used)[[0, -1]]
    start, stop = np.searchsorted(position, [first, last + 1]).tolist()
    return slice(start, stop)


def _nearest(position: np.ndarray, wanted: int) -> int:
    return int(np.abs(position - wanted).argmin())


def to_coco(images: Sequence[tuple[str, tuple[int, int], Sequence[Region]]]) -> dict[str, Any]:
    """Regions as a COCO data set with one category; masks are run lengths, and scores stand beside them.

    Parameters
    ----------
    images : sequence of (file name, (height, width), regions)
    """
    listed = [
        {"id": number, "file_name": name, "height": size[0], "width": size[1]}
        for number, (name, size, _) in enumerate(images, 1)
    ]
    annotations = [
        {
            "image_id": number,
            "category_id": 1,
            "bbox": told["box"],
            "area": told["area"],
            "segmentation": told["mask"],
            "iscrowd": 0,
            "score": told["score"],
            "p_value": told["p_value"],
        }
        for number, (_, _, regions) in enumerate(images, 1)
        for told in (region.to_dict() for region in regions)
    ]
    numbered = [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)]
    return {"images": listed, "annotations": numbered, "categories": [{"id": 1, "name": "anomaly"}]}


Ring = list[tuple[int, int]]
"""Corners (x, y) of a closed line; the first is not repeated."""

_RIGHT_TURNS = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}


def outlines(mask: np.ndarray) -> list[Ring]:
    """The rings around the pixels of a mask (h, w), bool, and around its holes.

    A point lies in the mask where it is inside an odd number of rings. Outer rings go clockwise, with the mask at their
    right; holes go the other way. Pixels that touch at a corner alone have rings of their own.
    """
    padded = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (down, right), (start_y, start_x), step in (
        ((1, 0), (0, 0), (1, 0)),  # the pixel above is outside: its upper edge, from left to right
        ((-1, 0), (1, 1), (-1, 0)),
        ((0, 1), (1, 0), (0, -1)),
        ((0, -1), (0, 1), (0, 1)),
    ):
        outside = np.roll(padded, (down, right), (0, 1))
        for y, x in np.argwhere(padded & ~outside).tolist():
            steps.setdefault((x - 1 + start_x, y - 1 + start_y), []).append(step)
    rings = []
    while steps:
        start = corner = min(steps)  # its leftmost corner, where no other ring touches it
        ring: Ring = []
        before = None
        while corner != start or before is None:
            leaving = steps[corner]
            step = leaving[0] if len(leaving) == 1 or before is None else _RIGHT_TURNS[before]
            leaving.remove(step)
            if not leaving:
                del steps[corner]
            if step != before:
                ring.append(corner)
            corner, before = (corner[0] + step[0], corner[1] + step[1]), step
        rings.append(ring)
    return rings
