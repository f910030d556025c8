"""Near copies, such as frames of a burst: pairs of images that show the same thing, though no pixel need be equal.

Parts in one fixture look alike by nature, so a pair must pass two tests. On thumbnails it differs by next to nothing,
and far less than images of its data set do. And its fine detail, surface marks say, is the same. Detail is taken
relative to the contrast around it: else one outline, which all parts share, would outweigh all marks.

How much images of a data set differ is measured between bursts, not within them: a burst may be most of the images.
Where all images are alike there is no such distance. Then detail decides alone, and what it leaves open is told.

Measured on 60 transistors and 60 hazelnuts of MVTec AD, 67 drawn gears, and 24 drawn discs that were cut out: no two
different parts were linked. Of ten copies of each of the first three, these were found:

* JPEG of quality 40: 10 transistors, 8 hazelnuts, 10 gears; noise of 3 gray levels, 10 % brighter, half the size: all;
* moved by 0.3 % of the width: 10, 9, 10; by 2 %: 2, 8, 10; a third of the size: 0, 10, 3.

The detail of different parts, at the 25 closest pairs of each, correlates by at most 0.74. That of copies correlates by
0.85 or more. Exceptions are a third of the size, and JPEG of hazelnuts (0.76), most of which are sure copies.

The ball screw of BSData has 768 images of 15 places, which make 233 groups, none of two places.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from padim_zoo.core.progress import told
from padim_zoo.data.groups import connected_groups
from padim_zoo.data.image_hashes import SIDE

FINE, COARSE = 2.0, 8.0
"""Sigmas of the blurs between which detail is compared, in pixels of a thumbnail."""
STEP = 4
"""Every fourth pixel is compared: the finer blur leaves nothing in between."""
MOST_TRANSLATION = 4
"""Pixels of a thumbnail that one image may be moved against the other: 3 % of the image."""

SHARE_OF_TYPICAL = 0.08
"""Near copies differ by at most this share of the typical distance of either: the median of those to other bursts."""
LARGEST_DISTANCE = 0.0025
"""And by no more than this, however much the other images differ."""
SURE_SHARE, VARIED = 0.006, 0.3
"""Where the typical distance is large, copies at most this share of it apart need agree less in fine detail."""
SURE_DISTANCE = 2e-4
"""Images this close may be near copies whatever the others are like."""

FINE_DETAIL = 0.7, 2.0
"""Sigmas of the blurs between which fine detail is compared, in pixels of a thumbnail of twice the size."""
LOCAL, LEAST_CONTRAST = 4.0, 2.0
"""Sigma of the blur that gives the contrast around a pixel, and the gray levels below which detail is noise."""
LEAST_CORRELATION = 0.82
"""Of the fine detail of near copies."""
ALIKE_CORRELATION = 0.65
"""Of grainy frames and of sure copies. Images that agree so much are one burst where typical distances are measured."""
UNCLEAR_CORRELATION = 0.76
"""From here on, close images that are not linked are told."""

_IMAGES_AT_ONCE = 32
_DETAILS_HELD = 512
"""Of half a MiB each."""


class NearCopies(NamedTuple):
    """What :func:`near_copies` finds."""

    links: list[tuple[int, int]]
    """Pairs of near copies, the lower index first. They join all near copies, and no link closes a ring."""
    n_unclear: int
    """Images that look like one thing with their nearest, and are not linked to it."""


def near_copies(thumbnails: Sequence[np.ndarray]) -> NearCopies:
    """Find near copies among n gray thumbnails (2·SIDE, 2·SIDE), uint8."""
    distances = _distances(thumbnails)
    correlation = _correlations(thumbnails)
    bursts, similar = _bursts(distances, correlation)
    typical = typical_distances(distances, bursts)
    first, second = np.nonzero(np.triu(distances <= _limit(np.minimum.outer(typical, typical)), 1))
    least = np.minimum(typical[first], typical[second])
    sure = (distances[first, second] <= SURE_SHARE * least) & (least >= VARIED)
    order = np.argsort(~sure, kind="stable")
    linked = np.arange(len(thumbnails))  # equal for images that links connect
    links = []
    for i, j, is_sure in zip(first[order].tolist(), second[order].tolist(), sure[order].tolist(), strict=True):
        least_correlation = ALIKE_CORRELATION if is_sure else LEAST_CORRELATION
        if linked[i] != linked[j] and correlation(i, j) >= least_correlation:
            linked[linked == linked[j]] = linked[i]
            links.append((i, j))
    bar = UNCLEAR_CORRELATION if bursts.any() else ALIKE_CORRELATION
    unclear = [pair for pair in similar if correlation(*pair) >= bar and linked[pair[0]] != linked[pair[1]]]
    return NearCopies(sorted(links), len({image for pair in unclear for image in pair}))


def _distances(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """Distances (n, n), float32, the lesser of both directions; infinite from an image to itself.

    Bands of all images are never there at once: they would take far more memory than thumbnails.
    """
    n = len(thumbnails)
    starts = range(0, n, _IMAGES_AT_ONCE)
    blocks = [slice(start, start + _IMAGES_AT_ONCE) for start in starts]
    fixed = np.concatenate([_fixed_windows(_bands(thumbnails[block])) for block in blocks])
    distances = np.empty((n, n), dtype=np.float32)
    for block in told(blocks, "comparing images", len(blocks), "blocks"):
        distances[:, block] = _least_distances(fixed, _bands(thumbnails[block]))
    np.fill_diagonal(distances, np.inf)
    for start in starts:  # in place: a second matrix of so many images is not small either
        rows = slice(start, start + _IMAGES_AT_ONCE)
        lesser = np.minimum(distances[rows, start:], distances[start:, rows].T)
        distances[rows, start:], distances[start:, rows] = lesser, lesser.T
    return distances


def _bands(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """What is compared of thumbnails, (n, SIDE, SIDE), float32."""
    stacked = np.stack(thumbnails)
    rows = stacked[:, ::2].astype(np.uint16) + stacked[:, 1::2]
    return _band((rows[:, :, ::2] + rows[:, :, 1::2]) / np.float32(4), FINE, COARSE)


def _bursts(distances: np.ndarray, correlation: Correlation) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Groups (n,), int64, of images that may be frames of one thing, and the pairs that tell so.

    Each image tries the nearest one of another group, until nothing joins. To try all pairs would take far longer.
    """
    n = len(distances)
    tried: set[tuple[int, int]] = set()
    links: list[tuple[int, int]] = []
    while True:
        groups = connected_groups(n, links)
        outside = np.where(groups[:, None] == groups, np.inf, distances)
        nearest = outside.argmin(axis=1)
        close = np.flatnonzero(outside[np.arange(n), nearest] <= LARGEST_DISTANCE)
        pairs = {(min(i, j), max(i, j)) for i, j in zip(close.tolist(), nearest[close].tolist(), strict=True)} - tried
        similar = [pair for pair in sorted(pairs) if correlation(*pair) >= ALIKE_CORRELATION]
        if not similar:
            return groups, links
        tried |= pairs
        links += similar


