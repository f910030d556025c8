"""What a detector says of images: scores, anomaly maps and decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.core.spill import build_array, empty, is_large, release
from padim_zoo.data.image import image_size
from padim_zoo.data.sources import single_images
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.config import DECIDES
from padim_zoo.detectors.image_poses import ImagePoses
from padim_zoo.detectors.regions import Region, RegionRule, find_regions
from padim_zoo.features.patch_embeddings import upsample_mask
from padim_zoo.features.tiles import TileLayout
from padim_zoo.metrics.region_peak import region_peaks
from padim_zoo.metrics.scored_pixels import ScoredPixels
from padim_zoo.pictures.colormap import Scale

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Prediction:
    """What a detector says of N images.

    Attributes
    ----------
    scores : ndarray (N,), float32
        Anomaly score of each image; larger is more anomalous.
    maps : ndarray (N, H, W), float32, or None
        Anomaly score of each pixel of the transformed image; None for image-level detectors.
    threshold : float or None
        Images whose :attr:`deciding_scores` exceed it are called anomalous; None when the detector has none.
    scale : (low, high) or None
        The scores of the first and the last color of pictures of the maps: :meth:`Detector.color_scale`.
    map_threshold : float or None
        Pixels whose score exceeds it lie within the boundary of such a picture.
    roi_masks : ndarray (N, H, W), bool, or None
        The pixels that were scored, where there is a region of interest; elsewhere maps are 0. None where all were.
    decides : str
        Of :data:`~padim_zoo.detectors.config.DECIDES`: whose threshold this is.
    region_rule : RegionRule or None
        What a region is; None where nothing says it.
    transform : Transform or None
        What was done to the images before the backbone.
    sources : sequence of N paths or (height, width), or None
        The files of the images, or the sizes of those in memory.
    originals : tuple of Path or ndarray, or None
        The images themselves, where :meth:`Detector.predict` was given files or arrays.
    poses : ImagePoses or None
        Where the parts lie; None where the detector brings no image to a mean pose.

    Raises
    ------
    InputError
        If a score or the threshold is not finite: it would be neither above nor below.
    """

    scores: np.ndarray
    maps: np.ndarray | None
    threshold: float | None = None
    scale: Scale | None = None
    map_threshold: float | None = None
    roi_masks: np.ndarray | None = None
    decides: str = DECIDES[0]
    region_rule: RegionRule | None = None
    transform: Transform | None = None
    sources: Sequence[Path | tuple[int, int]] | None = None
    originals: tuple[Path | np.ndarray, ...] | None = None
    poses: ImagePoses | None = None

    def __post_init__(self) -> None:
        amiss = np.flatnonzero(~np.isfinite(self.scores))
        if len(amiss):
            raise InputError(
                f"the score of {len(amiss)} of {len(self.scores)} images is {self.scores[amiss[0]]}, which is neither "
                "normal nor anomalous: the model or the image is damaged; fit the model again"
            )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise InputError(f"the threshold is {self.threshold}: expected a finite number; calibrate again")

    @staticmethod
    def from_maps(
        maps: Tensor,
        scores: Tensor | None = None,
        *,
        threshold: float | None,
        roi_masks: Tensor | None,
        scored_patches: Tensor | None = None,
        tiles: TileLayout | None = None,
    ) -> Prediction:
        """A prediction that says nothing of pixels that do not count.

        Parameters
        ----------
        maps : Tensor (N, H, W)
            Anything at pixels that do not count.
        scores : Tensor (N,), optional
            By default the maximum of each map over the pixels that count.
        threshold : float, optional
        roi_masks : Tensor (N, H, W), bool, or None
            The pixels that count; None for all.
        scored_patches : Tensor (N, h, w), bool, or None
            The patches that have a distance; None for all.
        tiles : TileLayout, optional
            The tiles of which masks and patches are mosaics.
        """
        if tiles is not None and roi_masks is not None:
            roi_masks = tiles.restore(roi_masks)
        if scored_patches is not None:
            scored_pixels = upsample_mask(scored_patches, (maps.shape[1], maps.shape[2]), tiles)
            roi_masks = scored_pixels if roi_masks is None else roi_masks & scored_pixels
        if roi_masks is not None and bool(roi_masks.all()):
            roi_masks = None
        if roi_masks is not None:
            maps = torch.where(roi_masks, maps, 0)
        if scores is None:
            scores = maps.amax((1, 2))
        masks = None if roi_masks is None else roi_masks.numpy()
        return Prediction(scores.cpu().numpy(), maps.cpu().numpy(), threshold, roi_masks=masks)

    def on_canvas(self, size: tuple[int, int]) -> Prediction:
        """The same images in the top left corner of maps of a larger size; nothing else of these is scored."""
        if self.maps is None:
            return self
        n, height, width = self.maps.shape
        maps, roi_masks = np.zeros((n, *size), dtype=np.float32), np.zeros((n, *size), dtype=bool)
        maps[:, :height, :width] = self.maps
        roi_masks[:, :height, :width] = True if self.roi_masks is None else self.roi_masks
        return replace(self, maps=maps, roi_masks=roi_masks)

    @staticmethod
    def concatenate(parts: Sequence[Prediction]) -> Prediction:
        """One prediction of all images of several, by one detector."""
        if len(parts) == 1:
            return parts[0]
        scores = np.concatenate([part.scores for part in parts])
        poses = ImagePoses.concatenate([part.poses for part in parts])
        maps = [part.maps for part in parts if part.maps is not None]
        if not maps:
            return replace(parts[0], scores=scores, poses=poses)
        roi_masks = None
        if any(part.roi_masks is not None for part in parts):
            roi_masks = np.concatenate(
                [
                    np.ones(of_part.shape, dtype=bool) if part.roi_masks is None else part.roi_masks
                    for part, of_part in zip(parts, maps, strict=True)
                ]
            )
        return replace(parts[0], scores=scores, maps=np.concatenate(maps), roi_masks=roi_masks, poses=poses)

    @staticmethod
    def gather(parts: Iterable[Prediction], images: int) -> Prediction:
        """As :meth:`concatenate`, of parts that come one after the other and have so many images.

        Where their maps would be too large for the memory allowed, they lie in a file.
        """
        parts = iter(parts)
        first = next(parts)
        if first.maps is None or not is_large(images * first.maps[0].nbytes):
            return Prediction.concatenate([first, *parts])
        maps = empty(images, *first.maps.shape[1:], dtype=torch.float32).numpy()
        roi_masks: np.ndarray | None = None
        scores: list[np.ndarray] = []
        poses: list[ImagePoses | None] = []
        start = 0
        for part in chain([first], parts):
            rows = slice(start, start + len(part))
            maps[rows] = part.maps
            if part.roi_masks is not None:
                if roi_masks is None:
                    roi_masks = empty(*maps.shape, dtype=torch.bool).numpy()
                    roi_masks[:start] = True
                roi_masks[rows] = part.roi_masks
            elif roi_masks is not None:
                roi_masks[rows] = True
            scores.append(part.scores)
            poses.append(part.poses)
            start += len(part)
            release()
        whole = replace(first, scores=np.concatenate(scores), maps=maps, roi_masks=roi_masks)
        return replace(whole, poses=ImagePoses.concatenate(poses))

    def images(self, positions: np.ndarray) -> Prediction:
        """The prediction of some images (m,), int64."""
        if np.array_equal(positions, np.arange(len(self))):
            return self
        return replace(
            self,
            scores=self.scores[positions],
            maps=None if self.maps is None else _take(self.maps, positions),
            roi_masks=None if self.roi_masks is None else _take(self.roi_masks, positions),
            sources=None if self.sources is None else [self.sources[position] for position in positions],
            originals=None if self.originals is None else tuple(self.originals[position] for position in positions),
            poses=None if self.poses is None else self.poses.images(positions),
        )

    def of(self, images: Any, transform: Transform) -> Prediction:
        """With the images, if they are files or arrays in a list."""
        originals = tuple(single_images(images))
        return replace(self, transform=transform, originals=originals if len(originals) == len(self) else None)

    @property
    def names(self) -> list[str]:
        """What each image is called: its path, or its position."""
        named: Sequence[Any] = self.originals or [None] * len(self)
        return [str(one) if isinstance(one, Path) else f"image {position}" for position, one in enumerate(named)]

    def to_frame(self) -> pd.DataFrame:
        """A table with a row for each image: ``image``, ``score`` that decides, ``threshold``, ``anomalous``.

        Where there are poses, ``turn``, ``shift_x``, ``shift_y`` and ``pose_p_value`` follow; see :class:`ImagePoses`.
        """
        import pandas as pd

        anomalous = [None] * len(self) if self.anomalous is None else self.anomalous
        scores = self.deciding_scores
        columns = {"image": self.names, "score": scores, "threshold": self.threshold, "anomalous": anomalous}
        columns |= {} if self.poses is None else self.poses.columns()
        frame: pd.DataFrame = pd.DataFrame(columns)
        return frame

    def save(self, folder: str | Path, pictures: Sequence[str] = ("overlay",)) -> None:
        """Write ``scores.csv``, and ``KIND/NAME.png`` for each kind of picture that can be drawn.

        Raises
        ------
        InputError
            If there is no such kind of picture, or the folder cannot be written to.
        """
        from padim_zoo.detectors.prediction_files import save

        save(self, Path(folder), pictures)

    def plot(self, most: int = 6) -> Figure:
        """Each image beside its map, with its name and score, as a figure of matplotlib.

        Raises
        ------
        MissingExtraError
            Without matplotlib.
        """
        from padim_zoo.detectors.prediction_files import plot

        return plot(self, most)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def anomalous(self) -> np.ndarray | None:
        """The decision of each image, bool (N,), or None without a threshold."""
        return None if self.threshold is None else self.deciding_scores > self.threshold

    @cached_property
    def deciding_scores(self) -> np.ndarray:
        """The number of each image (N,) that the threshold decides on: score, maximum of the map, or region peak."""
        pictured = self.pictured
        if self.decides == DECIDES[0] or pictured is None:
            return self.scores
        area = 1 if self.decides == "pixel" or self.region_rule is None else self.region_rule.area
        return np.array([region_peaks(one, (area,))[0] for one in pictured])

    @property
    def regions(self) -> list[list[Region]]:
        """The regions of each image, the highest first, in the image's own pixels: resize and crop are undone.

        Raises
        ------
        InputError
            If there are no maps, or no threshold, or the prediction is not one of images, but of features.
        """
        pictured = self.pictured
        if pictured is None:
            raise InputError("there are no regions: the detector scores whole images and makes no maps")
        if self.region_rule is None:
            raise InputError("there are no regions without a threshold: calibrate the detector")
        if self.transform is None or self.sources is None:
            raise InputError("there are no regions of features, whose images are not known: predict images")
        sizes = [image_size(source) if isinstance(source, Path) else source for source in self.sources]
        return [
            find_regions(one, self.region_rule, self.transform, size) for one, size in zip(pictured, sizes, strict=True)
        ]

    @property
    def scored_pixels(self) -> Sequence[np.ndarray]:
        """The scores of all pixels that were scored, one array an image; empty without maps."""
        return [] if self.maps is None else ScoredPixels(self.maps, self.roi_masks)

    @property
    def pictured(self) -> np.ndarray | None:
        """The maps for pictures: NaN where nothing was scored."""
        return self.maps if self.maps is None or self.roi_masks is None else np.where(self.roi_masks, self.maps, np.nan)

    def __repr__(self) -> str:
        maps = "no maps" if self.maps is None else f"maps of {'×'.join(map(str, self.maps.shape[1:]))}"
        threshold = "no threshold" if self.threshold is None else f"threshold {self.threshold:.4g}"
        return f"<Prediction of {number_of(len(self), 'image')}: {maps}, {threshold}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: scores, decisions and small pictures of the maps."""
        from padim_zoo.detectors.notebook_view import to_html

        return to_html(self)


def _take(images: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Some of the maps or masks of images, in a file where they would be too large for the memory allowed."""
    whole = torch.from_numpy(images)
    rows = torch.from_numpy(np.asarray(positions, dtype=np.int64))
    return build_array((len(rows), *whole.shape[1:]), whole.dtype, lambda part: whole[rows[part]]).numpy()
