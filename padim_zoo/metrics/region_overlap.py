"""How well every single region is covered, whatever its size: AUPRO and sPRO.

Bergmann et al., "Uninformed Students" (CVPR 2020, arXiv 1911.02357): at each threshold, the per-region overlap (PRO)
is the share of a region's pixels that are found, averaged over all regions of the test set. AUPRO is the area under
PRO over the false positive rate of the normal pixels, up to a limit, divided by that limit.

Bergmann et al., "Beyond Dents and Scratches" (IJCV 2022): some defects need not be covered. The saturated overlap
(sPRO) of a region is 1 as soon as its saturation area is found.

Small defects and large ones are also looked at apart, in quarters of the regions by their area.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.ranking import Ranking, detection_curve, partial_auc_terms, rank
from padim_zoo.metrics.sorted_scores import SortedScores

AUPRO_LIMIT = 0.3
"""The false positive rate up to which AUPRO counts, as nearly all publications have it."""

# Diagonal neighbors belong to one defect.
_EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Regions:
    """The R regions of a test set, and which of its P anomalous pixels belong to each.

    Attributes
    ----------
    ids : ndarray (P,), int
        The region of each anomalous pixel, numbered from 0 without gaps, in the order of the ranking.
    images : ndarray (R,), int
        The image of each region.
    saturation : ndarray (R,), float
        The share of each region's area at which it counts as covered; NaN where it has no saturation threshold.
    """

    ids: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    images: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    saturation: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each region, int (R,)."""
        return np.asarray(np.bincount(self.ids, minlength=len(self.images)))


def rank_pixels(
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    roi_masks: Sequence[np.ndarray | None] | None = None,
    saturation: Sequence[np.ndarray | None] | None = None,
) -> tuple[Ranking, Regions]:
    """Rank the anomalous pixels of a whole test set among its normal ones, and say which region each belongs to.

    Parameters
    ----------
    maps : sequence of ndarray (H, W), float
        Finite anomaly scores; larger is more anomalous.
    masks : sequence of ndarray (H, W)
        Where the defects are. Of bool, each 8-connected component is a region. Of a signed integer type, it numbers
        the regions: 0 is normal, k is region k, which may have several components and touch others.
    roi_masks : sequence of (ndarray (H, W), bool, or None), optional
        The pixels that count; None for all. The pixels of a region that lie outside are left out.
    saturation : sequence of (ndarray (K,) or None), optional
        Of each image whose mask numbers K regions, the share of its area at which each counts as covered.

    Returns
    -------
    ranking : Ranking
        Of P anomalous pixels.
    regions : Regions
    """
    anomalous, ids, images, saturated_at = [], [], [], []
    count = 0
    of_images = zip(maps, masks, roi_masks or [None] * len(masks), saturation or [None] * len(masks), strict=True)

    def normal_pixels() -> Iterator[np.ndarray]:
        """Those of one image after the other; notes the anomalous ones beside them."""
        nonlocal count
        for image, (scores, mask, inside, shares) in enumerate(of_images):
            labels = label_regions(mask)
            if inside is not None:
                scores, labels = scores[inside], labels[inside]
            anomalous_pixels = labels > 0
            yield scores[~anomalous_pixels]
            if anomalous_pixels.any():
                # Numbered without the regions that lie outside.
                numbers, of_pixels = np.unique(labels[anomalous_pixels], return_inverse=True)
                anomalous.append(scores[anomalous_pixels])
                ids.append((of_pixels.ravel() + count).astype(np.int32))
                images.append(np.full(len(numbers), image))
                own = np.full(len(numbers), math.nan) if shares is None else np.asarray(shares)[numbers - 1]
                saturated_at.append(own)
                count += len(numbers)

    normal = SortedScores.of(normal_pixels())
    ranking = rank(normal, _concatenate(anomalous, np.float32))
    regions = Regions(
        _concatenate(ids, np.int32)[ranking.order], _concatenate(images, np.int64), _concatenate(saturated_at, float)
    )
    return ranking, regions


def label_regions(mask: np.ndarray) -> np.ndarray:
    """The regions of a mask by number, int (H, W), 0 where it is normal."""
    if mask.dtype != bool:
        return mask
    if not mask.any():
        return mask.astype(np.int32)
    from scipy import ndimage  # a leaderboard need not wait for it

    return np.asarray(ndimage.label(mask, structure=_EIGHT_NEIGHBORS)[0])


