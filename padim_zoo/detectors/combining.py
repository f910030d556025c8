"""How the scores and maps of the members of an ensemble become one: each on its own scale, then weighed.

Scores are taken in standard deviations from the mean of the out-of-fold normal scores. Maps are taken from the median
of normal pixels (0) to their 99.9th percentile (1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.detector import Detector

WEIGHTS = ("uniform", "learned")
RIDGE = 0.01
"""Added to the diagonal of the correlation of the members' scores: two members that agree fully share their weight."""


def refuse_doubles(members: Sequence[Detector], names: Sequence[str]) -> None:
    """Refuse a calibrated detector that is there twice: it would only be weighted twice.

    Parameters
    ----------
    members : sequence of Detector
    names : sequence of str
        What errors call them.

    Raises
    ------
    InputError
        If two have the same parameters and the same out-of-fold scores.
    """
    for later, (member, name) in enumerate(zip(members, names, strict=True)):
        for other, earlier in zip(members[:later], names, strict=False):
            one, two = member.calibration_, other.calibration_
            if one is None or two is None or not np.array_equal(one.scores, two.scores):
                continue
            if type(member) is type(other) and str(member.get_params()) == str(other.get_params()):
                again = "is given twice" if name == earlier else f"is the same detector as {earlier}"
                raise InputError(f"{name} {again}: an ensemble takes detectors that differ; leave one out")


def member_weights(weights: str | Sequence[float], calibrations: Sequence[Calibration]) -> np.ndarray:
    """The weights of members (M,), which sum to 1: as given, or by one of :data:`WEIGHTS`."""
    if not isinstance(weights, str):
        numbers = np.asarray(weights, dtype=np.float64)
        return np.asarray(numbers / numbers.sum())
    if weights == "uniform":
        return np.full(len(calibrations), 1 / len(calibrations))
    return least_variance_weights(np.stack([_standardized(one, one.scores) for one in calibrations]))


def least_variance_weights(scores: np.ndarray) -> np.ndarray:
    """The weights of standardized scores (M, n) whose weighted mean varies least, none negative; they sum to 1.

    Without the bound they are C⁻¹1 / 1ᵀC⁻¹1 of the correlation C. Members that would get a negative weight are left
    out, the worst first.
    """
    correlation = np.atleast_2d(np.corrcoef(scores)) if scores.std(1).all() else np.eye(len(scores))
    correlation = correlation + RIDGE * np.eye(len(scores))
    members = np.arange(len(scores))
    while True:
        inverse_sums = np.linalg.solve(correlation[np.ix_(members, members)], np.ones(len(members)))
        if (inverse_sums >= 0).all():
            weights = np.zeros(len(scores))
            weights[members] = inverse_sums / inverse_sums.sum()
            return weights
        members = np.delete(members, inverse_sums.argmin())


def combined_scores(
    rule: str, weights: np.ndarray, calibrations: Sequence[Calibration], scores: Sequence[np.ndarray]
) -> np.ndarray:
    """Scores of all members, (N,) each, to those of the ensemble (N,), float32."""
    if rule == "rank":
        parts = [
            np.searchsorted(np.sort(one.scores), of_member, side="right") / len(one.scores)
            for one, of_member in zip(calibrations, scores, strict=True)
        ]
    else:
        parts = [_standardized(one, of_member) for one, of_member in zip(calibrations, scores, strict=True)]
    together: np.ndarray = np.max(parts, axis=0) if rule == "max" else weights @ np.stack(parts)
    return np.asarray(together.astype(np.float32))


def combined_maps(
    rule: str, weights: np.ndarray, calibrations: Sequence[Calibration], maps: Sequence[np.ndarray | None]
) -> np.ndarray | None:
    """Maps of the members that make some, (N, H, W) each, to those of the ensemble; None where none does."""
    scaled = [
        (of_member - np.float32(one.map_low)) / np.float32((one.map_high - one.map_low) or 1.0)
        for of_member, one in zip(maps, calibrations, strict=True)
        if of_member is not None and one.map_low is not None and one.map_high is not None
    ]
    if not scaled:
        return None
    if rule == "max":
        return np.asarray(np.max(scaled, axis=0))
    weights = weights[[of_member is not None for of_member in maps]]
    # Members without maps may have all the weight: then those with maps count alike.
    return np.asarray(np.average(scaled, axis=0, weights=weights if weights.sum() > 0 else None).astype(np.float32))


def _standardized(calibration: Calibration, scores: np.ndarray) -> np.ndarray:
    """Scores in standard deviations from the mean of the out-of-fold normal scores."""
    normal = calibration.scores.astype(np.float64)
    deviation = normal.std(ddof=1)
    # A member that is constant on normal images has no scale of its own.
    return np.asarray((scores - normal.mean()) / (deviation if deviation > 0 else 1.0))
