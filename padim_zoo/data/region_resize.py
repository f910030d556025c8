"""Numbered regions to the pixels of a resized image: whatever covers part of a pixel marks it.

Nearest neighbors would tear a mark that is narrower than the scale, or lose it; each speck would then count as a defect
of its own. Here a region keeps its number, and a pixel that two regions cover is of the one that covers more.
"""

from __future__ import annotations

import numpy as np


def resize_regions(regions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize numbered regions by the area that they cover, in whole numbers and so exactly.

    Parameters
    ----------
    regions : ndarray (H, W), int32
        0 where nothing is marked.
    size : tuple of int
        Height h and width w.

    Returns
    -------
    ndarray (h, w), int32
        Of equal areas the lower number wins.
    """
    from scipy import ndimage  # predict need not wait for it

    resized = np.zeros(size, dtype=np.int32)
    most = np.zeros(size)
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        if box is None:
            continue
        first, rows = _overlaps(regions.shape[0], size[0], box[0])
        left, columns = _overlaps(regions.shape[1], size[1], box[1])
        # Whole numbers of at most H·W, which float64 holds exactly, and has fast products for.
        area = rows @ (regions[box] == number).astype(np.float64) @ columns.T
        place = slice(first, first + len(rows)), slice(left, left + len(columns))
        larger = area > most[place]
        resized[place][larger] = number
        most[place][larger] = area[larger]
    return resized


def _overlaps(length: int, target: int, part: slice) -> tuple[int, np.ndarray]:
    """How much each pixel of a resized axis shares with each pixel of a part of the axis.

    Returns
    -------
    first : int
        The first resized pixel that shares anything.
    overlaps : ndarray (m, n), float64
        Of m resized pixels and the n of the part, in whole parts of ``1 / (length * target)`` of the
        axis.
    """
    first, last = part.start * target // length, -(-part.stop * target // length)
    resized = np.arange(first, last)[:, None]
    pixels = np.arange(part.start, part.stop)
    upper = np.minimum((resized + 1) * length, (pixels + 1) * target)
    return first, np.maximum(upper - np.maximum(resized * length, pixels * target), 0).astype(np.float64)
