"""A labeled test set as metrics see it: its anomalous images and pixels, ranked among the normal ones."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.checks import check_labels, check_maps, check_scores
from padim_zoo.metrics.doubts import order_doubt
from padim_zoo.metrics.per_image_overlap import AUPIMO_BOUNDS, Bounds, NormalTail, aupimo_of_images
from padim_zoo.metrics.ranking import Ranking, f1_max, rank
from padim_zoo.metrics.region_overlap import Regions, rank_pixels
from padim_zoo.metrics.scored_pixels import ScoredPixels
from padim_zoo.metrics.thresholds import pixel_threshold as threshold_of_pixels

UNDEFINED = " is undefined: "
"""Between the title of a metric and the reason, in a note."""

_NO_PIXELS, _NO_REGIONS = rank_pixels([], [])


@dataclass(frozen=True)
class RankedTestSet:
    """All that a metric is computed from.

    Attributes
    ----------
    images : Ranking
        The anomalous images among the normal ones.
    pixels : Ranking
        The anomalous pixels of all images among the normal ones; empty without maps or masks.
    regions : Regions
        The regions of the anomalous pixels, which know their image.
    tail : NormalTail
        The highest scores among the pixels of normal images.
    image_count : int
        N, the images of the test set.
    image_threshold : float
        Images that score above it are alarms; NaN where there is none.
    pixel_threshold : float
        Pixels that score above it are marked; NaN where there is none.
    notes : list of str
        What is undefined, and which images the pixels leave out.
    """

    images: Ranking
    pixels: Ranking = _NO_PIXELS
    regions: Regions = _NO_REGIONS
    tail: NormalTail = field(default_factory=lambda: NormalTail.of([]))
    image_count: int = 0
    image_threshold: float = math.nan
    pixel_threshold: float = math.nan
    notes: list[str] = field(default_factory=list)

    @cached_property
    def best_f1_of_images(self) -> tuple[float, float]:
        """The highest F1 of all thresholds on image scores, and that threshold."""
        return f1_max(self.images)

    @cached_property
    def best_f1_of_pixels(self) -> tuple[float, float]:
        """The highest F1 of all thresholds on maps, and that threshold."""
        return f1_max(self.pixels)

    @cached_property
    def aupimo_of_images(self) -> np.ndarray:
        """AUPIMO of each image (N,), NaN where it is undefined."""
        return aupimo_of_images(self.pixels, self.regions, self.tail, self.image_count)


def rank_test_set(
    labels: np.ndarray,
    scores: np.ndarray,
    maps: np.ndarray | None = None,
    masks: Sequence[np.ndarray | None] | None = None,
    *,
    roi_masks: np.ndarray | None = None,
    saturation: Sequence[np.ndarray | None] | None = None,
    image_threshold: float | None = None,
    pixel_threshold: float | None = None,
    aupimo_bounds: Bounds = AUPIMO_BOUNDS,
) -> RankedTestSet:
    """Check and rank the scores and maps of N test images; parameters as of :func:`padim_zoo.metrics.evaluate`.

    Raises
    ------
    InputError
        If shapes disagree, labels are not 0 and 1, a score is NaN or infinite, or a normal image has a defect.
    """
    labels = check_labels(labels)
    scores = check_scores(scores, len(labels))
    images = rank(scores[~labels], scores[labels])
    notes = [*_undefined("image", images), *filter(None, [order_doubt(scores[~labels], scores[labels])])]
    of_images = math.nan if image_threshold is None else image_threshold
    if maps is None:
        notes.append("the pixel metrics are undefined: there are no anomaly maps")
        return RankedTestSet(images, image_count=len(labels), image_threshold=of_images, notes=notes)
    maps = check_maps(maps, len(labels))
    truth = _pixel_truth(labels, masks, maps.shape[1:], notes)
    roi_masks = _check_roi_masks(roi_masks, maps.shape, labels, masks, notes)
    inside = None if roi_masks is None else [roi_masks[image] for image in truth]
    shares = None if saturation is None else [saturation[image] for image in truth]
    pixels, regions = rank_pixels([maps[image] for image in truth], list(truth.values()), inside, shares)
    regions = replace(regions, images=np.fromiter(truth, dtype=np.int64, count=len(truth))[regions.images])
    notes += _undefined("pixel", pixels)
    of_normal = ScoredPixels(maps, roi_masks, np.flatnonzero(~labels))
    tail = NormalTail.of(of_normal, aupimo_bounds)
    of_pixels = math.nan if pixel_threshold is None else pixel_threshold
    if pixels.defined:
        if tail.sufficient and aupimo_bounds != AUPIMO_BOUNDS:
            notes.append("AUPIMO is over false positive rates from {:g} to {:g}".format(*aupimo_bounds))
        if not tail.sufficient:
            notes.append(
                f"AUPIMO{UNDEFINED}normal test images have {tail.count:,} pixels, "
                f"and a false positive rate of {aupimo_bounds[0]:g} takes {tail.least_count:,}"
            )
        if pixel_threshold is None and len(of_normal):
            of_pixels = threshold_of_pixels(of_normal)
            notes.append("no normal image was held out: the pixel threshold is that of the normal test images")
    return RankedTestSet(images, pixels, regions, tail, len(labels), of_images, of_pixels, notes)


def _check_roi_masks(
    roi_masks: np.ndarray | None,
    shape: tuple[int, ...],
    labels: np.ndarray,
    masks: Sequence[np.ndarray | None] | None,
    notes: list[str],
) -> np.ndarray | None:
    """The pixels that count, checked; adds to the notes."""
    if roi_masks is None:
        return None
    roi_masks = np.asarray(roi_masks, dtype=bool)
    if roi_masks.shape != shape:
        raise InputError(f"the pixels that count have shape {roi_masks.shape}: expected {shape}, that of the maps")
    outside = sum(
        mask is not None and bool(np.any(mask)) and not (np.asarray(mask, dtype=bool) & inside).any()
        for mask, inside in zip(masks or [], roi_masks, strict=False)
    )
    if outside:
        notes.append(
            f"the defects of {outside} of {int(labels.sum())} anomalous images lie outside the region of interest: "
            "all their pixels in it count as normal, and the images as anomalous"
        )
    return roi_masks


def _pixel_truth(
    labels: np.ndarray, masks: Sequence[np.ndarray | None] | None, size: tuple[int, ...], notes: list[str]
) -> dict[int, np.ndarray]:
    """The masks of the images whose anomalous pixels are known, by number; adds to the notes."""
    masks = [None] * len(labels) if masks is None else list(masks)
    if len(masks) != len(labels):
        raise InputError(f"{len(masks)} masks do not fit {len(labels)} labels: expected one mask or None per image")
    truth: dict[int, np.ndarray] = {}
    empty, nothing = 0, np.zeros(size, dtype=bool)
    for image, (anomalous, mask) in enumerate(zip(labels, masks, strict=True)):
        if mask is None and anomalous:
            continue
        mask = nothing if mask is None else _bool_or_labels(mask, image)
        if mask.shape != size:
            raise InputError(f"the mask of image {image} has shape {mask.shape}: expected {size}, that of its map")
        if mask.any() != anomalous:
            if not anomalous:
                raise InputError(f"image {image} is labeled normal, and its mask marks {(mask != 0).sum()} pixels")
            empty += 1
        truth[image] = mask
    total, unknown = int(labels.sum()), len(labels) - len(truth)
    if unknown:
        notes.append(f"{unknown} of {total} anomalous images have no mask and are left out of the pixel metrics")
    if empty:
        notes.append(f"the masks of {empty} of {total} anomalous images are empty: all their pixels count as normal")
    return truth


def _bool_or_labels(mask: np.ndarray, image: int) -> np.ndarray:
    """A mask as bool; one of a signed integer type as it is, for it numbers the regions."""
    mask = np.asarray(mask)
    if not np.issubdtype(mask.dtype, np.signedinteger):
        return mask.astype(bool, copy=False)
    if mask.size and mask.min() < 0:
        raise InputError(f"the mask of image {image} has the region {mask.min()}: expected 0 (normal) or 1, 2, …")
    return mask


def _undefined(level: str, ranking: Ranking) -> list[str]:
    scores: dict[str, Sized] = {"normal": ranking.normal, "anomalous": ranking.anomalous}
    return [f"the {level} metrics are undefined: no {kind} {level}" for kind in scores if not len(scores[kind])]
