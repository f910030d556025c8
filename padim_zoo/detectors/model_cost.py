"""What a model adds to the cost of a fit, beside what embeddings cost."""

from __future__ import annotations

from typing import Any

from padim_zoo.features.features import Features
from padim_zoo.statistics.accumulator import LARGE_ARRAYS


class ModelCost:
    """Of a model whose time and memory grow along a line with the number of patches."""

    grows_with_patches = True
    """Whether they do, but for :meth:`seconds`."""

    def seconds(self, detector: Any, features: Features, n: int, folds: int) -> float:
        """What of the time of a fit and its folds grows faster; here nothing.

        Parameters
        ----------
        detector : BackboneDetector
        features : Features
            Of one image.
        n : int
            Images of the fit.
        folds : int
        """
        return 0.0

    def memory(self, detector: Any, sample_bytes: int, budget: int) -> int:
        """Bytes in memory, at most, while a model is made of samples of a size."""
        return min(budget, LARGE_ARRAYS * sample_bytes)
