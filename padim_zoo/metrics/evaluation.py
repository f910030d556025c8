"""All metrics of one test set, with a word on those that are undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from padim_zoo.metrics.curves import pixel_curves
from padim_zoo.metrics.metric import METRICS
from padim_zoo.metrics.per_image_overlap import AUPIMO_BOUNDS, Bounds
from padim_zoo.metrics.ranked_test_set import rank_test_set
from padim_zoo.metrics.region_overlap import area_quartiles


@dataclass(frozen=True)
class EvaluationResult:
    """What :func:`evaluate` gives.

    Attributes
    ----------
    values : dict of str to float
        Every metric of :data:`padim_zoo.metrics.METRICS` by its name; ``image_f1_threshold`` and
        ``pixel_f1_threshold``, the thresholds of the highest F1, and ``pixel_threshold``, in the unit of the scores;
        ``region_area_25``, ``_50`` and ``_75``, the quartiles of the areas of regions in pixels. NaN where undefined.
    notes : list of str
        Why a metric is undefined, and which images a metric leaves out.
    per_image : dict of str to ndarray (N,), float32
        The metrics that have a value of each image, NaN where an image has none; without those that have no value.
    curves : dict of str to ndarray (2, n), float32
        Curves of all pixels to draw, as :func:`padim_zoo.metrics.curves.pixel_curves` gives them.
    """

    values: dict[str, float]
    notes: list[str]
    per_image: dict[str, np.ndarray] = field(default_factory=dict, compare=False)
    curves: dict[str, np.ndarray] = field(default_factory=dict, compare=False)


def evaluate(
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
) -> EvaluationResult:
    """Compute every metric of the scores and maps of N test images.

    Parameters
    ----------
    labels : ndarray (N,)
        0 for normal images, 1 for anomalous ones.
    scores : ndarray (N,)
        Anomaly score of each image.
    maps : ndarray (N, H, W), optional
        Anomaly score of each pixel. Without it the pixel metrics are NaN.
    masks : sequence of N (ndarray (H, W) or None), optional
        The anomalous pixels of each image. Of bool or an unsigned type, connected pixels other than 0 are a region. Of
        a signed integer type, it numbers the regions: 0 is normal, k is region k. A normal image needs none. An
        anomalous image without one is left out of the pixel metrics; one whose mask is empty, because its defect lies
        outside the crop, say, stays in with all its pixels normal.
    roi_masks : ndarray (N, H, W), bool, optional
        The pixels that count; those outside have no part in any pixel metric.
    saturation : sequence of N (ndarray (K,) or None), optional
        Of images whose mask numbers K regions, the share of its area at which each counts as covered: sPRO needs it.
    image_threshold : float, optional
        Images that score above it are alarms. Without it, what it decides is NaN.
    pixel_threshold : float, optional
        Pixels that score above it are marked. By default that of the normal test images, which a note says.
    aupimo_bounds : tuple of float
        The false positive rates between which AUPIMO counts.

    Raises
    ------
    InputError
        If shapes disagree, labels are not 0 and 1, a score is NaN or infinite, or a normal image has a defect.
    """
    test_set = rank_test_set(
        labels,
        scores,
        maps,
        masks,
        roi_masks=roi_masks,
        saturation=saturation,
        image_threshold=image_threshold,
        pixel_threshold=pixel_threshold,
        aupimo_bounds=aupimo_bounds,
    )
    values = {metric.name: metric.compute(test_set) for metric in METRICS.values()}
    values["image_f1_threshold"] = test_set.best_f1_of_images[1]
    values["pixel_f1_threshold"] = test_set.best_f1_of_pixels[1]
    values["pixel_threshold"] = test_set.pixel_threshold
    quartiles = area_quartiles(test_set.regions)
    values |= {f"region_area_{percent}": float(area) for percent, area in zip((25, 50, 75), quartiles, strict=True)}
    per_image = {
        metric.name: metric.per_image(test_set).astype(np.float32)
        for metric in METRICS.values()
        if metric.per_image is not None and not math.isnan(values[metric.name])
    }
    return EvaluationResult(values, test_set.notes, per_image, pixel_curves(test_set))


def evaluate_decisions(labels: np.ndarray, scores: np.ndarray, image_threshold: float) -> dict[str, float]:
    """The metrics that the image threshold decides, by name, where it is known only after all else."""
    test_set = rank_test_set(labels, scores, image_threshold=image_threshold)
    return {
        metric.name: metric.compute(test_set) for metric in METRICS.values() if metric.decided_by == "image threshold"
    }
