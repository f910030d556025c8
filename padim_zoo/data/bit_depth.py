"""How many bits of 16-bit samples are used: by the file's own word, or as far as the samples tell."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.data.decoding import Picture

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras have."""

FULL_DEPTH = 16

OUTLIERS = 1e-3
"""The share of samples that may lie above white: saturated pixels and marks do not decide a depth."""


_AT_ONCE = 2**20


class SampleCounts(NamedTuple):
    """What deep samples say of their depth.

    Attributes
    ----------
    above : tuple of int
        Samples beyond each of :data:`DEPTHS`.
    total : int
        All samples; 0 where none is deep.
    bits : int
        The most that a file states; 0 where none states any.
    unstated : int
        Samples of files that state nothing.
    """

    above: tuple[int, ...] = (0,) * len(DEPTHS)
    total: int = 0
    bits: int = 0
    unstated: int = 0

    def plus(self, other: SampleCounts) -> SampleCounts:
        """The counts of both."""
        above = tuple(one + two for one, two in zip(self.above, other.above, strict=True))
        return SampleCounts(above, self.total + other.total, max(self.bits, other.bits), self.unstated + other.unstated)

    @property
    def depth(self) -> int:
        """The bits that are stated, as far as the samples agree; else the fewest of :data:`DEPTHS` that hold them."""
        fewest = next((d for d, above in zip(DEPTHS, self.above, strict=True) if above <= OUTLIERS * self.total), 16)
        return self.bits if self.bits >= fewest and not self.unstated else fewest

    @property
    def depth_or_full(self) -> int:
        """The same; 16 where no sample is deep, so that nothing is known."""
        return self.depth if self.total else FULL_DEPTH


def largest_of(depth: int) -> int:
    """The largest sample that so many bits hold."""
    return int(2**depth - 1)


def white_of(depth: int) -> int:
    """The sample that becomes 255.

    That of 10 to 14 bits is a multiple of 255, so that the 8-bit level is the upper 8 bits, as a camera that is set to
    8 bits gives it. In files of 16 bits white is 65535, by their formats.
    """
    return largest_of(depth) if depth == FULL_DEPTH else 255 << depth - 8


def check_depth(value: Any) -> int | None:
    """The bit depth that a parameter asks for; None for ``"auto"``.

    Raises
    ------
    InputError
        If it is none of :data:`DEPTHS`.
    """
    if value == "auto":
        return None
    if str(value) in map(str, DEPTHS) and not isinstance(value, bool):
        return int(value)
    raise InputError(f"bit_depth is {value!r}: expected auto, {', '.join(map(str, DEPTHS))}")


def counts_of(samples: np.ndarray, bits: int | None = None) -> SampleCounts:
    """The counts of deep samples, of a file that may state its bits."""
    above = np.zeros(len(DEPTHS), dtype=np.int64)
    step = max(1, _AT_ONCE * len(samples) // max(1, samples.size))
    for top in range(0, len(samples), step):
        part = np.ascontiguousarray(samples[top : top + step])  # several times faster than a view of some channels
        above += [np.count_nonzero(part > largest_of(depth)) for depth in DEPTHS]
    return SampleCounts(tuple(above.tolist()), samples.size, bits or 0, 0 if bits else samples.size)


def counts_of_picture(picture: Picture) -> SampleCounts:
    """The counts of a decoded file."""
    return counts_of(picture.samples, picture.bits) if picture.deep else SampleCounts()
