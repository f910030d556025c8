"""Maps whose pixels say how rare they are: a prediction and a calibration, from scores to -log10 of p-values.

A calibration knows the out-of-fold maps of normal images by their cells. So it takes no fit to go over to p-values, and
none to make thresholds of them: each normal image is compared with those of other groups. A cell stands for all of its
pixels there, and has the highest of their values. So scores that are maxima of maps are exact. Region peaks of larger
areas, means of pixels, and the pixel threshold are too high, if anything, and promises are kept.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.config import DECIDES, MAP_VALUES, REGION_AREAS
from padim_zoo.detectors.map_score import MapScore
from padim_zoo.detectors.pose_evidence import joined_by_poses
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.metrics.map_p_values import cell_size
from padim_zoo.metrics.region_peak import region_peaks
from padim_zoo.metrics.thresholds import PIXEL_FALSE_ALARM_RATE

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


def rule_of_p_values(detector: BackboneDetector[Any]) -> MapScore | None:
    """How maps of p-values give scores; None where scores are not made of the map."""
    return detector.map_score or (MapScore() if detector.score_is_map_maximum else None)


def decides_by_p_values(detector: Any) -> bool:
    """Whether what is compared with the threshold is -log10 of a p-value; some scores are not made of the map."""
    if getattr(detector, "values_of_maps", None) is None:
        return False
    return detector.decision[0] != DECIDES[0] or rule_of_p_values(detector) is not None


def end_of_ranks(detector: BackboneDetector[Any]) -> float:
    """The largest value of a calibrated detector's maps that ranks of normal images tell."""
    assert detector.calibration_ is not None
    return -math.log10(detector.calibration_.normal_maps.least_p_value)


def note_on_tail(detector: Any, threshold: float | None = None) -> str | None:
    """That the model of the tail decides, where the threshold is beyond the ranks of normal images; else None.

    Parameters
    ----------
    detector : Detector
    threshold : float, optional
        Instead of the one that decides.
    """
    if not decides_by_p_values(detector) or detector.calibration_ is None:
        return None
    (decides, own), end = detector.decision, end_of_ranks(detector)
    limit = own if threshold is None else threshold
    if limit is None or limit <= end:
        return None
    return (
        f"the {decides} threshold of {limit:.2f} is beyond {end:.2f}, where the ranks of "
        f"{detector.calibration_.normal_maps.m} different normal images end: a model of the tail decides, and may "
        "miss defects; use more images, or compare with --map-values left out"
    )


def use_p_values(detector: BackboneDetector[Any]) -> None:
    """Go over to maps of p-values and thresholds on them, at the same rates and without a fit.

    Raises
    ------
    InputError
        If the detector is not calibrated, or as of :func:`calibration_in_p_values`.
    """
    if detector.values_of_maps is not None:
        return
    if detector.calibration_ is None or "map_values" not in detector.get_params():
        raise InputError(
            f"this {detector.name} knows no maps of normal images to make p-values of: calibrate a detector with maps"
        )
    calibration = calibration_in_p_values(detector, detector.calibration_)
    vars(detector).update(map_values=MAP_VALUES[0], calibration_=calibration)


def in_map_values(detector: BackboneDetector[Any], prediction: Prediction) -> Prediction:
    """The prediction with the values that maps are to have, and scores by them where these are made of the map.

    Raises
    ------
    InputError
        If these are p-values, and the detector is not calibrated.
    """
    pictured = prediction.pictured
    if detector.values_of_maps is None or pictured is None:
        return prediction
    if detector.calibration_ is None:
        raise InputError("map_values=p-value needs the maps of normal images: calibrate the detector first")
    maps, rule = np.nan_to_num(detector.calibration_.normal_maps.values(pictured)), rule_of_p_values(detector)
    scores = prediction.scores if rule is None else rule.of(maps, prediction.roi_masks)
    return replace(prediction, maps=maps, scores=scores)


def calibration_in_p_values(detector: BackboneDetector[Any], calibration: Calibration) -> Calibration:
    """The calibration of the same normal images at the same rates, by maps of -log10 p.

    Parameters
    ----------
    detector : BackboneDetector
    calibration : Calibration
        By maps of scores.

    Raises
    ------
    InputError
        If it knows no normal maps, or too few, or maps of several sizes, or its threshold was set by hand.
    """
    if detector.several_sizes:
        raise InputError(
            f"this {detector.name} was fitted on images of several sizes, which share no places to compare p-values "
            "at: leave out map_values (--map-values), or fit with an exact resize (--resize HxW)"
        )
    rate, image_size, rule = calibration.false_alarm_rate, detector.image_size_, rule_of_p_values(detector)
    if rate is None:
        raise InputError("the threshold was set by hand, as a score and not as a p-value: calibrate for a rate (--fpr)")
    normal = calibration.normal_maps
    n, size = len(calibration.scores), cell_size(*image_size)
    scores, peaks = calibration.scores.copy(), np.empty((n, len(REGION_AREAS)), dtype=np.float32)
    for image in range(n):
        of_pixels = normal.of_normal[image].repeat(size, 0).repeat(size, 1)[: image_size[0], : image_size[1]]
        peaks[image] = region_peaks(of_pixels, REGION_AREAS)
        if rule is not None:
            scores[image] = rule.of(of_pixels[~np.isnan(of_pixels)][None])[0]
    low, high = np.nanquantile(normal.of_normal, [0.5, 1 - PIXEL_FALSE_ALARM_RATE]).tolist()
    threshold = conformal_threshold(scores, rate, calibration.groups)
    made = calibration.changed(threshold=threshold, scores=scores, region_peaks=peaks, map_low=low, map_high=high)
    made = joined_by_poses(made)
    return made.with_decisions_of(calibration)
