"""Maps whose pixels say how rare they are: a prediction and a calibration, from scores to -log10 of p-values.

A calibration knows the out-of-fold maps of normal images by their cells. So it takes no fit to go over to p-values, and
none to make thresholds of them: each normal image is compared with those of other groups. A cell stands for all of its
pixels there, and has the highest of their values. So scores that are maxima of maps are exact. Region peaks of larger
areas, means of pixels, and the pixel threshold are too high, if anything, and promises are kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.config import REGION_AREAS
from padim_zoo.detectors.map_score import MapScore
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.metrics.map_p_values import NormalMaps, cell_size
from padim_zoo.metrics.region_peak import region_peaks
from padim_zoo.metrics.thresholds import PIXEL_FALSE_ALARM_RATE


def prediction_in_p_values(prediction: Prediction, normal: NormalMaps, rule: MapScore | None) -> Prediction:
    """The prediction with maps of -log10 p, and scores by them where a rule says how.

    Parameters
    ----------
    prediction : Prediction
        With maps of scores, or none.
    normal : NormalMaps
    rule : MapScore or None
        None for detectors whose scores are not made of the map: they stay.
    """
    pictured = prediction.pictured
    if pictured is None:
        return prediction
    maps = np.nan_to_num(normal.values(pictured))
    scores = prediction.scores if rule is None else rule.of(maps, prediction.roi_masks)
    return replace(prediction, maps=maps, scores=scores)


def calibration_in_p_values(
    calibration: Calibration, image_size: tuple[int, int], rule: MapScore | None
) -> Calibration:
    """The calibration of the same normal images at the same rates, by maps of -log10 p.

    Parameters
    ----------
    calibration : Calibration
        By maps of scores.
    image_size : (int, int)
        Height and width of the maps.
    rule : MapScore or None
        As of :func:`prediction_in_p_values`.

    Raises
    ------
    InputError
        If it knows no normal maps, or too few, or its threshold was set by hand.
    """
    rate = calibration.false_alarm_rate
    if rate is None:
        raise InputError("the threshold was set by hand, as a score and not as a p-value: calibrate for a rate (--fpr)")
    normal = calibration.normal_maps
    n, size = len(calibration.scores), cell_size(*image_size)
    scores, peaks, cells = calibration.scores.copy(), np.empty((n, len(REGION_AREAS)), dtype=np.float32), []
    for image in range(n):
        cells.append(normal.values_of_normal(image))
        of_pixels = cells[-1].repeat(size, 0).repeat(size, 1)[: image_size[0], : image_size[1]]
        peaks[image] = region_peaks(of_pixels, REGION_AREAS)
        if rule is not None:
            scores[image] = rule.of(of_pixels[~np.isnan(of_pixels)][None])[0]
    low, high = np.nanquantile(np.stack(cells), [0.5, 1 - PIXEL_FALSE_ALARM_RATE]).tolist()
    threshold = conformal_threshold(scores, rate, calibration.groups)
    made = replace(calibration, threshold=threshold, scores=scores, region_peaks=peaks, map_low=low, map_high=high)
    return made.with_decisions_of(calibration)
