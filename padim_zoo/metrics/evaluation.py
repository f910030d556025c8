"""All figures of one test set, with a word on those that are undefined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.checks import check_labels, check_maps, check_scores
from padim_zoo.metrics.ranking import (
    Ranking,
    auroc,
    average_precision,
    detection_curve,
    f1_max,
    precision_curve,
    rank,
)
from padim_zoo.metrics.region_overlap import aupro, pro_curve, rank_pixels

_POINTS = 101
"""Points of a curve to draw."""


@dataclass(frozen=True)
class EvaluationResult:
    """What :func:`evaluate` gives.

    Attributes
    ----------
    values : dict of str to float
        ``image_auroc``, ``image_ap``, ``image_f1``, ``pixel_auroc``, ``pixel_ap``, ``pixel_f1`` and ``aupro``, all in
        [0, 1]; ``image_f1_threshold`` and ``pixel_f1_threshold``, in the unit of the scores. NaN where undefined.
    notes : list of str
        Why a figure is undefined, and which images a figure leaves out.
    curves : dict of str to ndarray (2, 101), float32
        Curves of all pixels to draw, abscissas over ordinates: ``pixel_roc``, false and true positive rates; ``pro``,
        false positive rates up to the limit of AUPRO and per-region overlap; ``pixel_pr``, recall and precision.
        The abscissas are the same for all test sets, so that curves can be averaged. None where they are undefined.
    """

    values: dict[str, float]
    notes: list[str]
    curves: dict[str, np.ndarray] = field(default_factory=dict, compare=False)


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    maps: np.ndarray | None = None,
    masks: Sequence[np.ndarray | None] | None = None,
    *,
    aupro_limit: float = 0.3,
    roi_masks: np.ndarray | None = None,
) -> EvaluationResult:
    """Judge the scores and maps of N test images.

    Parameters
    ----------
    labels : ndarray (N,)
        0 for normal images, 1 for anomalous ones.
    scores : ndarray (N,)
        Anomaly score of each image.
    maps : ndarray (N, H, W), optional
        Anomaly score of each pixel. Without it the pixel figures are NaN.
    masks : sequence of N (bool ndarray (H, W) or None), optional
        The anomalous pixels of each image. A normal image needs none. An anomalous image without one is left out of
        the pixel figures; one whose mask is empty, because its defect lies outside the crop, say, stays in with all
        its pixels normal.
    aupro_limit : float
        The false positive rate up to which AUPRO counts.
    roi_masks : ndarray (N, H, W), bool, optional
        The pixels that count; those outside have no part in any pixel figure.

    Raises
    ------
    InputError
        If shapes disagree, labels are not 0 and 1, a score is NaN or infinite, or a normal image has a defect.
    """
    labels = check_labels(labels)
    scores = check_scores(scores, len(labels))
    images = rank(scores[~labels], scores[labels])
    notes = _undefined("image", images)
    if maps is None:
        notes.append("the pixel figures are undefined: there are no anomaly maps")
        pixels, region_ids = rank_pixels([], [])
    else:
        maps = check_maps(maps, len(labels))
        known, truth = _pixel_truth(labels, masks, maps.shape[1:], notes)
        inside = _pixels_that_count(roi_masks, maps.shape, labels, masks, notes)
        pixels, region_ids = rank_pixels(
            [maps[image] for image in known], truth, None if inside is None else [inside[image] for image in known]
        )
        notes += _undefined("pixel", pixels)
    values = {
        **_ranking_figures("image", images),
        **_ranking_figures("pixel", pixels),
        "aupro": aupro(pixels, region_ids, limit=aupro_limit),
    }
    return EvaluationResult(values, notes, _curves(pixels, region_ids, aupro_limit))


def _curves(pixels: Ranking, region_ids: np.ndarray, limit: float) -> dict[str, np.ndarray]:
    if not pixels.defined:
        return {}
    # Curves over a false positive rate rise early: half of the points lie in the first quarter.
    rates = np.linspace(0, 1, _POINTS) ** 2
    recalls = np.linspace(0, 1, _POINTS)
    found = {
        "pixel_roc": (rates, detection_curve(pixels, rates)),
        "pro": (limit * rates, pro_curve(pixels, region_ids, limit * rates)),
        "pixel_pr": (recalls, precision_curve(pixels, recalls)),
    }
    return {name: np.stack(curve).astype(np.float32) for name, curve in found.items()}


def _pixels_that_count(
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
    labels: np.ndarray,
    masks: Sequence[np.ndarray | None] | None,
    size: tuple[int, ...],
    notes: list[str],
) -> tuple[list[int], list[np.ndarray]]:
    """The images whose anomalous pixels are known, and their masks; adds to the notes."""
    given = [None] * len(labels) if masks is None else list(masks)
    if len(given) != len(labels):
        raise InputError(f"{len(given)} masks do not fit {len(labels)} labels: expected one mask or None per image")
    kept: list[int] = []
    truth: list[np.ndarray] = []
    unknown = empty = 0
    for image, (anomalous, mask) in enumerate(zip(labels, given, strict=True)):
        if mask is None and anomalous:
            unknown += 1
            continue
        mask = np.zeros(size, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if mask.shape != size:
            raise InputError(f"the mask of image {image} has shape {mask.shape}: expected {size}, that of its map")
        if mask.any() != anomalous:
            if not anomalous:
                raise InputError(f"image {image} is labeled normal but its mask marks {mask.sum()} anomalous pixels")
            empty += 1
        kept.append(image)
        truth.append(mask)
    total = int(labels.sum())
    if unknown:
        notes.append(f"{unknown} of {total} anomalous images have no mask and are left out of the pixel figures")
    if empty:
        notes.append(f"the masks of {empty} of {total} anomalous images are empty: all their pixels count as normal")
    return kept, truth


def _ranking_figures(level: str, ranking: Ranking) -> dict[str, float]:
    f1, threshold = f1_max(ranking)
    return {
        f"{level}_auroc": auroc(ranking),
        f"{level}_ap": average_precision(ranking),
        f"{level}_f1": f1,
        f"{level}_f1_threshold": threshold,
    }


def _undefined(level: str, ranking: Ranking) -> list[str]:
    absent = [
        kind for kind, scores in (("normal", ranking.normal), ("anomalous", ranking.anomalous)) if not len(scores)
    ]
    return [f"the {level} figures are undefined: no {kind} {level}" for kind in absent]
