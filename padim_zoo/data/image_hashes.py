"""What tells one image from others: hashes of decoded pixels, and thumbnails.

The same picture in a PNG and in a BMP file has one hash, and so has an array of its pixels. A hash has 64 bits: of a
million images, two that differ share one with a chance of 3e-8.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from padim_zoo.core.progress import told
from padim_zoo.data.content import Version, file_version, is_still
from padim_zoo.data.image import read_image, to_image
from padim_zoo.data.sample import Sample
from padim_zoo.data.sources import count_of, image_items

SIDE = 128
"""Half the height and width of thumbnails, whatever the shape of an image."""

_MOST_REMEMBERED = 1_000_000
_READERS = 8

_remembered: dict[tuple[object, ...], int] = {}


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of decoded pixels (H, W, 3), uint8, in hex: equal for the same picture in a PNG and in a BMP file."""
    digest = hashlib.sha256(repr(image.shape[:2]).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def short_hash(image: np.ndarray) -> int:
    """The first 64 bits of :func:`pixel_hash`, as a signed integer."""
    return _short(pixel_hash(image))


def _short(digest: str) -> int:
    return int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)


class Fingerprint(NamedTuple):
    """What tells one image from others, and what tells that two show the same."""

    pixels: str
    """As :func:`pixel_hash` gives it."""
    thumbnail: np.ndarray
    """Gray, (2·SIDE, 2·SIDE), uint8."""


