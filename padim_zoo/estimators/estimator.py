"""The contract of every estimator: embeddings of normal images in, one Gaussian per patch out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from padim_zoo.core.errors import InputError
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.registry import estimators
from padim_zoo.statistics.samples import Statistics

if TYPE_CHECKING:
    from typing_extensions import Self

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

    supports_missing_patches: ClassVar[bool] = False
    """Whether it asks statistics for ``count(patches)``, and so may be given samples that some images lack."""

    same_shrinkage_everywhere: ClassVar[bool] = False
    """Whether Σ is S + εI at every patch: then patches that share a position share its covariance."""

    supports_devices: ClassVar[bool] = False
    """Whether it fits to statistics on any device, and its Gaussians lie there."""

    def __init__(self, epsilon: float = EPSILON) -> None:
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon < float("inf"):
            raise InputError(f"epsilon is {epsilon!r}: expected a number that is not negative, e.g. {EPSILON}")
        self.epsilon = float(epsilon)

    @abstractmethod
    def fit(self, statistics: Statistics) -> Gaussian:
        """Fit to what is known of n ≥ 1 normal images."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name, as scikit-learn's estimators give them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **parameters: Any) -> Self:
        """Change constructor arguments, checked as the constructor checks them.

        Raises
        ------
        InputError
            If a value is none that the constructor takes; nothing is changed then.
        ValueError
            If a name is no argument of the constructor.
        """
        before = self.get_params()
        for name in parameters:
            if name not in before:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}: expected {', '.join(before)}")
        vars(self).update(vars(type(self)(**{**before, **parameters})))
        return self

    def __repr__(self) -> str:
        """The call of the constructor."""
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.get_params().items())})"


def estimators_for_missing_patches() -> list[str]:
    """The registered estimators that take samples which some images lack at some patches."""
    entries = (estimators.entry(name) for name in estimators.names())
    return [entry.name for entry in entries if getattr(entry.factory, "supports_missing_patches", False)]
