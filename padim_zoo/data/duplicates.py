"""Images that show the same thing twice: equal pixels, and near copies such as frames of a burst."""

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

from padim_zoo.core.cpu import usable_processors
from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.data.content import content_hash
from padim_zoo.data.groups import connected_groups, joined_groups, numbered_groups
from padim_zoo.data.image_hashes import Fingerprint, KeptFingerprints, fingerprint_of_file, hash_of_file
from padim_zoo.data.near_copies import near_copies
from padim_zoo.data.pixel_limit import max_pixels
from padim_zoo.data.sample import Sample
from padim_zoo.data.training_depth import counts_of_images

_MOST_READERS = 16
"""More threads would wait for Python's lock, or for the disk."""

MOST_IMAGES = 3000
"""Of more images only equal ones are found: the time to compare grows with the square of their number."""

_NOT_COMPARED = np.empty((0, 0), dtype=np.uint8)


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
    n_compared : int
        The images, from the first on, among which near copies were looked for.
    n_unclear : int
        Images that could be frames of one thing or like parts, and count as different ones.
    """

    pairs: tuple[Pair, ...]
    groups: np.ndarray
    n_compared: int
    n_unclear: int = 0

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
        return [*(f"{_counted(pairs)} {where}" for where, pairs in within.items() if pairs), *self.doubts()]

    def doubts(self) -> list[str]:
        """Which copies may have been missed, and what names them."""
        doubts = []
        if self.n_compared < len(self.groups):
            where = "the test images" if self.n_compared else f"more than {MOST_IMAGES} images"
            doubts.append(f"near copies are not looked for among {where}: name them with --groups")
        if self.n_unclear:
            what = "images may be frames of one thing, or parts that look alike"
            doubts.append(f"{self.n_unclear} {what}, and count as different: name what shows one thing with --groups")
        return doubts

    def crossing(self, n_train: int) -> list[Pair]:
        """Copies among the test images of images to fit."""
        return [pair for pair in self.pairs if pair.first < n_train <= pair.second]


def _counted(pairs: Sequence[Pair]) -> str:
    exact = sum(pair.kind == "exact" for pair in pairs)
    parts = [f"{count} {kind}" for count, kind in ((exact, "exact"), (len(pairs) - exact, "near")) if count]
    return f"{' and '.join(parts)} {'copy' if len(pairs) == 1 else 'copies'}"


def find_duplicates(
    images: Sequence[Path | Sample], kept: KeptFingerprints | None = None, n_train: int | None = None
) -> Duplicates:
    """Find images with equal pixels, and near copies.

    An image that cannot be read is a copy of none. 16-bit samples are read in the depth that all images together use:
    else those of 10 bits would leave four levels of gray, which differ too little.

    Parameters
    ----------
    images : sequence of Path or Sample
        Of one category, so that the typical distance between them means something.
    kept : KeptFingerprints, optional
        Where fingerprints are kept, so that images need not be decoded again.
    n_train : int, optional
        As of :func:`count_compared`.
    """
    paths = tuple(image.path if isinstance(image, Sample) else image for image in images)
    return _find(paths, tuple(map(_version, paths)), kept, count_compared(len(paths), n_train), max_pixels())


@functools.lru_cache(maxsize=64)
def _find(
    paths: tuple[Path, ...], versions: tuple[str, ...], kept: KeptFingerprints | None, n_compared: int, limit: int
) -> Duplicates:
    """What :func:`find_duplicates` finds; ``limit`` is :func:`max_pixels`, which decides what is read."""
    there = [path for path, version in zip(paths, versions, strict=True) if version]
    depth = counts_of_images(there).depth_or_full
    with ThreadPoolExecutor(min(usable_processors(), _MOST_READERS)) as executor:
        compared = [index < n_compared for index in range(len(paths))]
        read = functools.partial(_fingerprint_of, depth=depth, kept=kept)
        found = told(executor.map(read, paths, compared), "looking for copies", len(paths))
        return duplicates_of(list(found), n_compared)


def count_compared(n: int, n_train: int | None = None) -> int:
    """Of n images, those among which near copies are looked for: all, or the first ones, which are to fit, or none.

    Parameters
    ----------
    n : int
    n_train : int, optional
        How many are to fit, all by default: a fit, which knows no others, must come to the same groups.
    """
    return next((count for count in (n, n_train or 0) if count <= MOST_IMAGES), 0)


def _version(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError:
        return ""


def _fingerprint_of(path: Path, compared: bool, depth: int, kept: KeptFingerprints | None) -> Fingerprint | None:
    try:
        one = fingerprint_of_file(path, depth, kept)
    except InputError:
        return None
    return one if compared else without_thumbnail(one)


def without_thumbnail(one: Fingerprint) -> Fingerprint:
    """A fingerprint of an image that is compared with others by its pixels alone: a thumbnail takes 64 KiB."""
    return one._replace(thumbnail=_NOT_COMPARED)


def duplicates_of(fingerprints: Sequence[Fingerprint | None], n_compared: int) -> Duplicates:
    """Find copies by fingerprints; None is a copy of none. Near ones are among the first ``n_compared``."""
    n = len(fingerprints)
    first_of: dict[str, int] = {}
    pairs: list[Pair] = []
    for index, one in enumerate(fingerprints):
        if one is not None:
            first = first_of.setdefault(one.pixels, index)
            if first != index:
                pairs.append(Pair(first, index, "exact"))
    different = np.array(sorted(index for index in first_of.values() if index < n_compared), dtype=np.int64)
    n_unclear = 0
    if len(different) >= 2:
        links, n_unclear = near_copies([one.thumbnail for i in different if (one := fingerprints[i]) is not None])
        copies = [(int(different[i]), int(different[j])) for i, j in links]
        groups = connected_groups(n, copies)
        firsts = {int(group): int(index) for index, group in reversed(list(enumerate(groups)))}
        linked = sorted({index for pair in copies for index in pair})
        pairs += [Pair(firsts[int(groups[i])], i, "near") for i in linked if firsts[int(groups[i])] != i]
    groups = connected_groups(n, [(pair.first, pair.second) for pair in pairs])
    return Duplicates(tuple(pairs), groups, n_compared, n_unclear)


def groups_by_pattern(paths: Sequence[Path], pattern: str) -> np.ndarray:
    """Groups (n,), int64, of paths by a regular expression, whose match, or first capture, names the group.

    It is searched in the path with forward slashes.

    Raises
    ------
    InputError
        If a path has no match.
    """
    names = names_by_pattern(paths, pattern)
    for path, name in zip(paths, names, strict=True):
        if name is None:
            raise InputError(f"groups {pattern!r} matches nothing in {path}: expected a name of a group in every path")
    return numbered_groups(names)


def names_by_pattern(paths: Sequence[Path], pattern: str) -> list[str | None]:
    """What :func:`groups_by_pattern` finds in each path; None where nothing matches."""
    expression = re.compile(pattern)
    matches = [expression.search(path.as_posix()) for path in paths]
    return [None if match is None else _name_in(match) for match in matches]


def _name_in(match: re.Match[str]) -> str:
    return match[1] if match.re.groups and match[1] is not None else match[0]


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
                f"{one.path} ({one.kind}) and {other.path} ({other.kind}) are the same picture, pixel for pixel: "
                "expected normal and anomalous images to differ; remove one of them"
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