def fingerprint(image: np.ndarray) -> Fingerprint:
    """The fingerprint of decoded pixels (H, W, 3), uint8."""
    picture = Image.fromarray(image)
    gray = picture.reduce(max(1, min(picture.size) // (4 * SIDE))).convert("L")
    return Fingerprint(pixel_hash(image), np.asarray(gray.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BOX)))


class KeptFingerprints(Hashable, Protocol):
    """Where they are kept, on disk or in memory: see :mod:`padim_zoo.cache.fingerprints`, which is above this floor."""

    def read(self, path: Path, bit_depth: int | None) -> Fingerprint | None:
        """The fingerprint of a file that is read in a bit depth; None if it is not there."""

    def write(self, path: Path, bit_depth: int | None, one: Fingerprint) -> None:
        """Keep it."""


def fingerprint_of_file(path: Path, bit_depth: int | None, kept: KeptFingerprints | None = None) -> Fingerprint:
    """The fingerprint of an image file, read where it is kept, else from the file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    version = _version_or_none(path)
    one = None if kept is None else kept.read(path, bit_depth)
    if one is None:
        one = fingerprint(read_image(path, bit_depth))
        if kept is not None and is_still(path, version):
            kept.write(path, bit_depth, one)
    _remember(path, version, bit_depth, one.pixels)
    return one


def _version_or_none(path: Path) -> Version | None:
    try:
        return file_version(path)
    except OSError:  # which is told by the attempt to decode it
        return None


def _remember(path: Path, version: Version | None, bit_depth: int | None, digest: str) -> None:
    """Remember the :func:`pixel_hash` of a file that was decoded, so that it need not be decoded for that again.

    One that was replaced or removed meanwhile is not remembered: the hash may be that of either content.
    """
    if len(_remembered) >= _MOST_REMEMBERED:
        _remembered.clear()
    if version is not None and is_still(path, version):
        key = (*version, bit_depth)
        _remembered[key] = _short(digest)


def _is_remembered(path: Path, bit_depth: int | None) -> bool:
    try:
        return version_in_depth(path, bit_depth) in _remembered
    except OSError:  # removed meanwhile
        return True


def version_in_depth(path: Path, bit_depth: int | None) -> tuple[object, ...]:
    """What changes whenever a file does, or the bit depth that it is read in."""
    return *file_version(path), bit_depth


def hash_of_file(path: Path, bit_depth: int | None = None, kept: KeptFingerprints | None = None) -> int:
    """The :func:`short_hash` of an image file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return _remembered[version_in_depth(path, bit_depth)]
    except (OSError, KeyError):
        pass
    if kept is not None:
        return _short(fingerprint_of_file(path, bit_depth, kept).pixels)
    version = _version_or_none(path)
    digest = pixel_hash(read_image(path, bit_depth))
    _remember(path, version, bit_depth, digest)
    return _short(digest)


def hashes_of_files(
    paths: Iterable[Path], bit_depth: int | None = None, kept: KeptFingerprints | None = None
) -> np.ndarray:
    """The hashes of image files (n,), int64; see :func:`hash_of_file`."""
    paths = list(paths)
    with ThreadPoolExecutor(_READERS) as pool:
        hashed = pool.map(lambda path: hash_of_file(path, bit_depth, kept), paths)
        return np.array(list(told(hashed, "hashing images", len(paths))), dtype=np.int64)


class HashedImages:
    """Images one by one, each with its hash; those whose hash is among ``learned`` are passed over.

    It is gone through once. Files are hashed when all have been decoded, unless some are passed over.

    Parameters
    ----------
    images
        As :func:`~padim_zoo.data.loading.batches` takes them.
    bit_depth : int or None
        As of :func:`~padim_zoo.data.image.read_image`.
    learned : ndarray (m,), int64, or None
        The hashes of images that are passed over.
    kept : KeptFingerprints, optional
        Where fingerprints of files are kept.

    Attributes
    ----------
    paths : list of Path
        The files among the images that were not passed over.
    positions : list of int
        Where the images that were not passed over stand among all.
    passed_over : int
    image_count : int or None
        How many images there are, those included that are passed over.
    source : list or tuple, or None
        All images, where they come in one.
    """

    def __init__(
        self,
        images: Any,
        bit_depth: int | None,
        learned: np.ndarray | None = None,
        kept: KeptFingerprints | None = None,
    ) -> None:
        self.paths: list[Path] = []
        self.positions: list[int] = []
        self.passed_over = 0
        self._bit_depth = bit_depth
        self._kept = kept
        self._learned: Collection[int] = frozenset() if learned is None else frozenset(learned.tolist())
        self._taken: list[Path | int] = []
        self._versions: dict[Path, Version | None] = {}
        """Of the files that are being decoded."""
        self.image_count = count_of(images)
        self.source = images if isinstance(images, (list, tuple)) else None
        if self._learned and isinstance(images, (str, Path, Sample, Sequence)):
            # In threads, and not one by one below; of an iterator no more images are drawn than are wanted.
            hashes_of_files([item for item in image_items(images) if isinstance(item, Path)], bit_depth, kept)
        self._items = self._new(images)

    def _new(self, images: Any) -> Iterator[Any]:
        for position, item in enumerate(image_items(images)):
            known_by: Path | int
            if isinstance(item, Path):
                known_by = hash_of_file(item, self._bit_depth, self._kept) if self._learned else item
            else:
                known_by = short_hash(to_image(item, f"image {position}", self._bit_depth))
            if known_by in self._learned:
                self.passed_over += 1
                continue
            self._taken.append(known_by)
            self.positions.append(position)
            if isinstance(item, Path):
                self.paths.append(item)
                self._versions[item] = _version_or_none(item)
            yield item

    def __iter__(self) -> Iterator[Any]:
        return self._items

    def all_learned(self) -> bool:
        """Whether there are images, and all of them are passed over."""
        first = list(islice(self._items, 1))
        self._items = chain(first, self._items)
        return not first and self.passed_over > 0

    def decoded(self, path: Path, pixels: np.ndarray) -> None:
        """Take the hash of a file from its pixels, so that it is not decoded once more."""
        version = self._versions.pop(path, None)
        if _is_remembered(path, self._bit_depth) or not is_still(path, version):
            return
        if self._kept is None:
            _remember(path, version, self._bit_depth, pixel_hash(pixels))
            return
        one = self._kept.read(path, self._bit_depth)
        if one is None:
            one = fingerprint(pixels)
            self._kept.write(path, self._bit_depth, one)
        _remember(path, version, self._bit_depth, one.pixels)

    def tell(self) -> None:
        """Warn of images that were passed over."""
        if self.passed_over:
            new = len(self._taken)
            warnings.warn(
                f"{new} new of {new + self.passed_over} normal images: the model already knows the others, and skips "
                "them",
                stacklevel=4,
            )

    def hashes(self) -> np.ndarray:
        """The hashes (n,), int64, of all images that were given out, in order."""
        files = [known_by for known_by in self._taken if isinstance(known_by, Path)]
        of_files = iter(hashes_of_files(files, self._bit_depth, self._kept).tolist())
        taken = [next(of_files) if isinstance(known_by, Path) else known_by for known_by in self._taken]
        return np.array(taken, dtype=np.int64)


def are_learned(
    images: Any, learned: np.ndarray, bit_depth: int | None, kept: KeptFingerprints | None = None
) -> np.ndarray:
    """Which of some images (n,), bool, are among the learned ones."""
    hashed = HashedImages(images, bit_depth, kept=kept)
    for _ in hashed:
        pass
    return np.isin(hashed.hashes(), learned)
