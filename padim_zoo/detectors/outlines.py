"""The outlines of a mask as polygons, along the edges of its pixels."""

from __future__ import annotations

import numpy as np

Ring = list[tuple[int, int]]
"""Corners (x, y) of a closed line; the first is not repeated."""

_RIGHT_TURNS = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}


def outlines(mask: np.ndarray) -> list[Ring]:
    """The rings around the pixels of a mask (h, w), bool, and around its holes.

    A point lies in the mask where it is inside an odd number of rings. Outer rings go clockwise, with the mask at their
    right; holes go the other way. Pixels that touch at a corner alone have rings of their own.
    """
    padded = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (down, right), (start_y, start_x), step in (
        ((1, 0), (0, 0), (1, 0)),  # the pixel above is outside: its upper edge, from left to right
        ((-1, 0), (1, 1), (-1, 0)),
        ((0, 1), (1, 0), (0, -1)),
        ((0, -1), (0, 1), (0, 1)),
    ):
        outside = np.roll(padded, (down, right), (0, 1))
        for y, x in np.argwhere(padded & ~outside).tolist():
            steps.setdefault((x - 1 + start_x, y - 1 + start_y), []).append(step)
    rings = []
    while steps:
        start = corner = min(steps)  # its leftmost corner, where no other ring touches it
        ring: Ring = []
        before = None
        while corner != start or before is None:
            leaving = steps[corner]
            step = leaving[0] if len(leaving) == 1 or before is None else _RIGHT_TURNS[before]
            leaving.remove(step)
            if not leaving:
                del steps[corner]
            if step != before:
                ring.append(corner)
            corner, before = (corner[0] + step[0], corner[1] + step[1]), step
        rings.append(ring)
    return rings
