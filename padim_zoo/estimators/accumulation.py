"""Normal images as they come: kept while they fit the memory, folded into moments when they no longer do."""

from __future__ import annotations

import psutil

from padim_zoo.embedding import PatchEmbeddings
from padim_zoo.errors import InputError
from padim_zoo.estimators.statistics import Moments, Samples

COPIES = 3
"""How often samples or moments are in memory at the worst moment: themselves, a copy about the mean, a merge."""

GIGABYTE = 1e9


def default_budget() -> int:
    """Half of the memory that is free now, in bytes."""
    return int(psutil.virtual_memory().available // 2)


class Accumulator:
    """Statistics of a stream of embeddings in bounded memory.

    Parameters
    ----------
    start : Samples, Moments or None
        What is known already.
    budget : int
        Bytes that samples or moments may take, working copies included.
    """

    def __init__(self, start: Samples | Moments | None, budget: int) -> None:
        self.budget = budget
        self._moments = start if isinstance(start, Moments) else None
        self._pending = [start.embeddings] if isinstance(start, Samples) else []

    def add(self, embeddings: PatchEmbeddings) -> None:
        """Count images in.

        Raises
        ------
        InputError
            If neither the samples nor their moments fit the budget.
        """
        self._pending.append(embeddings)
        bytes_of_samples = COPIES * sum(part.size_in_bytes() for part in self._pending)
        if self._moments is not None:
            # Moments are touched as a whole at each merge: worth it for as many images as fill half of what is left.
            left = self.budget - COPIES * Moments.bytes_needed(embeddings.P, embeddings.D)
            if bytes_of_samples > left / 2:
                self._fold()
        elif bytes_of_samples > self.budget:
            self._check_moments_fit()
            self._fold()

    def result(self) -> Samples | Moments:
        """Statistics of all images so far."""
        if self._moments is None:
            return Samples(PatchEmbeddings.concatenate(self._pending))
        if self._pending:
            self._fold()
        return self._moments

    def _fold(self) -> None:
        embeddings = PatchEmbeddings.concatenate(self._pending)
        self._pending = []
        if self._moments is None:
            self._moments = Moments.of(embeddings, embeddings.mean())
        else:
            self._moments = Moments.of(embeddings, self._moments.shift).absorb(self._moments)

    def _check_moments_fit(self) -> None:
        P, D = self._pending[0].P, self._pending[0].D
        needed = COPIES * Moments.bytes_needed(P, D)
        if needed > self.budget:
            n = sum(part.n for part in self._pending)
            raise InputError(
                f"{n} images of {P} patches and {D} dimensions do not fit the memory allowed, "
                f"{self.budget / GIGABYTE:.3g} GB: their moments take {needed / GIGABYTE:.3g} GB; allow more "
                "(--memory), or use fewer dims or images"
            )
