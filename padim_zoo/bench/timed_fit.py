"""One pipeline, fitted and scored alone: where the costs of a run are measured, whatever it shares with others.

Detectors of a group have some of their latency in common: that part is measured once.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from padim_zoo.bench.extraction import Extraction
from padim_zoo.bench.measure import BATCH_SIZES, MEGABYTE, PeakMemory, least_seconds, milliseconds_per_image
from padim_zoo.core.moving import HOST
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.config import CALIBRATION_FOLDS
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.prediction import Prediction
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


class Extracted(NamedTuple):
    """The features of a category."""

    train: Extraction
    test: Extraction


class Predictions(NamedTuple):
    """What one fold says of the test images, and of the normal images that it holds out, if any."""

    test: Prediction
    held_out: Prediction | None


class TimedFit:
    """Fits a detector without one fold or another, predicts, and notes what that costs.

    Parameters
    ----------
    detector : Detector
    extracted : Extracted
        Its features.
    groups : ndarray (n,)
        Of the normal images. A detector whose scores need it is calibrated with each fit.
    """

    def __init__(self, detector: Detector, extracted: Extracted, groups: np.ndarray) -> None:
        self.detector = detector
        self.extracted = extracted
        self.groups = groups
        self._fit_seconds: list[float] = []
        self._model_bytes = 0
        self._peak = 0.0

    def fit(self, held_out: np.ndarray) -> None:
        """Fit on all normal images but those held out."""
        train = self.extracted.train
        rest = np.setdiff1d(np.arange(len(train.features)), held_out)
        features = train.features.images(rest) if len(held_out) else train.features
        with self._watching_memory():
            start = time.perf_counter()
            self.detector.fit_features(features)
            # Without one there are no p-values, so equal images are refused. Poses go without.
            are_p_values = getattr(self.detector, "map_values", None) is not None
            has_folds = getattr(self.detector, "scores_need_calibration", False) and len(set(self.groups[rest])) > 1
            if are_p_values or has_folds:
                self.detector.calibrate(folds=CALIBRATION_FOLDS, groups=self.groups[rest])
            self._model_bytes = self.detector.size_in_bytes()  # a detector may put its estimation off until asked
            seconds = time.perf_counter() - start
        self._fit_seconds.append(seconds + len(rest) * train.seconds_per_image)

    def normal_p_values(self) -> Prediction | None:
        """What the calibration of a fit says of its normal images, cell by cell; None where no fit is calibrated."""
        calibration = self.detector.calibration_
        if calibration is None or getattr(self.detector, "map_values", None) is None:
            return None
        return Prediction(calibration.scores, np.nan_to_num(calibration.normal_maps.of_normal))

    def predict(self, features: Features) -> Prediction:
        """Score images by their features."""
        with self._watching_memory():
            return self.detector.predict_features(features)

    def predict_fold_by_fold(self, folds: Sequence[np.ndarray]) -> Iterator[Predictions]:
        """Fit without each fold in turn, and score the test images and that fold."""
        for held_out in folds:
            self.fit(held_out)
            test = self.predict(self.extracted.test.features)
            own = self.predict(self.extracted.train.features.images(held_out)) if len(held_out) else None
            yield Predictions(test, own)

    def costs(self, images: Sequence[np.ndarray | Path], meter: LatencyMeter) -> dict[str, float]:
        """All that is measured: of the fits so far, and latency on the first test images, decoded, now."""
        features = self.extracted.test.features
        return {
            "fit_seconds": float(np.mean(self._fit_seconds)),
            **{
                f"ms_per_image_b{size}": meter.milliseconds_per_image(
                    self.detector, images, features, self._in_work_of(size)
                )
                for size in BATCH_SIZES
            },
            "model_mb": self._model_bytes / MEGABYTE,
            "peak_memory_mb": self._peak,
        }

    def _in_work_of(self, size: int) -> int:
        """How many images of a call tell its time per image: those that are in work together, where they are large."""
        at_once: int = getattr(self.detector, "images_at_once", size)
        return min(size, max(at_once, 1)) if at_once < getattr(self.detector, "batch_size", size) else size

    @contextmanager
    def _watching_memory(self) -> Iterator[None]:
        with PeakMemory() as memory:
            yield
        self._peak = max(self._peak, memory.megabytes)
