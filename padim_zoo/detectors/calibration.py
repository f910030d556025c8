"""Thresholds from normal images only, by the scores and maps of folds that the model did not see.

Three of them can decide whether an image is anomalous: the image threshold on its score, the pixel threshold on the
maximum of its map, and the region threshold on its region peak. The first and the last promise a false-alarm rate.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from padim_zoo.backbones.weight_provenance import not_out_of_sample
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import DECIDES, FALSE_ALARM_RATE, REGION_AREAS
from padim_zoo.detectors.pose_evidence import PoseEvidence
from padim_zoo.detectors.regions import RegionRule
from padim_zoo.metrics.conformal import can_promise, conformal_threshold, smallest_false_alarm_rate
from padim_zoo.metrics.map_p_values import NormalMaps
from padim_zoo.pictures.colormap import Scale, scale_of_maps

_NO_MAPS = (
    "there are no out-of-fold maps to make {} of: an ensemble, a detector that makes no maps and a threshold by hand "
    "have none; decide by image, or fit one detector with maps"
)

ARRAYS = ("scores", "groups", "region_peaks", "map_maxima")
"""What a file holds of a calibration as arrays."""

WHOLE_IMAGES = "the threshold promises its rate, for whole images"
"""What is promised where patches are trimmed: out of fold, images keep all of theirs."""

RATES = (0.01, 0.02, 0.05, 0.10)
"""False-alarm rates whose thresholds are shown side by side: what each costs in detections."""


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
    pose_evidence : PoseEvidence or None
        What unusual poses do to scores: to those above, too. None of a detector that undoes no poses.
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
    pose_evidence: PoseEvidence | None = None

    @staticmethod
    def by_hand(threshold: float, before: Calibration | None = None) -> Calibration:
        """A threshold that promises nothing, with the scores and colors of the calibration before it.

        Raises
        ------
        InputError
            If it is not a finite number.
        """
        if not isinstance(threshold, (int, float, np.number)) or not np.isfinite(threshold):
            raise InputError(f"the threshold is {threshold}: expected a finite number")
        if before is None:
            return Calibration(float(threshold), None, 0, None, None, np.empty(0, dtype=np.float32))
        return before.changed(threshold=float(threshold), false_alarm_rate=None, rate_asked=False, decides=DECIDES[0])

    @staticmethod
    def imagined(n: int, makes_maps: bool) -> Calibration:
        """That of n normal images which all score alike: it refuses before a fit what cannot be after it."""
        peaks = np.zeros((n, len(REGION_AREAS)), dtype=np.float32) if makes_maps else None
        high = 0.0 if makes_maps else None
        return Calibration(0.0, None, 0, high, high, np.zeros(n, dtype=np.float32), region_peaks=peaks)

    def at_rate(self, false_alarm_rate: float | None = None) -> Calibration:
        """The threshold of the same scores for another false-alarm rate; by default the :func:`usual_rate`.

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
        return self.changed(threshold=threshold, false_alarm_rate=float(rate), rate_asked=asked)

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
        return self.changed(region_threshold=threshold, region_rate=float(false_alarm_rate), region_area=area)

    def with_decision(
        self, region_rate: float | None = None, region_area: int | None = None, decide_by: str | None = None
    ) -> Calibration:
        """With the region threshold that is asked for, if any, and the one that decides.

        Parameters
        ----------
        region_rate, region_area
            As of :meth:`for_regions`.
        decide_by : str, optional
            As of :meth:`deciding_by`.

        Raises
        ------
        InputError
            If there can be none, or an area comes without a rate.
        """
        if region_area is not None and region_rate is None:
            raise InputError("--region-area has no effect without --region-fpr: add it, e.g. --region-fpr 0.05")
        made = self if region_rate is None else self.for_regions(region_rate, 1 if region_area is None else region_area)
        return made if decide_by is None else made.deciding_by(decide_by)

    def peaks_of(self, area: int) -> np.ndarray:
        """The region peaks (n,) of the normal images for one least area.

        Raises
        ------
        InputError
            If they are not known.
        """
        if area not in REGION_AREAS:
            raise InputError(f"--region-area is {area!r}: expected one of {', '.join(map(str, REGION_AREAS))}")
        if self.region_peaks is None:
            raise InputError(_NO_MAPS.format("a region threshold"))
        return np.asarray(self.region_peaks[:, REGION_AREAS.index(area)])

    def deciding_by(self, level: str) -> Calibration:
        """With another threshold that decides.

        Raises
        ------
        InputError
            If there is none of that level.
        """
        if level not in DECIDES:
            raise InputError(f"decide by {level!r}: expected {', '.join(DECIDES)}")
        if level != DECIDES[0] and self.map_high is None:
            raise InputError(_NO_MAPS.format(f"a {level} threshold"))
        if level == "region" and self.region_threshold is None:
            raise InputError("there is no region threshold to decide by: set its rate (--region-fpr 0.05)")
        return self.changed(decides=level)

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
            raise InputError(_NO_MAPS.format("p-values"))
        return NormalMaps(self.map_maxima, self.groups)

    def changed(self, **changes: Any) -> Calibration:
        """With other values; what was computed of the maps of the same normal images stays."""
        made = replace(self, **changes)
        if "normal_maps" in vars(self) and not {"map_maxima", "groups"} & changes.keys():
            vars(made)["normal_maps"] = self.normal_maps
        return made

    @property
    def deciding_threshold(self) -> float:
        """The threshold that decides."""
        by_level = {"image": self.threshold, "pixel": self.map_high, "region": self.region_threshold}
        threshold = by_level[self.decides]
        assert threshold is not None
        return threshold

    def color_scale(self, threshold: float | None, serves_maps: bool) -> tuple[Scale, float]:
        """What the colors of pictures of maps rest on; see :meth:`~padim_zoo.detectors.detector.Detector.color_scale`.

        Parameters
        ----------
        threshold : float or None
            Instead of the one that decides.
        serves_maps : bool
            Whether the image threshold is one of pixels too.
        """
        if threshold is None:
            of_maps = self.map_high if self.decides == "pixel" else self.region_threshold
        else:
            of_maps = None if self.decides == DECIDES[0] else threshold
        limit = self.threshold if threshold is None else threshold
        limit = limit if of_maps is None else of_maps
        return scale_of_maps(limit, (self.map_low, self.map_high), serves_maps or of_maps is not None)

    def region_rule(self, threshold: float | None, limit: float) -> RegionRule:
        """What a region of a map is: pixels above a limit, of the least area where regions decide.

        Parameters
        ----------
        threshold : float or None
            Instead of the one that decides.
        limit : float
            That of :meth:`color_scale`.
        """
        if self.region_peaks is None:
            return RegionRule(limit)
        of_regions = self.decides == "region" or (threshold is None and self.decides != "pixel")
        area = self.region_area if of_regions else 1
        return RegionRule(limit, area, self.peaks_of(area), self.groups)

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
        for name in (*ARRAYS, "pose_evidence"):
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
