"""Scores in sorted blocks: of more pixels than memory holds, all that a ranking asks for is a count.

A block is sorted by itself. How many scores exceed another one is the sum over the blocks, so nothing is merged, and
nothing is rounded or binned. Within :func:`~padim_zoo.core.spill.spill_above`, blocks lie in mapped files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np

BLOCK = 2**24
"""Scores of a block; changes speed and memory, never a count."""

_PIECE = 2**18
"""Scores from which on a second thread is worth its start."""
_MOST_PIECES = 4
"""Of a block that two threads sort: each piece is searched for each score that is counted."""


class SortedScores:
    """M scores.

    Parameters
    ----------
    blocks : sequence of ndarray (m_i,), float
        Each ascending, all of one type.
    """

    def __init__(self, blocks: Sequence[np.ndarray]) -> None:
        self.blocks = tuple(blocks)
        self._count = sum(map(len, self.blocks))

    @classmethod
    def of(cls, parts: Iterable[np.ndarray]) -> SortedScores:
        """Sort scores that come in parts; more than a block of them are never in memory, where blocks lie in files."""
        blocks = _joined(parts)
        first = next(blocks, None)
        if first is None:
            return cls(())
        second = next(blocks, None)
        if second is None:
            return cls(_sorted_pieces(first))
        return cls(tuple(_put_aside(np.sort(block)) for block in chain((first, second), blocks)))

    def __len__(self) -> int:
        return self._count

    def count_above(self, scores: np.ndarray) -> np.ndarray:
        """How many are strictly higher than each of some scores (P,), int64."""
        return self._count - self._positions(scores, "right")

    def count_at_or_above(self, scores: np.ndarray) -> np.ndarray:
        """How many are at least as high as each of some scores (P,), int64."""
        return self._count - self._positions(scores, "left")

    def highest_below(self, score: float) -> float | None:
        """The highest of those that are lower; None if none is."""
        ends = ((block, int(np.searchsorted(block, score, side="left"))) for block in self.blocks)
        lower = [block[end - 1] for block, end in ends if end]
        return max(lower) if lower else None

    def _positions(self, scores: np.ndarray, side: str) -> np.ndarray:
        positions = np.zeros(len(scores), dtype=np.int64)
        for block in self.blocks:
            positions += np.searchsorted(block, scores, side=side)  # type: ignore[call-overload]
        return positions


def highest(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The highest ``count`` of scores that come in parts of any shape, ascending; all, where there are fewer."""
    top = np.empty(0, dtype=parts[0].dtype if len(parts) else np.float32)
    if count == 0:
        return top
    for block in _joined(part.ravel() for part in parts):
        if len(top) == count:
            block = block[block > top[0]]
        top = np.concatenate([top, block])
        if len(top) > count:
            top = np.partition(top, len(top) - count)[len(top) - count :]
        top = np.sort(top)
    return top


def quantile(parts: Sequence[np.ndarray], q: float) -> float:
    """The quantile of scores that come in parts of any shape, at least one score: NumPy's, interpolated linearly."""
    count = sum(part.size for part in parts)
    if count <= BLOCK:
        return float(np.quantile(np.concatenate([part.ravel() for part in parts]), q))
    at = (count - 1) * q
    lower = int(np.floor(at))
    top = highest(parts, count - lower)
    return float(np.quantile(top[:2], at - lower)) if len(top) > 1 else float(top[0])


def _sorted_pieces(block: np.ndarray) -> list[np.ndarray]:
    """A block in pieces that two threads sort."""
    pieces = np.array_split(block, min(-(-len(block) // _PIECE), _MOST_PIECES) or 1)
    if len(pieces) == 1:
        return [np.sort(block)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(np.sort, pieces))


def _put_aside(block: np.ndarray) -> np.ndarray:
    """The same block where arrays of its size are to lie."""
    import torch  # a leaderboard need not wait for it

    from padim_zoo.core.spill import empty, release

    scores = torch.from_numpy(block)
    aside = empty(len(scores), dtype=scores.dtype)
    aside.copy_(scores)
    release()
    return aside.numpy()


def _joined(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks of about :data:`BLOCK` scores."""
    waiting: list[np.ndarray] = []
    size = 0
    for part in parts:
        for start in range(0, max(len(part), 1), BLOCK):
            waiting.append(part[start : start + BLOCK])
            size += len(waiting[-1])
            if size >= BLOCK:
                yield np.concatenate(waiting)
                waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting)
