"""Images that show the same thing twice: equal pixels, and near copies such as frames of a burst.

Parts in one fixture look alike by nature, so a pair must pass two tests. On thumbnails it differs by next to nothing,
and far less than images of its data set do. And its fine detail, surface marks say, is the same. Detail is taken
relative to the contrast around it: else one outline, which all parts share, would outweigh all marks.

Measured, n images with the links between different parts, of which there were none: 60 transistors and 60 hazelnuts
of MVTec AD, 67 drawn gears, 24 drawn discs that were cut out. Of ten copies of each of the first three, those found:

* JPEG of quality 40: 10 transistors, 8 hazelnuts, 10 gears; noise of 3 gray levels, 10 % brighter, half the size: all;
* moved by 0.3 % of the width: 10, 9, 10; by 2 %: 2, 8, 10; a third of the size: 0, 10, 3.

The detail of different parts, at the 25 closest pairs of each, correlates up to 0.74. That of the copies does from 0.85
on, but for a third of the size, and for JPEG of hazelnuts (0.76), which mostly pass by their thumbnails alone.

The ball screw of BSData has 768 images of 8 places. They have 1066 links, none between two places, and make 304 groups.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.data.content import content_hash
from padim_zoo.data.image_hashes import SIDE, Fingerprint, KeptFingerprints, fingerprint_of_file, hash_of_file
from padim_zoo.data.sample import Sample
from padim_zoo.data.training_depth import counts_of_images

FINE, COARSE = 2.0, 8.0
"""Sigmas of the blurs between which detail is compared, in pixels of a thumbnail."""
STEP = 4
"""Every fourth pixel is compared: the finer blur leaves nothing in between."""
MOST_TRANSLATION = 4
"""Pixels of a thumbnail that one image may be moved against the other: 3 % of the image."""

SHARE_OF_TYPICAL = 0.08
"""Near copies differ by at most this share of the median distance of either to all other images."""
LARGEST_DISTANCE = 0.0025
"""And by no more than this, however much the other images differ."""
SURE_SHARE, VARIED = 0.006, 0.3
"""Where the typical distance is large, copies at most this share of it apart need not agree in fine detail."""
SURE_DISTANCE = 2e-4
"""Images this close may be near copies whatever the others are like: so are all frames of one thing."""

FINE_DETAIL = 0.7, 2.0
"""Sigmas of the blurs between which fine detail is compared, in pixels of a thumbnail of twice the size."""
LOCAL, LEAST_CONTRAST = 4.0, 2.0
"""Sigma of the blur that gives the contrast around a pixel, and the gray levels below which detail is noise."""
LEAST_CORRELATION = 0.82
"""Of the fine detail of near copies."""

MOST_IMAGES = 3000
"""Of more images only equal ones are found: the time to compare grows with the square of their number."""

_CORRELATIONS_AT_ONCE = 30_000_000


class Pair(NamedTuple):
    """Two images that show the same thing, by their indices."""

    first: int
    second: int
    kind: Literal["exact", "near"]


@dataclass(frozen=True)
class Duplicates:
    """What :func:`find_duplicates` finds among n images.

    Attributes
    ----------
    pairs : tuple of Pair
        Each image that has copies, with the first of them: exact ones, and near ones that are not exact.
    groups : ndarray (n,), int64
        Equal for images that are linked by copies of either kind; 0, 1, 2 … in the order of their first images.
    """

    pairs: tuple[Pair, ...]
    groups: np.ndarray

    @property
    def n_groups(self) -> int:
        """The number of different images."""
        return int(self.groups.max(initial=-1)) + 1

    def notes(self, n_train: int) -> list[str]:
        """What a reader of figures should know, if the first ``n_train`` images are to fit and the others to test."""
        within = {
            "among the images to fit": [pair for pair in self.pairs if pair.second < n_train],
            "among the test images": [pair for pair in self.pairs if pair.first >= n_train],
            "of images to fit among the test images": self.crossing(n_train),
        }
        return [f"{_counted(pairs)} {where}" for where, pairs in within.items() if pairs]

    def crossing(self, n_train: int) -> list[Pair]:
        """Copies among the test images of images to fit."""
        return [pair for pair in self.pairs if pair.first < n_train <= pair.second]


def _counted(pairs: Sequence[Pair]) -> str:
    exact = sum(pair.kind == "exact" for pair in pairs)
    parts = [f"{count} {kind}" for count, kind in ((exact, "exact"), (len(pairs) - exact, "near")) if count]
    return f"{' and '.join(parts)} {'copy' if len(pairs) == 1 else 'copies'}"


def find_duplicates(images: Sequence[Path | Sample], kept: KeptFingerprints | None = None) -> Duplicates:
    """Find images with equal pixels, and near copies.

    An image that cannot be read is a copy of none. 16-bit samples are read in the depth that all images together use:
    else those of 10 bits would leave four levels of gray, which differ too little.

    Parameters
    ----------
    images : sequence of Path or Sample
        Of one category, so that the typical distance between them means something.
    kept : KeptFingerprints, optional
        Where fingerprints are kept, so that images need not be decoded again.
    """
    paths = tuple(image.path if isinstance(image, Sample) else image for image in images)
    return _find(paths, tuple(map(_version, paths)), kept)


@functools.lru_cache(maxsize=64)
def _find(paths: tuple[Path, ...], versions: tuple[str, ...], kept: KeptFingerprints | None) -> Duplicates:
    there = [path for path, version in zip(paths, versions, strict=True) if version]
    depth = counts_of_images(there).depth_or_full
    with ThreadPoolExecutor() as executor:
        found = executor.map(functools.partial(_fingerprint_of, depth=depth, kept=kept), paths)
        return duplicates_of(list(told(found, "looking for copies", len(paths))))


def _version(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError:
        return ""


def _fingerprint_of(path: Path, depth: int, kept: KeptFingerprints | None) -> Fingerprint | None:
    try:
        return fingerprint_of_file(path, depth, kept)
    except InputError:
        return None


def duplicates_of(fingerprints: Sequence[Fingerprint | None]) -> Duplicates:
    """Find copies by fingerprints; None is a copy of none."""
    n = len(fingerprints)
    first_of: dict[str, int] = {}
    pairs: list[Pair] = []
    for index, one in enumerate(fingerprints):
        if one is not None:
            first = first_of.setdefault(one.pixels, index)
            if first != index:
                pairs.append(Pair(first, index, "exact"))
    different = np.array(sorted(first_of.values()), dtype=np.int64)
    if 2 <= len(different) <= MOST_IMAGES:
        thumbnails = np.stack([one.thumbnail for index in different if (one := fingerprints[index]) is not None])
        copies = [(int(different[i]), int(different[j])) for i, j in near_copies(thumbnails)]
        groups = connected_groups(n, copies)
        firsts = {int(group): int(index) for index, group in reversed(list(enumerate(groups)))}
        linked = sorted({index for pair in copies for index in pair})
        pairs += [Pair(firsts[int(groups[i])], i, "near") for i in linked if firsts[int(groups[i])] != i]
    return Duplicates(tuple(pairs), connected_groups(n, [(pair.first, pair.second) for pair in pairs]))


def near_copies(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of near copies among gray thumbnails (n, 2·SIDE, 2·SIDE), uint8."""
    n = len(thumbnails)
    halved = thumbnails.reshape(n, SIDE, 2, SIDE, 2).mean(axis=(2, 4), dtype=np.float32)
    details = _band(halved, FINE, COARSE)
    rows, columns, distances = [], [], []
    typical = np.empty(n, dtype=np.float32)
    at_once = max(1, _CORRELATIONS_AT_ONCE // (n * (2 * MOST_TRANSLATION + 1) ** 2))
    starts = range(0, n, at_once)
    for start in told(starts, "comparing images", len(starts), "blocks"):
        block = least_distances(details[start : start + at_once], details)
        own = np.arange(len(block))
        block[own, start + own] = np.nan
        typical[start : start + len(block)] = np.nanmedian(block, axis=1)
        limit = _limit(typical[start : start + len(block)])
        i, j = np.nonzero(block <= limit[:, None])
        rows.append(start + i)
        columns.append(j)
        distances.append(block[i, j])
    first, second, distance = map(np.concatenate, (rows, columns, distances))
    least = np.minimum(typical[first], typical[second])
    near = (distance <= _limit(least)) & (first != second)
    sure = (distance <= SURE_SHARE * least) & (least >= VARIED)
    pairs: dict[tuple[int, int], bool] = {}
    for i, j, is_sure in zip(first[near].tolist(), second[near].tolist(), sure[near].tolist(), strict=True):
        pair = min(i, j), max(i, j)
        pairs[pair] = pairs.get(pair, False) or is_sure
    return sorted(pair for pair, is_sure in pairs.items() if is_sure or _same_detail(*thumbnails[list(pair)]))


def _same_detail(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two thumbnails (2·SIDE, 2·SIDE) agree in fine detail, at the best translation."""
    margin = 2 * MOST_TRANSLATION + 2
    inner = slice(margin, -margin)
    detail, moved = _relative_detail(np.stack([one, other]).astype(np.float32))
    fixed = np.zeros_like(detail)
    fixed[inner, inner] = detail[inner, inner] - detail[inner, inner].mean()
    product = np.fft.irfft2(np.fft.rfft2(moved) * np.fft.rfft2(fixed).conj(), s=fixed.shape)
    shifts = np.r_[0 : margin + 1, -margin:0]
    down, right = shifts[list(np.unravel_index(product[np.ix_(shifts, shifts)].argmax(), 2 * shifts.shape))]
    window = np.roll(moved, (-down, -right), (0, 1))[inner, inner]
    correlation = np.corrcoef(fixed[inner, inner].ravel(), window.ravel())[0, 1]
    return bool(correlation >= LEAST_CORRELATION)


def _relative_detail(images: np.ndarray) -> np.ndarray:
    """Fine detail of images (n, H, W), float32, as a share of the contrast around each pixel."""
    from scipy.ndimage import gaussian_filter

    detail = _band(images, *FINE_DETAIL)
    contrast = np.sqrt(gaussian_filter(detail**2, (0, LOCAL, LOCAL)) + LEAST_CONTRAST**2)
    relative: np.ndarray = detail / contrast
    return relative


def _band(images: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """What lies between two blurs of images (n, H, W), float32."""
    from scipy.ndimage import gaussian_filter

    band: np.ndarray = gaussian_filter(images, (0, fine, fine)) - gaussian_filter(images, (0, coarse, coarse))
    return band


def _limit(typical: np.ndarray) -> np.ndarray:
    return np.maximum(SURE_DISTANCE, np.minimum(LARGEST_DISTANCE, SHARE_OF_TYPICAL * typical))


def least_distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """One less the correlation of thumbnails (m, SIDE, SIDE) and (n, SIDE, SIDE) at the best translation, (m, n).

    Between whole pixels the correlation goes on as a parabola through its peak, down and right.
    """
    count = 2 * MOST_TRANSLATION + 1
    fixed = _normalized(some, MOST_TRANSLATION, MOST_TRANSLATION)
    correlations = np.empty((count, count, len(some), len(others)), dtype=np.float32)
    for down in range(count):
        for right in range(count):
            correlations[down, right] = fixed @ _normalized(others, down, right).T
    i, j = np.indices(correlations.shape[2:])
    down, right = np.divmod(correlations.reshape(count * count, len(some), len(others)).argmax(axis=0), count)
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
    distances: np.ndarray = 1 - np.minimum(peak + gain, 1)
    return distances


def _normalized(details: np.ndarray, down: int, right: int) -> np.ndarray:
    """Windows (n, pixels) of thumbnails, of mean 0 and length 1."""
    size = SIDE - 2 * MOST_TRANSLATION
    window = details[:, down : down + size : STEP, right : right + size : STEP].reshape(len(details), -1)
    window = window - window.mean(axis=1, keepdims=True)
    normalized: np.ndarray = window / np.maximum(np.linalg.norm(window, axis=1, keepdims=True), 1e-3)
    return normalized


def connected_groups(n: int, links: Sequence[tuple[int, int]]) -> np.ndarray:
    """Groups (n,), int64, of items that links connect, numbered in the order of their first items."""
    parent = list(range(n))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in links:
        parent[root(second)] = root(first)
    return numbered_groups([root(item) for item in range(n)])


def numbered_groups(names: Sequence[object]) -> np.ndarray:
    """Groups (n,), int64, of equal names, numbered in the order of their first items."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def joined_groups(*groups: np.ndarray) -> np.ndarray:
    """The finest groups (n,) that keep together what any of the given ones does."""
    n = len(groups[0])
    links = []
    for one in groups:
        _, first, inverse = np.unique(one, return_index=True, return_inverse=True)
        links += list(zip(first[inverse].tolist(), range(n), strict=True))
    return connected_groups(n, links)


def groups_by_pattern(paths: Sequence[Path], pattern: str) -> np.ndarray:
    """Groups (n,), int64, of paths by a regular expression, whose match, or first capture, names the group.

    It is searched in the path with forward slashes.

    Raises
    ------
    InputError
        If a path has no match.
    """
    expression = re.compile(pattern)
    names: list[str] = []
    for path in paths:
        match = expression.search(path.as_posix())
        if match is None:
            raise InputError(f"groups {pattern!r} matches nothing in {path}: expected a name of a group in every path")
        names.append(match[1] if expression.groups and match[1] is not None else match[0])
    return numbered_groups(names)


def refuse_two_labels(samples: Sequence[Sample], duplicates: Duplicates) -> None:
    """Refuse a picture that is labeled normal in one place and anomalous in another.

    Raises
    ------
    InputError
        Naming two such files.
    """
    for pair in duplicates.pairs:
        one, other = samples[pair.first], samples[pair.second]
        if pair.kind == "exact" and one.label != other.label:
            raise InputError(
                f"{one.path} ({one.kind}) and {other.path} ({other.kind}) are one picture, pixel for pixel: expected "
                "normal and anomalous images to differ; remove one of them"
            )


def refuse_equal_scores(
    samples: Sequence[Sample],
    scores: np.ndarray,
    bit_depth: int | None = None,
    kept: KeptFingerprints | None = None,
) -> None:
    """As :func:`refuse_two_labels`, where only images of about equal scores (n,) are read: equal pixels have these.

    Of those that were decoded in this bit depth before, hashes are remembered: they are not decoded again.
    """
    order = np.argsort(scores, kind="stable")
    close = np.isclose(scores[order[1:]], scores[order[:-1]], rtol=1e-4)
    labels = np.array([sample.label for sample in samples])[order]
    suspects = np.flatnonzero(close & (labels[1:] != labels[:-1]))
    some = [samples[order[index]] for index in sorted({*suspects.tolist(), *(suspects + 1).tolist()})]
    hashes = [hash_of_file(sample.path, bit_depth, kept) for sample in some]
    counts = Counter(hashes)
    copies = [sample for sample, digest in zip(some, hashes, strict=True) if counts[digest] > 1]
    if copies:  # the model's bit depth may have made them equal
        refuse_two_labels(copies, find_duplicates(copies, kept))


def groups_of(
    images: Sequence[Path | Sample], pattern: str | None = None, kept: KeptFingerprints | None = None
) -> np.ndarray:
    """Groups (n,), int64, of images that must stay in one fold: copies, and what a pattern names alike."""
    groups = find_duplicates(images, kept).groups
    if pattern is None:
        return groups
    paths = [image.path if isinstance(image, Sample) else image for image in images]
    return joined_groups(groups, groups_by_pattern(paths, pattern))
