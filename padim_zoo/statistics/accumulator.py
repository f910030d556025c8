"""Normal images as they come: kept in memory while they fit, on disk beyond, and as moments where no disk has room.

Samples on disk, and not moments, because a threshold is made by leaving samples out of the fit. They are read back a
few times, patch block by patch block, and cost 4·n·D bytes for a position of a layer; moments cost 8·D² for each patch.
"""

from __future__ import annotations

from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount, free_memory
from padim_zoo.core.spill import NoRoomError, spill_above
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

COPIES = 3
"""How often moments are in memory at the worst moment: themselves, those of more images, a copy about a mean."""

LARGE_ARRAYS = 6
"""How many arrays of a fit are alive at the worst moment: all samples, those of a fold, these centered, and factors."""

MOST_PARTS = 128
"""Parts on disk, of one open file for each layer, that are joined at the latest."""


def default_budget() -> int:
    """Half of the memory that is free now, in bytes."""
    return free_memory() // 2


def largest_array(budget: int) -> int:
    """Bytes that one array of a fit may take in memory."""
    return budget // LARGE_ARRAYS


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
        self._stored = [start.embeddings] if isinstance(start, Samples) else []
        self._pending: list[PatchEmbeddings] = []
        self._pending_bytes = 0

    def add(self, embeddings: PatchEmbeddings) -> None:
        """Count images in.

        Raises
        ------
        InputError
            If a single image does not fit the budget, or the images fit neither the budget nor the disk, nor their
            moments the budget.
        """
        if COPIES * embeddings.size_in_bytes() > self.budget * embeddings.n:
            raise InputError(
                f"an image of {embeddings.P} patches and {embeddings.D} dimensions does not fit the memory allowed, "
                f"{amount(self.budget)}: allow more (--memory), or use fewer components"
            )
        self._pending.append(embeddings)
        self._pending_bytes += embeddings.size_in_bytes()
        if self._moments is not None:
            # Moments are touched as a whole at each merge: worth it for as many images as fill half of what is left.
            left = self.budget - COPIES * Moments.bytes_needed(embeddings.P, embeddings.D)
            if COPIES * self._pending_bytes > left / 2:
                self._fold()
        elif self._pending_bytes > largest_array(self.budget):
            try:
                self._store()
            except NoRoomError as error:
                self._fold_if_moments_fit(error)

    def result(self) -> Samples | Moments:
        """Statistics of all images so far.

        Raises
        ------
        InputError
            As of :meth:`add`.
        """
        if self._moments is None:
            try:
                with spill_above(largest_array(self.budget)):
                    parts = [*self._stored, *self._pending]
                    return Samples(PatchEmbeddings.concatenate(parts) if len(parts) > 1 else parts[0])
            except NoRoomError as error:
                self._fold_if_moments_fit(error)
        elif self._pending:
            self._fold()
        assert self._moments is not None
        return self._moments

    def _store(self) -> None:
        """Move what is in memory to disk, each position's images together: a block of patches is one read."""
        with spill_above(0):
            self._stored.append(PatchEmbeddings.concatenate(self._pending))
            self._pending, self._pending_bytes = [], 0
            if len(self._stored) > MOST_PARTS:
                self._stored = [PatchEmbeddings.concatenate(self._stored)]

    def _fold(self) -> None:
        if any(part.roi_masks is not None and part.subset is None for part in [*self._stored, *self._pending]):
            raise InputError(
                "images with regions of interest that differ are kept as samples, which fit neither the memory "
                "allowed nor the disk: allow more memory (--memory), free some disk, or use one mask for all images"
            )
        with spill_above(largest_array(self.budget)):
            parts = [*self._stored, PatchEmbeddings.concatenate(self._pending)] if self._pending else self._stored
        self._stored, self._pending, self._pending_bytes = [], [], 0
        # The moments themselves belong in memory: each merge touches all of them.
        for part in parts:
            if self._moments is None:
                self._moments = Moments.of(part, part.mean())
            else:
                self._moments = Moments.of(part, self._moments.reference).absorb(self._moments)

    def _fold_if_moments_fit(self, error: NoRoomError) -> None:
        first = (self._stored or self._pending)[0]
        if COPIES * Moments.bytes_needed(first.P, first.D) > self.budget:
            raise error
        self._fold()
