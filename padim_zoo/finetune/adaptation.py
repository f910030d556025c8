"""What adapting a backbone gives, whichever way it was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from padim_zoo.core.errors import InputError

FEWEST_IMAGES = 4
"""Fewer tell nothing."""


@dataclass(frozen=True)
class Adaptation:
    """An adapted backbone.

    Attributes
    ----------
    state : dict of str to Tensor
        Its tensors under the names of a weights file.
    used, held_out : ndarray of int64
        Indices of the images that were learned from, and of those that were not.
    report : dict
        What was done and how it went, in JSON's types.
    """

    state: dict[str, Tensor]
    used: np.ndarray
    held_out: np.ndarray
    report: dict[str, Any]

    @property
    def seen(self) -> np.ndarray:
        """Indices of the images that had a part in it: held-out ones too where these chose the epoch."""
        return np.union1d(self.used, self.held_out) if "best_epoch" in self.report else self.used


def hold_out(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut images in two.

    Parameters
    ----------
    count : int
    share : float
        Of the images held out: at least one, at most half of them.
    seed : int

    Returns
    -------
    used, held_out : ndarray of int64
        Indices, sorted.

    Raises
    ------
    InputError
        If there are fewer images than :data:`FEWEST_IMAGES`.
    """
    if count < FEWEST_IMAGES:
        raise InputError(
            f"{count} normal images are too few to learn from and hold some out: expected at least {FEWEST_IMAGES}, "
            "better 50"
        )
    order = np.random.default_rng(seed).permutation(count)
    out = min(count // 2, max(1, round(share * count)))
    return np.sort(order[out:]), np.sort(order[:out])