def aupro(ranking: Ranking, regions: Regions, *, limit: float = AUPRO_LIMIT) -> float:
    """Normalized area under the per-region-overlap curve, exact: every threshold counts, ties and all.

    Pixels tied in score are found together; the curve starts at (0, 0), is linear between thresholds, and is
    interpolated at the limit.

    Parameters
    ----------
    ranking, regions
        As :func:`rank_pixels` gives them.
    limit : float
        The false positive rate up to which the curve counts, in (0, 1].

    Returns
    -------
    float
        In [0, 1]; NaN without normal or without anomalous pixels.

    Raises
    ------
    InputError
        If the limit is outside (0, 1].
    """
    _check_limit(limit)
    return float(region_overlaps(ranking, regions, limit).mean()) if ranking.defined else math.nan


def region_overlaps(ranking: Ranking, regions: Regions, limit: float) -> np.ndarray:
    """The normalized area under the overlap of each region, float64 (R,) in [0, 1]: AUPRO is their mean."""
    return np.asarray(np.bincount(regions.ids, weights=partial_auc_terms(ranking, limit)) / regions.areas)


def spro(ranking: Ranking, regions: Regions, *, limit: float) -> float:
    """As :func:`aupro`, with regions that count as covered at their saturation thresholds.

    Regions without one need all their pixels. With no threshold at all it is undefined, for it would be AUPRO.

    Returns
    -------
    float
        In [0, 1]; NaN without normal or anomalous pixels, or without saturation thresholds.

    Raises
    ------
    InputError
        If the limit is outside (0, 1].
    """
    _check_limit(limit)
    if not ranking.defined or np.isnan(regions.saturation).all():
        return math.nan
    areas = regions.areas
    needed = np.nan_to_num(regions.saturation, nan=1.0) * areas
    # Highest scores first within each region. Which of two tied pixels comes first does not matter: their terms agree.
    highest_first = np.lexsort((-np.arange(len(regions.ids)), regions.ids))
    starts = np.cumsum(areas) - areas
    found_before = np.empty(len(regions.ids))
    found_before[highest_first] = np.arange(len(regions.ids)) - np.repeat(starts, areas)
    weights = np.clip(needed[regions.ids] - found_before, 0, 1)
    overlaps = np.bincount(regions.ids, weights=weights * partial_auc_terms(ranking, limit)) / needed
    return float(overlaps.mean())


def pro_curve(ranking: Ranking, regions: Regions, rates: np.ndarray) -> np.ndarray:
    """Per-region overlap at some false positive rates: the curve under which :func:`aupro` is the area.

    Parameters
    ----------
    ranking, regions
        As :func:`rank_pixels` gives them, with normal and anomalous pixels.
    rates : ndarray (n,)
        False positive rates in [0, 1].

    Returns
    -------
    ndarray (n,), float64
        In [0, 1].
    """
    areas = regions.areas
    return detection_curve(ranking, rates, 1 / (areas[regions.ids] * len(areas)))


def _check_limit(limit: float) -> None:
    if not 0 < limit <= 1:
        raise InputError(f"the AUPRO limit is {limit}: expected more than 0 and at most 1")


def _concatenate(parts: list[np.ndarray], empty_type: type[np.generic] | type[float]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=empty_type)


QUARTERS = (1, 2, 3, 4)
"""From the smallest to the largest regions."""


def area_quartiles(regions: Regions) -> np.ndarray:
    """The three areas, in pixels of the maps, that part the regions into quarters: float64 (3,), NaN without regions.

    A region belongs to the first quarter whose upper area is no less than its own. So regions of one area stay
    together, and a quarter may be empty where there are few regions.
    """
    areas = regions.areas
    return np.asarray(np.quantile(areas, (0.25, 0.5, 0.75)) if len(areas) else np.full(3, math.nan))


def aupro_of_quarter(ranking: Ranking, regions: Regions, quarter: int) -> float:
    """AUPRO of the regions of a quarter (1 to 4) among all normal pixels; NaN if there are none."""
    if not ranking.defined:
        return math.nan
    return _mean_of_quarter(region_overlaps(ranking, regions, AUPRO_LIMIT), regions, quarter)


def detected_regions(ranking: Ranking, regions: Regions, threshold: float, quarter: int | None = None) -> float:
    """The share of regions that have a pixel above the threshold, of all or of a quarter; NaN if there are none."""
    if math.isnan(threshold) or not len(regions.images):
        return math.nan
    detected = np.zeros(len(regions.images))
    detected[regions.ids[ranking.anomalous > threshold]] = 1
    return float(detected.mean()) if quarter is None else _mean_of_quarter(detected, regions, quarter)


def _mean_of_quarter(values: np.ndarray, regions: Regions, quarter: int) -> float:
    """The mean of values of regions (R,) over those of a quarter."""
    members = values[np.searchsorted(area_quartiles(regions), regions.areas, side="left") + 1 == quarter]
    return float(members.mean()) if len(members) else math.nan
