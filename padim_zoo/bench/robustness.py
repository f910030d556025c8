"""Corrupted test images at one frozen threshold: what a fit that knew nothing of the corruption makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from padim_zoo.bench.extraction import extract
from padim_zoo.cache.caches import Caches
from padim_zoo.data.corruptions import Corruption
from padim_zoo.data.sample import Sample
from padim_zoo.detectors.detector import Detector
from padim_zoo.metrics.metric import DEFAULT_METRIC, METRICS
from padim_zoo.metrics.ranked_test_set import rank_test_set

NEEDS_THRESHOLD = "no threshold to hold against corrupted images: give --folds 2 or more"
"""The note of a run that was asked for corruptions and has no threshold."""


class FrozenFit(NamedTuple):
    """Scores (N,) by one fitted detector: of the test images, and of the same images under each corruption."""

    clean: np.ndarray
    corrupted: Mapping[Corruption, np.ndarray]

    @classmethod
    def of(
        cls,
        detector: Detector,
        clean: np.ndarray,
        samples: Sequence[Sample],
        corruptions: Sequence[Corruption],
        caches: Caches,
        batch_size: int,
    ) -> FrozenFit:
        """Score corrupted test images by a detector as it was fitted.

        Parameters
        ----------
        detector : Detector
        clean : ndarray (N,)
            Its scores of the images as they are.
        samples : sequence of N Sample
        corruptions : sequence of Corruption
        caches : Caches
            Where resized images and features are kept.
        batch_size : int
        """
        detector.cache = Caches(caches.images)
        try:
            features = (
                (corruption, extract(detector, samples, caches.features, batch_size, corruption=corruption).features)
                for corruption in corruptions
            )
            return cls(clean, {corruption: detector.score_features(part) for corruption, part in features})
        finally:
            detector.cache = False

    def rates(self, labels: np.ndarray, threshold: float) -> list[dict[str, Any]]:
        """Detections and false alarms at a threshold: of the clean images first, then of each corruption.

        Parameters
        ----------
        labels : ndarray (N,)
        threshold : float
            That of the run, from normal images as they are.

        Returns
        -------
        list of dict
            ``corruption``, ``amount``; ``false_alarms`` and ``detections``, shares of the test images; and the metric
            that needs no threshold, image AUROC. The first has no corruption.
        """

        def row(name: str | None, amount: float | None, scores: np.ndarray) -> dict[str, Any]:
            called = scores > threshold
            rates = {"false_alarms": share(called[labels == 0]), "detections": share(called[labels == 1])}
            ranked = METRICS[DEFAULT_METRIC].compute(rank_test_set(labels, scores))
            return {"corruption": name, "amount": amount, **rates, DEFAULT_METRIC: ranked}

        corrupted = (row(one.name, one.amount, scores) for one, scores in self.corrupted.items())
        return [row(None, None, self.clean), *corrupted]


def worst_rates(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The most false alarms and the fewest detections of any corruption."""
    corrupted = [row for row in rows if row["corruption"] is not None]
    return {
        "worst_false_alarms": max(row["false_alarms"] for row in corrupted),
        "worst_detections": min(row["detections"] for row in corrupted),
    }


def share(decisions: np.ndarray) -> float:
    """The share that is true; NaN of none."""
    return float(decisions.mean()) if decisions.size else math.nan
