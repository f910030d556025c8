"""Figures of the benchmark as scorers for scikit-learn's model selection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from padim_zoo.core.errors import InputError
from padim_zoo.data.loading import masks
from padim_zoo.data.sample import Sample
from padim_zoo.detectors.scikit_learn import ANOMALOUS, labels_of
from padim_zoo.metrics import evaluate

FIGURES = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "pixel_f1", "aupro")


@dataclass(frozen=True)
class Scorer:
    """One figure of the benchmark, as ``cross_val_score(…, scoring=Scorer("image_auroc"))`` wants it.

    Larger is better, whatever the sign of scores: it takes anomaly scores from ``predict`` and needs no threshold.

    Parameters
    ----------
    figure : str
        ``"image_auroc"``, ``"image_ap"``, ``"image_f1"``, and, for images that are
        :class:`~padim_zoo.data.sample.Sample` objects and so know their masks, ``"pixel_auroc"``, ``"pixel_ap"``,
        ``"pixel_f1"`` and ``"aupro"``.

    Raises
    ------
    InputError
        If there is no such figure.
    """

    figure: str = "image_auroc"

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            raise InputError(f"there is no figure {self.figure!r}: expected {', '.join(FIGURES)}")

    def __call__(self, detector: Any, images: Any, y: Any = None) -> float:
        """The figure of a fitted detector, or of a pipeline that ends in one.

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
            If labels or masks are not known, or the figure is undefined, as AUROC is of normal images only.
        """
        labels = labels_of(images, y)
        if labels is None:
            raise InputError(f"{self.figure} needs labels: give y (1 normal, -1 anomalous), or images that are Samples")
        prediction = detector.predict(images)
        maps = truth = None
        if not self.figure.startswith("image"):
            if not isinstance(images, Sequence) or not all(isinstance(image, Sample) for image in images):
                raise InputError(f"{self.figure} needs masks: give images that are Samples, as datasets load them")
            last = detector.steps[-1][1] if hasattr(detector, "steps") else detector
            maps, truth = prediction.maps, masks(images, last.transform)
        figures = evaluate((labels == ANOMALOUS).astype(int), prediction.scores, maps, truth)
        value = figures.values[self.figure]
        if math.isnan(value):
            raise InputError(f"{self.figure} is undefined: {'; '.join(figures.notes)}")
        return value
