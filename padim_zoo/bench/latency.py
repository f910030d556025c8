"""Latency of the detectors of a benchmark: what several of them share is measured once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from padim_zoo.bench.measure import least_seconds, milliseconds_per_image
from padim_zoo.detectors.detector import Detector
from padim_zoo.features.features import Features

_SCORING_SECONDS = 0.05
"""For how long scoring alone is repeated: the test images were just scored, so that the first call is warm."""


class LatencyMeter:
    """Measures detectors one after the other; one meter serves a whole benchmark.

    The way of an image to its features is the same for all detectors with one ``features_key``, and most of the time.
    So of the first of them the whole way is measured, and scoring alone; of the others scoring alone, to which the
    difference is added. Their latencies then differ by what differs, and not by what else the machine did meanwhile.
    """

    def __init__(self) -> None:
        self._to_features: dict[Hashable, float] = {}

    def milliseconds_per_image(
        self, detector: Detector, images: Sequence[np.ndarray | Path], features: Features, batch_size: int
    ) -> float:
        """What :func:`~padim_zoo.bench.measure.milliseconds_per_image` says, measured in parts.

        Parameters
        ----------
        detector : Detector
            Fitted.
        images : sequence of ndarray (H, W, 3), uint8, or Path
            Of files, whose decoding takes time too, nothing is shared.
        features : Features
            Of these images at least, in the same order.
        batch_size : int
            Images of one call.
        """
        shapes = tuple(image.shape for image in images if isinstance(image, np.ndarray))
        if len(shapes) < len(images):
            return milliseconds_per_image(detector, images, batch_size)
        key = (detector.features_key, detector.precision_, detector.runtime_, shapes, batch_size)
        some = features.images(np.arange(batch_size) % len(images))
        scoring = 1000 * least_seconds(lambda: detector.predict_features(some), _SCORING_SECONDS, 1) / batch_size
        if key in self._to_features:
            return self._to_features[key] + scoring
        whole = milliseconds_per_image(detector, images, batch_size)
        self._to_features[key] = max(0.0, whole - scoring)
        return whole