def typical_distances(distances: np.ndarray, bursts: np.ndarray) -> np.ndarray:
    """Of each image, the median (n,) of its distances to other bursts, each the least to a frame.

    Of a single burst, so much that distances are limited by ``LARGEST_DISTANCE`` alone.
    """
    n_bursts = int(bursts.max(initial=-1)) + 1
    if n_bursts < 2:
        return np.full(len(bursts), LARGEST_DISTANCE / SHARE_OF_TYPICAL, dtype=np.float32)
    order = np.argsort(bursts, kind="stable")
    starts = np.searchsorted(bursts[order], np.arange(n_bursts))
    least = np.minimum.reduceat(distances[:, order], starts, axis=1)
    least[np.arange(len(bursts)), bursts] = np.nan
    return np.asarray(np.nanmedian(least, axis=1))


Correlation = Callable[[int, int], float]
"""Of the fine detail of two thumbnails, by their indices, at the best translation."""


def _correlations(thumbnails: Sequence[np.ndarray]) -> Correlation:
    """Correlations of thumbnails (2·SIDE, 2·SIDE), each computed once.

    What is remembered goes with the last reference to the function: no cycle holds it.
    """
    detail_of = functools.lru_cache(_DETAILS_HELD)(lambda index: _detail(thumbnails[index]))
    return functools.cache(lambda one, other: _correlation(detail_of(one), detail_of(other)))


def _detail(thumbnail: np.ndarray) -> _Detail:
    from scipy import fft

    detail = _relative_detail(thumbnail.astype(np.float32))
    inner = np.zeros_like(detail)
    inner[_INNER, _INNER] = detail[_INNER, _INNER] - detail[_INNER, _INNER].mean()
    inner /= max(float(np.linalg.norm(inner)), 1e-6)
    squares = _window_sums(detail**2) - _window_sums(detail) ** 2 / _WINDOW**2
    return _Detail(fft.rfft2(detail), fft.rfft2(inner).conj(), np.sqrt(np.maximum(squares, 1e-12)))


def _correlation(fixed: _Detail, moved: _Detail) -> float:
    from scipy import fft

    # Only rows and columns of translations within the margin are transformed back.
    rows = fft.ifft(moved.spectrum * fixed.inner_spectrum, axis=0)[_SHIFTS]
    products = fft.irfft(rows, n=2 * SIDE, axis=1)[:, _SHIFTS]
    best = products.argmax()
    return float(products.flat[best] / moved.lengths.flat[best])


