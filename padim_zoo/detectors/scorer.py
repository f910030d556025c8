"""Metrics of the benchmark as scorers for scikit-learn's model selection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from padim_zoo.core.errors import InputError
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.sample import Sample
from padim_zoo.detectors.scikit_learn import ANOMALOUS, labels_of
from padim_zoo.metrics import METRICS, evaluate
from padim_zoo.metrics.metric import DEFAULT_METRIC


@dataclass(frozen=True)
class Scorer:
    """One metric of the benchmark, as ``cross_val_score(…, scoring=Scorer())`` wants it.

    Larger is better, whatever the sign of scores: it takes anomaly scores from ``predict`` and needs no threshold. A
    metric of which less is better is negated.

    Parameters
    ----------
    metric : str
        A name of :data:`padim_zoo.metrics.METRICS`. One of pixels or regions needs images that are
        :class:`~padim_zoo.data.sample.Sample` objects, which know their masks.

    Raises
    ------
    InputError
        If there is no such metric.
    """

    metric: str = DEFAULT_METRIC

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InputError(f"unknown metric {self.metric!r}: expected {', '.join(METRICS)}")

    def __call__(self, detector: Any, images: Any, y: Any = None) -> float:
        """The metric of a fitted detector, or of a pipeline that ends in one.

        Parameters
        ----------
        detector : Detector or Pipeline
        images
            Anything that it predicts.
        y : array-like (N,), optional
            1 for normal images, -1 for anomalous ones; samples know it themselves.

        Raises
        ------
        InputError
            If labels or masks are not known, or the metric is undefined, as AUROC is of normal images only.
        """
        labels = labels_of(images, y)
        if labels is None:
            raise InputError(f"{self.metric} needs labels: give y (1 normal, -1 anomalous), or images that are Samples")
        prediction = detector.predict(images)
        maps = truth = None
        if METRICS[self.metric].needs_masks:
            if not isinstance(images, Sequence) or not all(isinstance(image, Sample) for image in images):
                raise InputError(f"{self.metric} needs masks: give images that are Samples, as datasets load them")
            last = detector.steps[-1][1] if hasattr(detector, "steps") else detector
            maps = prediction.maps
            truth = masks(images, last.transform, canvas=None if maps is None else maps.shape[1:])
        anomalous, roi_masks = (labels == ANOMALOUS).astype(int), None if maps is None else prediction.roi_masks
        result = evaluate(anomalous, prediction.scores, maps, truth, roi_masks=roi_masks)
        value = result.values[self.metric]
        if math.isnan(value):
            raise InputError(f"{self.metric} is undefined: {'; '.join(result.notes)}")
        return METRICS[self.metric].sign * value
