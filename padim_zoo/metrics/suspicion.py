"""Which scores of normal images are too high to belong to the others."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from scipy.stats import t

_QUARTILES = NormalDist().inv_cdf(0.75) - NormalDist().inv_cdf(0.25)
_LEAST = 1e-9
_EFFICIENCY = 0.37
"""A width from quartiles of n numbers is as certain as a standard deviation of this share of them."""


def bulk_p_values(scores: np.ndarray) -> np.ndarray:
    """The share of the bulk of scores at or above each, by a lognormal distribution through median and quartiles.

    Its width is uncertain where images are few, so the tail is Student's.

    Parameters
    ----------
    scores : ndarray (n,)
        Positive; what is not counts as very small.

    Returns
    -------
    ndarray (n,), float64
    """
    center, width = _bulk(scores)
    return np.asarray(t.sf((_logarithms(scores) - center) / width, _freedom(len(scores))))


def score_of_p_value(scores: np.ndarray, p_value: float) -> float:
    """The score that has a p-value among these."""
    center, width = _bulk(scores)
    return float(np.exp(center + width * t.isf(p_value, _freedom(len(scores)))))


def benjamini_hochberg(p_values: np.ndarray, rate: float) -> np.ndarray:
    """Which p-values (n,) are too small, bool, so that a share ``rate`` of them is there by chance.

    Benjamini and Hochberg, "Controlling the false discovery rate", J. R. Statist. Soc. B 57 (1995).
    """
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    below = np.flatnonzero(p_values[order] <= rate * np.arange(1, n + 1) / n)
    rejected = np.zeros(n, dtype=bool)
    if len(below):
        rejected[order[: below[-1] + 1]] = True
    return rejected


def _logarithms(scores: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(scores, dtype=np.float64), _LEAST))


def _bulk(scores: np.ndarray) -> tuple[float, float]:
    """Center and width of log-scores."""
    low, center, high = np.quantile(_logarithms(scores), [0.25, 0.5, 0.75]).tolist()
    return center, max((high - low) / _QUARTILES, _LEAST)


def _freedom(n: int) -> float:
    """Degrees of freedom of the tail."""
    return max(1.0, _EFFICIENCY * n - 1)