_MARGIN = 2 * MOST_TRANSLATION + 2
_WINDOW = 2 * (SIDE - _MARGIN)
_INNER = slice(_MARGIN, -_MARGIN)
_SHIFTS = np.arange(-_MARGIN, _MARGIN + 1)


class _Detail(NamedTuple):
    """What is kept of the fine detail of one thumbnail."""

    spectrum: np.ndarray
    inner_spectrum: np.ndarray
    """The conjugate one of what lies within the margin, made to have mean 0 and length 1."""
    lengths: np.ndarray
    """Of each window within the thumbnail, less its mean, by the translation down and right."""


def _window_sums(values: np.ndarray) -> np.ndarray:
    """Sums of the windows of an image (H, W), float64, by how far down and right they begin."""
    for _ in range(2):  # along rows, then along columns
        first = values[:_WINDOW].sum(axis=0, keepdims=True, dtype=np.float64)
        moved = np.cumsum(values[_WINDOW:] - values[:-_WINDOW], axis=0, dtype=np.float64)
        values = np.concatenate([first, first + moved]).T
    return values


def _relative_detail(images: np.ndarray) -> np.ndarray:
    """Fine detail of images (…, H, H), float32, as a share of the contrast around each pixel."""
    detail = _band(images, *FINE_DETAIL)
    contrast = np.sqrt(_filtered(detail**2, _response(images.shape[-1], LOCAL)) + np.float32(LEAST_CONTRAST**2))
    return np.asarray(detail / contrast)


def _band(images: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """What lies between two blurs of images (…, H, H), float32."""
    side = images.shape[-1]
    return _filtered(images, _response(side, fine) - _response(side, coarse))


def _filtered(images: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Images (…, H, H), each cosine of which is multiplied by its response (H, H)."""
    from scipy import fft

    return np.asarray(fft.idctn(fft.dctn(images, axes=(-2, -1)) * response, axes=(-2, -1)))


@functools.cache
def _response(side: int, sigma: float) -> np.ndarray:
    """What a Gaussian blur, cut off at four sigmas, leaves of each cosine (side, side), float32.

    Cosines go on beyond the edges as mirror images do. So it is ``scipy.ndimage.gaussian_filter``, but faster.
    """
    offsets = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    along = np.cos(np.pi / side * np.outer(np.arange(side), offsets)) @ (weights / weights.sum())
    return np.outer(along, along).astype(np.float32)


def _limit(typical: np.ndarray) -> np.ndarray:
    return np.maximum(SURE_DISTANCE, np.minimum(LARGEST_DISTANCE, SHARE_OF_TYPICAL * typical))


def least_distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """One minus the correlation of thumbnails (m, SIDE, SIDE) and (n, SIDE, SIDE) at the best translation, (m, n)."""
    return _least_distances(_fixed_windows(some), others)


def _fixed_windows(details: np.ndarray) -> np.ndarray:
    """Windows (n, pixels) in the middle of thumbnails, which those of others are moved against."""
    return _normalized(details, MOST_TRANSLATION, MOST_TRANSLATION)


def _least_distances(fixed: np.ndarray, others: np.ndarray) -> np.ndarray:
    """As :func:`least_distances`, by windows (m, pixels).

    Between whole pixels the correlation goes on as a parabola through its peak, down and right.
    """
    count = 2 * MOST_TRANSLATION + 1
    translations = [(down, right) for down in range(count) for right in range(count)]
    # One product for all translations: threads of OpenBLAS are woken once.
    moved = np.concatenate([_normalized(others, *translation) for translation in translations])
    correlations = (moved @ fixed.T).reshape(count, count, len(others), len(fixed)).transpose(0, 1, 3, 2)
    i, j = np.indices(correlations.shape[2:])
    down, right = np.divmod(correlations.reshape(count * count, len(fixed), len(others)).argmax(axis=0), count)
    peak = correlations[down, right, i, j]
    gain = np.zeros_like(peak)
    for along_down, along_right in ((1, 0), (0, 1)):
        position = down if along_down else right
        inner = (position > 0) & (position < count - 1)
        sides = [
            correlations[(down + sign * along_down * inner), (right + sign * along_right * inner), i, j]
            for sign in (-1, 1)
        ]
        curvature = np.maximum(2 * peak - sides[0] - sides[1], 1e-9)
        gain += np.where(inner, (sides[1] - sides[0]) ** 2 / (8 * curvature), 0)
    return np.asarray(1 - np.minimum(peak + gain, 1))


def _normalized(details: np.ndarray, down: int, right: int) -> np.ndarray:
    """Windows (n, pixels) of thumbnails, of mean 0 and length 1."""
    size = SIDE - 2 * MOST_TRANSLATION
    window = details[:, down : down + size : STEP, right : right + size : STEP].reshape(len(details), -1)
    window = window - window.mean(axis=1, keepdims=True)
    return np.asarray(window / np.maximum(np.linalg.norm(window, axis=1, keepdims=True), 1e-3))
