"""What the normal images of a fit tell of images themselves, beside their features."""

from __future__ import annotations

from dataclasses import dataclass

from padim_zoo.data.bit_depth import FULL_DEPTH, largest_of
from padim_zoo.features.poses import Mover


@dataclass(frozen=True)
class ImageFacts:
    """All images of a detector are read by them.

    Attributes
    ----------
    bit_depth : int or None
        How many bits samples of more than 8 bits were found to use.
    registration : Mover or None
        What brings images to the mean pose of the part; None where they stay as they are.
    registration_note : str
        Why images are not moved as ``register`` asks.
    """

    bit_depth: int | None = None
    registration: Mover | None = None
    registration_note: str = ""


def describe_depth(depth: int) -> dict[str, str]:
    """The bit depth in words, where it is not that of the files."""
    return {} if depth == FULL_DEPTH else {"bit depth": f"{depth}, white is {largest_of(depth)}"}
