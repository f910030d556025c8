"""One pipeline, fitted and scored alone: where the costs of a run are measured, whatever it shares with others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from padim_zoo.bench.extraction import Extraction
from padim_zoo.bench.latency import LatencyMeter
from padim_zoo.bench.measure import BATCH_SIZES, MEGABYTE, PeakMemory
from padim_zoo.detectors.config import CALIBRATION_FOLDS
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.features.features import Features


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
        Of the normal images. A detector whose maps are p-values is calibrated with each fit.
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
            if getattr(self.detector, "map_values", None) is not None:
                self.detector.calibrate(folds=CALIBRATION_FOLDS, groups=self.groups[rest])
            self._model_bytes = self.detector.size_in_bytes()  # a detector may put its estimation off until asked
            seconds = time.perf_counter() - start
        self._fit_seconds.append(seconds + len(rest) * train.seconds_per_image)

    def normal_p_values(self) -> Prediction | None:
        """What the calibration of a fit says of its normal images, cell by cell; None where no fit is calibrated."""
        calibration = self.detector.calibration_
        if calibration is None:
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
