"""Folds of the normal images, and the threshold that scores out of fold make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.calibration import Calibration, usual_rate
from padim_zoo.detectors.config import LARGEST_SEED, REGION_AREAS, check_whole_number
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.metrics.map_p_values import cell_maxima
from padim_zoo.metrics.region_peak import region_peaks
from padim_zoo.metrics.thresholds import PIXEL_FALSE_ALARM_RATE

if TYPE_CHECKING:
    from padim_zoo.detectors.prediction import Prediction

SCORED_AT_ONCE = 64
"""Images of a fold whose maps are in memory together."""

MOST_IMAGES_IN_SCALE = 2000
"""Images whose pixels make the color scale; of more, every second, third and so on is taken."""


def split_folds(n: int, folds: int, seed: int, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """Cut n images at random into folds; images of one group stay together.

    Parameters
    ----------
    n, folds, seed : int
    groups : ndarray (n,), int, optional
        By default each image is a group. The numbers of groups in the folds differ by at most one.

    Returns
    -------
    list of ndarray, int64
        Indices of the images of each fold, ascending.

    Raises
    ------
    InputError
        If there are fewer than two folds, or fewer groups than folds, or the seed is none.
    """
    check_whole_number("folds", folds, 2)
    check_whole_number("seed", seed, 0, LARGEST_SEED)
    _, group_of = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    m = int(group_of.max(initial=-1)) + 1
    if m < folds:
        copies = "" if m == n else f", of which {m} are different,"
        raise InputError(f"{n} normal images{copies} cannot make {folds} folds: use at most {m} folds, or more images")
    order = np.random.RandomState(seed).permutation(m)  # as scikit-learn's KFold, which takes half a second to import
    return [np.flatnonzero(np.isin(group_of, held_out)) for held_out in np.array_split(order, folds)]


def folds_of(
    n: int, folds: int, seed: int, groups: np.ndarray | None = None
) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Cut n normal images into folds, at most as many as there are groups; see :func:`split_folds`.

    Returns
    -------
    list of (rest, held_out), one per fold
    rest : ndarray
        Indices of the images that a model is fitted on.
    held_out : list of ndarray
        Indices of the images of the fold, in parts whose maps are in memory together.

    Raises
    ------
    InputError
        If there are fewer than two groups, or folds.
    """
    m = n if groups is None else len(np.unique(groups))
    if m < 2:
        copies = "" if m == n else f" among {n}"
        raise InputError(
            f"a threshold needs at least 2 different normal images, for one must be left out of the fit; "
            f"found {m}{copies}"
        )
    check_whole_number("folds", folds, 2)
    return [
        (np.setdiff1d(np.arange(n), fold), np.split(fold, range(SCORED_AT_ONCE, len(fold), SCORED_AT_ONCE)))
        for fold in split_folds(n, min(folds, m), seed, groups)
    ]


def kept_of_prediction(images: np.ndarray, prediction: Prediction, every: int) -> dict[str, np.ndarray]:
    """What a threshold takes of the out-of-fold scores and maps of some normal images, by name.

    Parameters
    ----------
    images : ndarray (m,)
        Their indices.
    prediction : Prediction
    every : int
        As of :class:`HeldOutScores`.
    """
    kept = {"scores": prediction.scores}
    pictured = prediction.pictured
    if prediction.maps is None or pictured is None:
        return kept
    in_scale = images % every == 0
    if prediction.roi_masks is None:
        pixels = prediction.maps[in_scale, ::4, ::4]
    else:
        # All pixels: of a small region every fourth of every fourth row may be none.
        pixels = prediction.maps[in_scale][prediction.roi_masks[in_scale]]
    return kept | {
        "region_peaks": np.stack([region_peaks(one, REGION_AREAS) for one in pictured]),
        "map_maxima": np.stack([cell_maxima(one) for one in pictured]),
        "pixels": pixels.ravel(),
    }


class HeldOutScores:
    """Scores and maps of normal images by models that were fitted without them, which make a conformal threshold.

    A model of a fold has seen fewer images than one of all, and its scores are a little higher, so the threshold errs
    to the side of fewer false alarms.

    Parameters
    ----------
    n : int
        Normal images.
    false_alarm_rate : float, optional
        In (0, 1). By default 0.05, or the least that the number of groups allows.
    groups : ndarray (n,), int, optional
        Those that were held out together. By default each image is one.

    Attributes
    ----------
    every : int
        The pixels of every so many images make the color scale.

    Raises
    ------
    InputError
        If there are too few groups for the rate asked for: before any work is done.
    """

    def __init__(self, n: int, false_alarm_rate: float | None, groups: np.ndarray | None = None) -> None:
        m = n if groups is None else len(np.unique(groups))
        self._asked = false_alarm_rate is not None
        self._rate = usual_rate(m) if false_alarm_rate is None else false_alarm_rate
        conformal_threshold(np.zeros(n), self._rate, groups)  # refuses a rate that so few cannot support
        self._groups = None if m == n else groups
        self._scores = np.empty(n, dtype=np.float32)
        self._pixels: list[np.ndarray] = []
        self._peaks = np.empty((n, len(REGION_AREAS)), dtype=np.float32)
        self._maxima: dict[int, np.ndarray] = {}
        self.every = math.ceil(n / MOST_IMAGES_IN_SCALE)

    def add(self, images: np.ndarray, prediction: Prediction) -> None:
        """The scores (m,), and maps if any, of some of the images, by their indices (m,)."""
        self.add_kept(images, kept_of_prediction(images, prediction, self.every))

    def add_kept(self, images: np.ndarray, kept: Mapping[str, np.ndarray]) -> None:
        """The same as :func:`kept_of_prediction` gives it, wherever that was."""
        self._scores[images] = kept["scores"]
        if "pixels" in kept:
            self._peaks[images] = kept["region_peaks"]
            self._maxima |= dict(zip(images.tolist(), kept["map_maxima"], strict=True))
            self._pixels.append(kept["pixels"])

    def calibration(self, folds: int) -> Calibration:
        """The threshold of all images, which were cut into ``folds``."""
        low, high = None, None
        if self._pixels:
            low, high = np.quantile(np.concatenate(self._pixels), [0.5, 1 - PIXEL_FALSE_ALARM_RATE]).tolist()
        threshold = float(conformal_threshold(self._scores, self._rate, self._groups))
        return Calibration(
            *(threshold, float(self._rate), folds, low, high, self._scores),
            groups=self._groups,
            rate_asked=self._asked,
            region_peaks=self._peaks if self._pixels else None,
            map_maxima=np.stack([self._maxima[image] for image in range(len(self._scores))]) if self._maxima else None,
        )
