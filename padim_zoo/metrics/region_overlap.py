"""AUPRO: how well every single defect is covered, whatever its size.

Bergmann et al., "Uninformed Students" (CVPR 2020, arXiv 1911.02357): at each threshold, the per-region overlap (PRO)
is the share of a defect's pixels that are found, averaged over all defects of the test set. AUPRO is the area under
PRO over the false positive rate of the normal pixels, up to a limit (0.3 as a rule), divided by that limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.ranking import Ranking, detection_curve, partial_auc_terms, rank

# Diagonal neighbors belong to one defect.
_EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)


def rank_pixels(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], roi_masks: Sequence[np.ndarray | None] | None = None
) -> tuple[Ranking, np.ndarray]:
    """Rank the anomalous pixels of a whole test set among its normal ones, and say which defect each belongs to.

    Parameters
    ----------
    maps : sequence of ndarray (H, W), float
        Finite anomaly scores; larger is more anomalous.
    masks : sequence of ndarray (H, W), bool
        Where the defects are.
    roi_masks : sequence of (ndarray (H, W), bool, or None), optional
        The pixels that count; None for all. A defect is what is connected in the mask, of which the pixels outside are
        left out.

    Returns
    -------
    ranking : Ranking
        Of P anomalous pixels.
    region_ids : ndarray (P,), int
        The defect (8-connected component of a mask, numbered from 0) of each pixel, in the ranking's order.
    """
    normal, anomalous, region_ids = [], [], []
    regions = 0
    for scores, mask, inside in zip(maps, masks, roi_masks or [None] * len(masks), strict=True):
        components = _label(mask)
        if inside is not None:
            scores, components = scores[inside], components[inside]
        normal.append(scores[components == 0])
        if components.any():
            # Numbered without the defects that lie outside.
            numbers = np.unique(components[components > 0], return_inverse=True)[1].ravel()
            anomalous.append(scores[components > 0])
            region_ids.append((numbers + regions).astype(np.int32))
            regions += int(numbers.max()) + 1
    ranking = rank(_concatenate(normal, np.float32), _concatenate(anomalous, np.float32))
    return ranking, _concatenate(region_ids, np.int32)[ranking.order]


def aupro(ranking: Ranking, region_ids: np.ndarray, *, limit: float = 0.3) -> float:
    """Normalized area under the per-region-overlap curve, exact: every threshold counts, ties and all.

    Pixels tied in score are found together; the curve starts at (0, 0), is linear between thresholds, and is
    interpolated at the limit.

    Parameters
    ----------
    ranking : Ranking
        Of P anomalous pixels among the normal pixels of all images.
    region_ids : ndarray (P,), int
        The defect of each anomalous pixel, numbered from 0 without gaps, in the ranking's order.
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
    if not 0 < limit <= 1:
        raise InputError(f"the AUPRO limit {limit} is no false positive rate: expected more than 0 and at most 1")
    if not ranking.defined:
        return math.nan
    overlaps = np.bincount(region_ids, weights=partial_auc_terms(ranking, limit))
    return float((overlaps / np.bincount(region_ids)).mean())


def pro_curve(ranking: Ranking, region_ids: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Per-region overlap at some false positive rates: the curve under which :func:`aupro` is the area.

    Parameters
    ----------
    ranking, region_ids
        As :func:`rank_pixels` gives them, with normal and anomalous pixels.
    rates : ndarray (n,)
        False positive rates in [0, 1].

    Returns
    -------
    ndarray (n,), float64
        In [0, 1].
    """
    sizes = np.bincount(region_ids)
    return detection_curve(ranking, rates, 1 / (sizes[region_ids] * len(sizes)))


def _label(mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return mask.astype(np.int32)
    from scipy import ndimage  # a leaderboard need not wait for it

    components: np.ndarray = ndimage.label(mask, structure=_EIGHT_NEIGHBORS)[0]
    return components


def _concatenate(parts: list[np.ndarray], empty_type: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=empty_type)
