"""A detector against the labeled test images of a category: metrics, decisions at thresholds, and notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from padim_zoo import metrics
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.fingerprints import FingerprintsInMemory
from padim_zoo.data.duplicates import refuse_equal_scores
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.data.sample import Category, Sample
from padim_zoo.data.saturation import saturation_shares
from padim_zoo.data.unreadable import naming_unreadable
from padim_zoo.detectors.config import DECIDES
from padim_zoo.detectors.description import describe_runtime, unpromised
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.overlap import count_near_copies, new_samples
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.metrics.metric import confidence_intervals


@dataclass(frozen=True)
class ScoredTestSet:
    """The test images that a detector has not learned, scored.

    Attributes
    ----------
    samples : list of Sample
    prediction : Prediction
    truth : sequence of ndarray (H, W), int32, or None
        The regions of each image.
    left_out : int
        Test images that the detector has learned.
    near_copies : int or None
        Test images that are near copies of learned ones; None where that is not known.
    notes : list of str
        What a reader of figures should know.
    """

    samples: list[Sample]
    prediction: Prediction
    truth: Any
    left_out: int
    near_copies: int | None
    notes: list[str]

    @property
    def labels(self) -> np.ndarray:
        """1 of anomalous images, (n,)."""
        return np.array([sample.label for sample in self.samples])


def score_test_images(
    detector: Detector,
    category: Category,
    predict: Callable[[Any], Prediction],
    *,
    mask_resize: str,
    mask_orientation: str | None,
) -> ScoredTestSet:
    """Score the test images of a category, and leave out those that the detector has learned.

    Parameters
    ----------
    detector : Detector
        Fitted. Where it keeps no fingerprints, these are kept in memory, so that each image is decoded once.
    category : Category
    predict : callable
        Images to a prediction of the detector.
    mask_resize, mask_orientation
        As of :func:`padim_zoo.data.ground_truth.masks`.

    Raises
    ------
    InputError
        If there is no test image, or one cannot be read, or no normal one is left.
    """
    if detector.fingerprints is None:
        detector.cache = Caches(fingerprints=FingerprintsInMemory(len(category.train) + len(category.test)))
    depth, paths = detector.transform.bit_depth, [sample.path for sample in category.test]
    # All are scored, for what is decoded then gives the hashes by which learned images are left out.
    images: Any = paths
    if detector.learned_images_.hashes is not None:
        images = HashedImages(paths, depth, kept=detector.fingerprints)
    with naming_unreadable(paths):
        prediction = predict(images)
    new = new_samples(detector, category.test)
    near_copies, note = count_near_copies(detector, category.train, new.samples)
    prediction = prediction.images(new.positions)
    refuse_equal_scores(new.samples, prediction.scores, depth, detector.fingerprints)
    canvas = None if prediction.maps is None else prediction.maps.shape[1:]
    truth = masks(new.samples, detector.transform, rule=mask_resize, orientation=mask_orientation, canvas=canvas)
    return ScoredTestSet(new.samples, prediction, truth, new.left_out, near_copies, [*new.notes, *filter(None, [note])])


@dataclass(frozen=True)
class Evaluation:
    """What a scored test set says of a detector.

    Attributes
    ----------
    values : dict of str to float
        The metrics.
    intervals : dict of str to float
        95 % intervals of some, by ``NAME_low`` and ``NAME_high``.
    thresholds : list of dict
        Decisions at the threshold that decides first, then at the model's own and at that of the highest F1.
    rates : list of dict
        Decisions at other false-alarm rates.
    notes : list of str
    """

    values: dict[str, float]
    intervals: dict[str, float]
    thresholds: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    notes: list[str]

    @classmethod
    def of(cls, detector: Detector, scored: ScoredTestSet, aupimo_bounds: tuple[float, float]) -> Evaluation:
        """All metrics and decisions."""
        labels, prediction, calibration = scored.labels, scored.prediction, detector.calibration_
        own = prediction.threshold if calibration is None else calibration.threshold
        result = metrics.evaluate(
            labels,
            prediction.scores,
            prediction.maps,
            scored.truth,
            roi_masks=prediction.roi_masks,
            saturation=saturation_shares(scored.samples, scored.truth),
            image_threshold=own,
            pixel_threshold=None if calibration is None else calibration.map_high,
            aupimo_bounds=aupimo_bounds,
        )
        by_hand = calibration is not None and calibration.false_alarm_rate is None
        at = {
            "set by hand" if by_hand else "false-alarm rate": (own, prediction.scores),
            "highest F1": (result.values["image_f1_threshold"], prediction.scores),
        }
        if prediction.decides != DECIDES[0]:
            at = {f"decision by {prediction.decides}": (prediction.threshold, prediction.deciding_scores), **at}
        thresholds = [
            {"threshold_for": purpose, **metrics.rates_at_threshold(threshold, labels, scores)}
            for purpose, (threshold, scores) in at.items()
        ]
        rates = [
            {"false_alarm_rate": rate, **metrics.rates_at_threshold(threshold, labels, prediction.scores)}
            for rate, threshold in ({} if calibration is None else calibration.thresholds()).items()
        ]
        notes = [*scored.notes, *result.notes]
        notes += [f"the backbone runs in {runs}"] if (runs := describe_runtime(detector)) else []
        if calibration is not None:
            alarms, doubt = thresholds[0]["false_alarms"], None
            rate = {"image": calibration.false_alarm_rate, "region": calibration.region_rate}.get(prediction.decides)
            if alarms is not None and rate is not None:
                doubt = metrics.promise_doubt(alarms["count"], alarms["of"], rate, calibration.n_groups)
            notes += [note for note in (doubt, calibration.caveat, unpromised(calibration)) if note is not None]
        return cls(result.values, confidence_intervals(labels, prediction.scores), thresholds, rates, notes)
