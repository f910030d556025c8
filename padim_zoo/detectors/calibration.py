"""Thresholds from normal images only, by the scores and maps of folds that the model did not see.

Three of them can decide whether an image is anomalous: the image threshold on its score, the pixel threshold on the
maximum of its map, and the region threshold on its region peak. The first and the last promise a false-alarm rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.backbones.weight_provenance import not_out_of_sample
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import DECIDES, FALSE_ALARM_RATE, LARGEST_SEED, REGION_AREAS, check_whole_number
from padim_zoo.metrics.conformal import can_promise, conformal_threshold, smallest_false_alarm_rate
from padim_zoo.metrics.map_p_values import NormalMaps, cell_maxima
from padim_zoo.metrics.region_peak import region_peaks
from padim_zoo.metrics.thresholds import PIXEL_FALSE_ALARM_RATE

if TYPE_CHECKING:
    from padim_zoo.detectors.prediction import Prediction

RATES = (0.01, 0.02, 0.05, 0.10)
"""False-alarm rates whose thresholds are shown side by side: what each costs in detections."""

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
    false_alarm_rate : float or None
        Bound on the probability that a new normal image is called anomalous. None of a threshold that was set by hand.
    folds : int
        Parts that the normal images were cut into.
    map_low, map_high : float or None
        Median and 99.9th percentile of the pixels of out-of-fold anomaly maps: a color scale for pictures. The latter
        is the pixel threshold too. None of a detector that makes no maps.
    scores : ndarray (n,), float32
        Out-of-fold score of each normal image, in the order of the fit.
    adapted : int
        How many of these images the weights of the backbone were adapted to, so far as that is known; their scores
        are not those of new images.
    groups : ndarray (n,), int64, or None
        Equal for images that show one thing, as :func:`~padim_zoo.data.duplicates.groups_of` gives them: they were held
        out together, and count once. None where all differ.
    rate_asked : bool
        Whether the rate was asked for. Else it is the usual one of so many images, and changes with their number.
    region_peaks : ndarray (n, len(REGION_AREAS)), float32, or None
        The out-of-fold region peaks of each normal image (:mod:`padim_zoo.metrics.region_peak`). None of a detector
        that makes no maps, and of an ensemble.
    region_threshold, region_rate : float or None
        A new normal image shows a region, of ``region_area`` pixels of the map or more that score above the threshold,
        with a probability of at most the rate. None where no rate was asked for.
    region_area : int
        Of :data:`~padim_zoo.detectors.config.REGION_AREAS`.
    decides : str
        Of :data:`~padim_zoo.detectors.config.DECIDES`: which threshold says that an image is anomalous.
    map_maxima : ndarray (n, R, C), float32, or None
        The highest score of each normal image in each cell of its out-of-fold map, which p-values of pixels are made
        of (:mod:`padim_zoo.metrics.map_p_values`). None where there are no region peaks.
    """

    threshold: float
    false_alarm_rate: float | None
    folds: int
    map_low: float | None
    map_high: float | None
    scores: np.ndarray
    adapted: int = 0
    groups: np.ndarray | None = None
    rate_asked: bool = False
    region_peaks: np.ndarray | None = None
    region_threshold: float | None = None
    region_rate: float | None = None
    region_area: int = 1
    decides: str = DECIDES[0]
    map_maxima: np.ndarray | None = None

    @staticmethod
    def by_hand(threshold: float, before: Calibration | None = None) -> Calibration:
        """A threshold that promises nothing, with the scores and colors of the calibration before it.

        Raises
        ------
        InputError
            If it is not a finite number.
        """
        if not isinstance(threshold, (int, float, np.number)) or not np.isfinite(threshold):
            raise InputError(f"{threshold} is no threshold: expected a finite number")
        if before is None:
            return Calibration(float(threshold), None, 0, None, None, np.empty(0, dtype=np.float32))
        return replace(before, threshold=float(threshold), false_alarm_rate=None, rate_asked=False, decides=DECIDES[0])

    def at_rate(self, false_alarm_rate: float | None = None) -> Calibration:
        """The threshold of the same scores for another false-alarm rate; by default as :class:`HeldOutScores` says.

        Raises
        ------
        InputError
            If there are no scores, or too few for the rate.
        """
        if not len(self.scores):
            raise InputError(
                "there are no out-of-fold scores to make a threshold of: set one by hand, or fit again for a rate"
            )
        rate = usual_rate(self.n_groups) if false_alarm_rate is None else false_alarm_rate
        threshold = conformal_threshold(self.scores, rate, self.groups)
        asked = false_alarm_rate is not None
        return replace(self, threshold=threshold, false_alarm_rate=float(rate), rate_asked=asked)

    def for_regions(self, false_alarm_rate: float, area: int = 1) -> Calibration:
        """With a threshold of regions that a new normal image shows with a probability of at most a rate.

        Parameters
        ----------
        false_alarm_rate : float
            In (0, 1).
        area : int
            Pixels of the map that a region has, at least: one of :data:`~padim_zoo.detectors.config.REGION_AREAS`.

        Raises
        ------
        InputError
            If there are no region peaks, too few for the rate, or none for the area.
        """
        threshold = conformal_threshold(self.peaks_of(area), false_alarm_rate, self.groups)
        return replace(self, region_threshold=threshold, region_rate=float(false_alarm_rate), region_area=area)

    def peaks_of(self, area: int) -> np.ndarray:
        """The region peaks (n,) of the normal images for one least area.

        Raises
        ------
        InputError
            If they are not known.
        """
        if area not in REGION_AREAS:
            raise InputError(f"the area of regions is {area!r}: expected one of {', '.join(map(str, REGION_AREAS))}")
        if self.region_peaks is None:
            raise InputError(
                "there are no out-of-fold maps to make a threshold of regions of, as of ensembles, detectors without "
                "maps and thresholds by hand: fit one detector with maps"
            )
        peaks: np.ndarray = self.region_peaks[:, REGION_AREAS.index(area)]
        return peaks

    def deciding_by(self, level: str) -> Calibration:
        """With another threshold that decides.

        Raises
        ------
        InputError
            If there is none of that level.
        """
        if level not in DECIDES:
            raise InputError(f"decide by {level!r}: expected {', '.join(DECIDES)}")
        if level == "pixel" and self.map_high is None:
            raise InputError("there is no pixel threshold to decide by: decide by image")
        if level == "region" and self.region_threshold is None:
            raise InputError("there is no region threshold to decide by: give its rate (--region-fpr 0.05)")
        return replace(self, decides=level)

    def with_decisions_of(self, before: Calibration | None) -> Calibration:
        """With the rate and area of regions of another calibration, and the threshold that decides there."""
        if before is None:
            return self
        made = self if before.region_rate is None else self.for_regions(before.region_rate, before.region_area)
        return made.deciding_by(before.decides)

    @cached_property
    def normal_maps(self) -> NormalMaps:
        """What the maps of normal images are, out of fold.

        Raises
        ------
        InputError
            If they are not known, or too few.
        """
        if self.map_maxima is None:
            raise InputError(
                "there are no out-of-fold maps to make p-values of, as of ensembles, detectors without maps and "
                "thresholds by hand: fit one detector with maps"
            )
        return NormalMaps(self.map_maxima, self.groups)

    @property
    def deciding_threshold(self) -> float:
        """The threshold that decides."""
        by_level = {"image": self.threshold, "pixel": self.map_high, "region": self.region_threshold}
        threshold = by_level[self.decides]
        assert threshold is not None
        return threshold

    @property
    def asked_rate(self) -> float | None:
        """The rate that was asked for, which models of more images should promise too; None for the usual one."""
        return self.false_alarm_rate if self.rate_asked else None

    @property
    def n_groups(self) -> int:
        """The number of different images that the threshold rests on."""
        return len(self.scores if self.groups is None else np.unique(self.groups))

    @property
    def least_rate(self) -> float:
        """The smallest false-alarm rate that these images can promise."""
        return smallest_false_alarm_rate(self.n_groups)

    def thresholds(self) -> dict[float, float | None]:
        """The threshold of each of :data:`RATES`, and of the least rate where that is larger than the first.

        None for a rate that so few images cannot promise. Empty where the threshold rests on no scores.
        """
        if not len(self.scores):
            return {}
        least = self.least_rate
        rates = sorted({*RATES, least}) if least > RATES[0] else RATES
        return {
            rate: conformal_threshold(self.scores, rate, self.groups) if can_promise(rate, self.n_groups) else None
            for rate in rates
        }

    def to_dict(self) -> dict[str, Any]:
        """All but the arrays, for JSON."""
        values = asdict(self)
        for name in ("scores", "groups", "region_peaks", "map_maxima"):
            del values[name]
        defaults = {one.name: one.default for one in fields(self) if one.default is not MISSING}
        return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}

    @property
    def caveat(self) -> str | None:
        """Why the threshold may not keep its promise."""
        return not_out_of_sample(self.adapted, len(self.scores)) if self.adapted else None


def usual_rate(n_groups: int) -> float:
    """The false-alarm rate that is promised where none is asked for."""
    return max(FALSE_ALARM_RATE, smallest_false_alarm_rate(n_groups))


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
    from sklearn.model_selection import KFold  # half a second to import, and only folds need it

    cut = KFold(folds, shuffle=True, random_state=seed).split(np.empty(m))
    return [np.flatnonzero(np.isin(group_of, held_out)) for _, held_out in cut]


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
