"""The contract of every estimator: embeddings of normal images in, one Gaussian per patch out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from padim_zoo.errors import InputError
from padim_zoo.estimators.gaussian import Gaussian
from padim_zoo.estimators.statistics import Statistics

EPSILON = 0.01
"""What PaDiM adds to the diagonal of the sample covariance (arXiv 2011.08785, equation 1)."""


class Estimator(ABC):
    """Estimates a Gaussian at each patch.

    Parameters
    ----------
    epsilon : float
        Added to the diagonal of every covariance; in units of squared features.

    Raises
    ------
    InputError
        If ``epsilon`` is negative or not a number.
    """

    def __init__(self, epsilon: float = EPSILON) -> None:
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon < float("inf"):
            raise InputError(f"epsilon is {epsilon!r}: expected a number that is not negative, e.g. {EPSILON}")
        self.epsilon = float(epsilon)

    @abstractmethod
    def fit(self, statistics: Statistics) -> Gaussian:
        """Fit to what is known of n ≥ 1 normal images."""

    def get_params(self) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return dict(vars(self))
