"""What an unusual pose does to scores and maps: it weighs as much as a score that is as rare.

Of normal images their scores are known out of fold, and so is how usual their poses are. A pose with a p-value p lifts
a score to the one that a share p of normal images exceed, if it is lower. Poses may make a tenth of the false alarms,
so they count as ten times as usual as they are. The threshold is made of scores that are lifted in the same way: that
keeps its rate, whatever poses are like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from padim_zoo.detectors.normal_poses import NormalPoses, distances_between
from padim_zoo.metrics.conformal import conformal_threshold

if TYPE_CHECKING:
    from padim_zoo.detectors.calibration import Calibration
    from padim_zoo.detectors.prediction import Prediction

SHARE = 0.1
"""Of the false alarms of a threshold, the part that poses may make. Small defects have usual poses."""

POWER = 32
"""Of a pixel's share of the highest one: with it falls by how much it is lifted. Nine tenths of it take 3 %."""

LEAST_SPREAD = 1e-3
"""Of normal scores, as a share of the highest."""


@dataclass(frozen=True)
class PoseEvidence:
    """What n normal images say of poses and scores, out of fold.

    Attributes
    ----------
    poses : ndarray (n, 3), float32
        As they were found; see :class:`~padim_zoo.detectors.normal_poses.NormalPoses`.
    distances : ndarray (n, 2), float32
        Of their angles and shifts from the nearest ones of other folds.
    scores : ndarray (n, 2), float32
        Score, and highest pixel of the map, before poses joined them.
    groups : ndarray (n,), int, or None
        Equal for images that show one thing.
    """

    poses: np.ndarray
    distances: np.ndarray
    scores: np.ndarray
    groups: np.ndarray | None = None

    @staticmethod
    def of(
        calibration: Calibration, poses: np.ndarray, folds: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]]
    ) -> PoseEvidence:
        """Of the normal images of a calibration by maps, each compared with those of other folds.

        Parameters
        ----------
        calibration : Calibration
        poses : ndarray (n, 3), float32
            As they were found.
        folds : sequence of (ndarray, sequence of ndarray)
            As of :func:`~padim_zoo.detectors.held_out.folds_of`.
        """
        distances = distances_between(poses, [(np.concatenate(held_out), rest) for rest, held_out in folds])
        return PoseEvidence(poses, distances, calibration.scores[:, None].repeat(2, 1), calibration.groups)

    @cached_property
    def normal(self) -> NormalPoses:
        """The poses that others are compared with."""
        return NormalPoses(self.poses, self.distances, self.groups)

    @cached_property
    def _levels(self) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """Of each column the logarithms of rates, the score of each, and the mean excess of the tail beyond."""
        n = len(self.scores)
        groups = np.arange(n) if self.groups is None else self.groups
        _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        levels = []
        for column in self.scores.T.astype(np.float64):
            order = np.argsort(-column, kind="stable")
            weights = 1 / sizes[group_of[order]]
            rates = (1 + np.cumsum(weights) - weights) / (1 + len(sizes))
            spread = max(float(column.std()), LEAST_SPREAD * float(column.max()))
            levels.append((np.log(rates), column[order], spread))
        return levels

    def levels(self, p_values: np.ndarray) -> np.ndarray:
        """The scores and the highest pixels (k, 2), float32, that are as rare as poses with p-values (k,).

        Between the ranks of normal images they are interpolated; beyond, an exponential tail goes on. Minus infinity
        for what is not rare, and for NaN.
        """
        rates = np.log(p_values / SHARE)
        columns = []
        for known, scores, spread in self._levels:
            level = np.interp(rates, known, scores, right=-np.inf)
            level = np.where(rates < known[0], scores[0] + spread * (known[0] - rates), level)
            columns.append(np.where(np.isnan(rates), -np.inf, level))
        return np.stack(columns, 1).astype(np.float32)

    def lift(self, prediction: Prediction) -> Prediction:
        """The prediction with scores and maps that poses have joined."""
        if prediction.poses is None or prediction.maps is None:
            return prediction
        of_scores, of_maps = self.levels(prediction.poses.pose_p_value).T
        highest = prediction.maps.max((1, 2))
        maps, scores = prediction.maps, np.maximum(prediction.scores, of_scores)
        odd = np.flatnonzero(of_maps > highest)
        if len(odd):
            maps = maps.copy()
            maps[odd] = lifted(maps[odd], highest[odd], of_maps[odd])
        return replace(prediction, scores=scores, maps=maps)


def lifted(values: np.ndarray, highest: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Pixels, or what is made of them, after the highest one of each image has been lifted to a level.

    What is near to the highest pixel is lifted with it; normal pixels stay nearly as they are.

    Parameters
    ----------
    values : ndarray (N, ...), float32
    highest, levels : ndarray (N,), float32
        A level below the highest pixel lifts nothing.
    """
    shape = (len(values), *[1] * (values.ndim - 1))
    top, target = highest.reshape(shape), np.maximum(highest, levels).reshape(shape)
    moved = values + (target - top) * (values / np.maximum(top, np.float32(1e-6))) ** POWER
    return np.asarray(np.where(values >= top, target, moved))


def joined_by_poses(calibration: Calibration) -> Calibration:
    """The calibration of normal images with scores and region peaks that their own poses have lifted.

    Parameters
    ----------
    calibration : Calibration
        By maps alone, whatever their values are. Where it knows no poses, nothing changes.
    """
    evidence, peaks, rate = calibration.pose_evidence, calibration.region_peaks, calibration.false_alarm_rate
    if evidence is None or peaks is None or rate is None:
        return calibration
    highest = peaks[:, 0].astype(np.float32)
    evidence = replace(evidence, scores=np.stack([calibration.scores, highest], 1))
    of_scores, of_maps = evidence.levels(evidence.normal.own_p_values()).T
    scores = np.maximum(calibration.scores, of_scores)
    return calibration.changed(
        threshold=conformal_threshold(scores, rate, calibration.groups),
        scores=scores,
        region_peaks=lifted(peaks, highest, of_maps),
        pose_evidence=evidence,
    )
