"""All metrics of one test set, with a word on those that are undefined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from padim_zoo.metrics.curves import pixel_curves
from padim_zoo.metrics.metric import METRICS
from padim_zoo.metrics.ranked_test_set import rank_test_set


@dataclass(frozen=True)
class EvaluationResult:
    """What :func:`evaluate` gives.

    Attributes
    ----------
    values : dict of str to float
        Every metric of :data:`padim_zoo.metrics.METRICS` by its name; ``image_f1_threshold`` and
        ``pixel_f1_threshold``, the thresholds of the highest F1, in the unit of the scores. NaN where undefined.
    notes : list of str
        Why a metric is undefined, and which images a metric leaves out.
    curves : dict of str to ndarray (2, n), float32
        Curves of all pixels to draw, as :func:`padim_zoo.metrics.curves.pixel_curves` gives them.
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
    """Compute every metric of the scores and maps of N test images.

    Parameters
    ----------
    labels : ndarray (N,)
        0 for normal images, 1 for anomalous ones.
    scores : ndarray (N,)
        Anomaly score of each image.
    maps : ndarray (N, H, W), optional
        Anomaly score of each pixel. Without it the pixel metrics are NaN.
    masks : sequence of N (bool ndarray (H, W) or None), optional
        The anomalous pixels of each image. A normal image needs none. An anomalous image without one is left out of
        the pixel metrics; one whose mask is empty, because its defect lies outside the crop, say, stays in with all
        its pixels normal.
    aupro_limit : float
        The false positive rate up to which AUPRO counts.
    roi_masks : ndarray (N, H, W), bool, optional
        The pixels that count; those outside have no part in any pixel metric.

    Raises
    ------
    InputError
        If shapes disagree, labels are not 0 and 1, a score is NaN or infinite, or a normal image has a defect.
    """
    test_set = rank_test_set(labels, scores, maps, masks, aupro_limit=aupro_limit, roi_masks=roi_masks)
    values = {metric.name: metric.compute(test_set) for metric in METRICS.values()}
    values["image_f1_threshold"] = test_set.best_f1_of_images[1]
    values["pixel_f1_threshold"] = test_set.best_f1_of_pixels[1]
    return EvaluationResult(values, test_set.notes, pixel_curves(test_set))
