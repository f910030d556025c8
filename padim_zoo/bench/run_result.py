"""What a run finds, fold by fold, and the ground truth that it is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from padim_zoo.bench.robustness import NEEDS_THRESHOLD, FrozenFit, share, worst_rates
from padim_zoo.bench.suite import Suite
from padim_zoo.core.errors import InputError
from padim_zoo.data.coverage import Coverage, coverage
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.sample import Category
from padim_zoo.data.saturation import saturation_shares
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import usual_rate
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.metrics.doubts import promise_doubt
from padim_zoo.metrics.evaluation import evaluate, evaluate_decisions
from padim_zoo.metrics.metric import confidence_intervals, per_image_array
from padim_zoo.metrics.per_image_overlap import AUPIMO_BOUNDS, Bounds
from padim_zoo.metrics.thresholds import pixel_threshold


@dataclass(frozen=True)
class GroundTruth:
    """What is known of the test images: labels (N,); masks and saturation in the size of the maps; what that leaves."""

    labels: np.ndarray
    masks: list[np.ndarray | None]
    saturation: list[np.ndarray | None] | None
    coverage: Coverage

    @classmethod
    def of(cls, category: Category, transform: Transform, suite: Suite, canvas: tuple[int, int] | None) -> GroundTruth:
        """Read the ground truth of a category, as a suite wants masks to be read.

        ``canvas`` is the size of maps of images of several sizes.
        """
        labels = np.array([sample.label for sample in category.test], dtype=np.uint8)
        orientation = suite.mask_orientation
        truth = masks(category.test, transform, rule=suite.mask_resize, orientation=orientation, canvas=canvas)
        seen = coverage(transform, category.test, orientation=orientation)
        return cls(labels, truth, saturation_shares(category.test, truth), seen)


@dataclass
class RunResult:
    """What a run finds, fold by fold."""

    precision: str | None = None
    runtime: str | None = None
    n_train: int | None = None
    n_test: int | None = None
    cached_images: int = 0
    coverage: dict[str, Any] = field(default_factory=dict)
    folds: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interval: dict[str, float] = field(default_factory=dict)
    threshold: dict[str, float] = field(default_factory=dict)
    corruptions: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    runtimes: tuple[str, ...] = ()
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    gallery: dict[str, np.ndarray] | None = None
    _curves: list[dict[str, np.ndarray]] = field(default_factory=list)
    _per_image: list[dict[str, np.ndarray]] = field(default_factory=list)

    def recorded(self) -> dict[str, Any]:
        """What a run document holds: everything but arrays."""
        arrays = ("scores", "gallery", "_curves", "_per_image")
        return {name: value for name, value in vars(self).items() if name not in arrays}

    def judge(
        self, truth: GroundTruth, prediction: Prediction, held_out: Prediction | None, aupimo_bounds: Bounds | None
    ) -> None:
        """Add the metrics of one fold; the normal images that it holds out, if any, set the pixel threshold."""
        result = evaluate(
            truth.labels,
            prediction.scores,
            prediction.maps,
            truth.masks,
            roi_masks=prediction.roi_masks,
            saturation=truth.saturation,
            pixel_threshold=None if held_out is None else pixel_threshold(held_out.scored_pixels),
            aupimo_bounds=aupimo_bounds or AUPIMO_BOUNDS,
        )
        self.folds.append(result.values)
        self._curves.append(result.curves)
        self._per_image.append(result.per_image)
        self.notes += [note for note in result.notes if note not in self.notes]

    def keep_scores(self, labels: np.ndarray, scores: np.ndarray) -> None:
        """Keep the test scores of all folds (K, N), what metrics have of each image, mean curves, and intervals."""
        curves = {f"{name}_curve": np.stack([fold[name] for fold in self._curves]).mean(0) for name in self._curves[0]}
        per_image = {
            per_image_array(name): np.stack([fold[name] for fold in self._per_image]) for name in self._per_image[0]
        }
        self.scores = {"labels": labels, "scores": scores, **curves, **per_image}
        self.interval = confidence_intervals(labels, scores)

    def set_threshold(self, normal_scores: np.ndarray, groups: np.ndarray, false_alarm_rate: float | None) -> None:
        """Keep the conformal threshold of out-of-fold normal scores (n,), and what it does on the test images.

        Images of one group (n,) were held out together. A rate of None stands for the usual one, or the least possible;
        one that is too small for so few images is noted.
        """
        rate = usual_rate(len(np.unique(groups))) if false_alarm_rate is None else false_alarm_rate
        try:
            threshold = conformal_threshold(normal_scores, rate, groups)
        except InputError as error:
            self.notes.append(f"no threshold: {error}")
            return
        called, anomalous = self.scores["scores"] > threshold, self.scores["labels"] == 1
        self.threshold = {
            "threshold": threshold,
            "promised_false_alarms": rate,
            "false_alarms": share(called[:, ~anomalous]),
            "detections": share(called[:, anomalous]),
        }
        # Folds score the same images: their mean count, for they are no images more.
        alarms = round(float(called[:, ~anomalous].sum(axis=1).mean()))
        doubt = promise_doubt(alarms, int((~anomalous).sum()), rate, len(np.unique(groups)))
        self.notes += [] if doubt is None else [doubt]
        for values, scores in zip(self.folds, self.scores["scores"], strict=True):
            values |= evaluate_decisions(self.scores["labels"], scores, threshold)

    def keep_corruptions(self, frozen: FrozenFit) -> None:
        """Keep what the threshold does on corrupted images, or note that there is none."""
        if not self.threshold:
            self.notes.append(NEEDS_THRESHOLD)
            return
        self.corruptions = frozen.rates(self.scores["labels"], self.threshold["threshold"])
        self.threshold |= worst_rates(self.corruptions)
