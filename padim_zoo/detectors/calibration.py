"""A threshold from normal images only, by the scores of folds that the model did not see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from padim_zoo.backbones.weight_provenance import not_out_of_sample
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import FALSE_ALARM_RATE
from padim_zoo.detectors.parameters import LARGEST_SEED, check_whole_number
from padim_zoo.metrics.conformal import conformal_threshold, smallest_false_alarm_rate

if TYPE_CHECKING:
    from padim_zoo.detectors.detector import Prediction

Model = TypeVar("Model")

SCORED_AT_ONCE = 64
"""Images of a fold whose maps are in memory together."""

MOST_IMAGES_IN_SCALE = 2000
"""Images whose pixels make the color scale; of more, every second, third and so on is taken."""


@dataclass(frozen=True)
class Calibration:
    """A threshold and what it rests on.

    Attributes
    ----------
    threshold : float
        Scores above it are called anomalous.
    false_alarm_rate : float
        Bound on the probability that a new normal image is called anomalous.
    folds : int
        Parts that the normal images were cut into.
    map_low, map_high : float or None
        Median and 99.9th percentile of the pixels of out-of-fold anomaly maps: a color scale for pictures. None of a
        detector that makes no maps.
    scores : ndarray (n,), float32
        Out-of-fold score of each normal image, in the order of the fit.
    adapted : int
        How many of these images the weights of the backbone were adapted to, so far as that is known; their scores
        are not those of new images.
    """

    threshold: float
    false_alarm_rate: float
    folds: int
    map_low: float | None
    map_high: float | None
    scores: np.ndarray
    adapted: int = 0

    def to_dict(self) -> dict[str, Any]:
        """All but the scores, for JSON."""
        values = asdict(self)
        del values["scores"]
        if not self.adapted:
            del values["adapted"]
        return values

    @property
    def caveat(self) -> str | None:
        """Why the threshold may not keep its promise."""
        return not_out_of_sample(self.adapted, len(self.scores)) if self.adapted else None


def split_folds(n: int, folds: int, seed: int) -> list[np.ndarray]:
    """Cut n images at random into folds whose sizes differ by at most one.

    Returns
    -------
    list of ndarray, int64
        Indices of the images of each fold, ascending.

    Raises
    ------
    InputError
        If there are fewer than two folds, or fewer images than folds, or the seed is none.
    """
    check_whole_number("folds", folds, 2)
    check_whole_number("seed", seed, 0, LARGEST_SEED)
    if n < folds:
        raise InputError(f"{n} normal images cannot make {folds} folds: use at most {n} folds, or more images")
    from sklearn.model_selection import KFold  # half a second to import, and only folds need it

    return [held_out for _, held_out in KFold(folds, shuffle=True, random_state=seed).split(np.empty(n))]


def calibrate(
    fit: Callable[[np.ndarray], Model],
    score: Callable[[Model, np.ndarray], Prediction],
    n: int,
    *,
    false_alarm_rate: float | None,
    folds: int,
    seed: int,
) -> Calibration:
    """Conformal threshold from the out-of-fold scores of normal images.

    Each fold is scored by a model fitted on the others. Such a model has seen fewer images than one of all, and scores
    are a little higher, so the threshold errs to the side of fewer false alarms.

    Parameters
    ----------
    fit : callable
        Makes a model of some of the normal images, by their indices.
    score : callable
        Gives the scores (N,) and maps (N, H, W), if any, of N normal images by a model.
    n : int
        Normal images.
    false_alarm_rate : float, optional
        In (0, 1). By default :data:`~padim_zoo.detectors.config.FALSE_ALARM_RATE`, or the least that the number of
        images allows.
    folds : int
        At least 2; lowered to the number of images when there are fewer.
    seed : int
        Seed of the cut into folds.

    Raises
    ------
    InputError
        If there are fewer than two images, or too few for the rate asked for.
    """
    if n < 2:
        raise InputError("a threshold needs at least 2 normal images, for one must be left out of the fit; found 1")
    check_whole_number("folds", folds, 2)
    rate = max(FALSE_ALARM_RATE, smallest_false_alarm_rate(n)) if false_alarm_rate is None else false_alarm_rate
    conformal_threshold(np.zeros(n), rate)  # refuses a rate that n cannot support before any work is done
    parts = split_folds(n, min(folds, n), seed)
    scores = np.empty(n, dtype=np.float32)
    pixels: list[np.ndarray] = []
    every = math.ceil(n / MOST_IMAGES_IN_SCALE)
    for part in parts:
        model = fit(np.setdiff1d(np.arange(n), part))
        for start in range(0, len(part), SCORED_AT_ONCE):
            some = part[start : start + SCORED_AT_ONCE]
            prediction = score(model, some)
            scores[some] = prediction.scores
            if prediction.maps is not None:
                chosen = some % every == 0
                found = prediction.maps[chosen, ::4, ::4]
                if prediction.roi_masks is not None:
                    # All pixels: of a small region every fourth of every fourth row may be none.
                    found = prediction.maps[chosen][prediction.roi_masks[chosen]]
                pixels.append(found.ravel())
    low, high = np.quantile(np.concatenate(pixels), [0.5, 0.999]).tolist() if pixels else (None, None)
    return Calibration(float(conformal_threshold(scores, rate)), float(rate), len(parts), low, high, scores)
