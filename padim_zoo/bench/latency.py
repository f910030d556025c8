"""Latency of the detectors of a benchmark: what several of them share is measured once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch

from padim_zoo.bench.measure import least_seconds, milliseconds_per_image
from padim_zoo.core.moving import HOST
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.detector import Detector
from padim_zoo.features.features import Features

_SHARED_SECONDS, _OWN_SECONDS = 0.3, 0.05
"""For how long the way to features, which serves many runs, and scoring alone are repeated."""


class LatencyMeter:
    """Measures detectors one after the other; one meter serves a whole benchmark.

    The way of an image to its features is the same for all detectors with one ``features_key``, and most of the time.
    So it is measured once, and the scoring of each detector is added to it. Their latencies then differ by what
    differs, and not by what else the machine did meanwhile.
    """

    def __init__(self) -> None:
        self._to_features: dict[Hashable, float] = {}

    def milliseconds_per_image(
        self, detector: Detector, images: Sequence[np.ndarray | Path], features: Features, batch_size: int
    ) -> float:
        """What :func:`~padim_zoo.bench.measure.milliseconds_per_image` says, measured in parts where they are shared.

        Parameters
        ----------
        detector : Detector
            Fitted.
        images : sequence of ndarray (H, W, 3), uint8, or Path
        features : Features
            Of these images at least, in the same order.
        batch_size : int
            Images of one call.
        """
        arrays = [image for image in images if isinstance(image, np.ndarray)]
        if len(arrays) < len(images) or not _goes_by_features(detector):
            return milliseconds_per_image(detector, images, batch_size)
        indices = np.arange(batch_size) % len(images)
        batch, some = [arrays[index] for index in indices], features.images(indices)
        shapes = tuple(image.shape for image in batch)
        key = (detector.features_key, detector.precision_, detector.runtime_, torch.get_num_threads(), shapes)
        if key not in self._to_features:
            _extract(detector, batch[:1])
            self._to_features[key] = least_seconds(lambda: _extract(detector, batch), _SHARED_SECONDS)
        detector.predict_features(some.images(slice(0, 1)))
        scoring = least_seconds(lambda: detector.predict_features(some), _OWN_SECONDS)
        return 1000 * (self._to_features[key] + scoring) / batch_size


def _goes_by_features(detector: Detector) -> bool:
    """Whether what it computes of an image is told by ``features_key``: a registration and a canvas are learned."""
    if not isinstance(detector, BackboneDetector):  # members of an ensemble that share features compute them each
        return False
    if detector.computing_device != HOST:  # features need not leave it for a prediction
        return False
    return detector.canvas is None and detector.extractor.facts.registration is None


def _extract(detector: Detector, images: Sequence[np.ndarray]) -> None:
    """Compute features as a prediction does, which takes them batch by batch and gathers none."""
    assert isinstance(detector, BackboneDetector)
    for _ in detector.extractor.features(images):
        pass
