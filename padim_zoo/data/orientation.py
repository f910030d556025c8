"""Which way up a picture is shown: the orientation that its file states, and arrays turned by it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ORIENTATION_TAG = 0x0112
UPRIGHT = 1

_TURNED_BY_QUARTERS = (5, 6, 7, 8)


class Geometry(NamedTuple):
    """How the pixels of a file are stored.

    Attributes
    ----------
    stored : tuple of int
        Height and width of the raster in the file.
    orientation : int
        The EXIF orientation, 1 to 8.
    """

    stored: tuple[int, int]
    orientation: int = UPRIGHT

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        height, width = self.stored
        return (width, height) if self.orientation in _TURNED_BY_QUARTERS else (height, width)


def valid_orientation(value: object) -> int:
    """An EXIF orientation; 1 for anything that is none."""
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """A stored raster (H, W, …) as a viewer shows it; a view of the array."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    # Rows first, then columns, as stored; after the swap they are those of the upright image.
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return array[::rows, ::columns]
