"""The images that a model has learned, told by hashes of their decoded pixels.

The same picture in a PNG and in a BMP file has one hash, and so has an array of its pixels. A hash has 64 bits: of a
million images, two that differ share one with a chance of 3e-8.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo.data.image import read_image, to_image
from padim_zoo.data.sample import Sample
from padim_zoo.data.sources import image_items

_MOST_REMEMBERED = 1_000_000
_READERS = 8

_remembered: dict[tuple[object, ...], int] = {}


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of decoded pixels (H, W, 3), uint8, in hex: equal for the same picture in a PNG and in a BMP file."""
    return hashlib.sha256(repr(image.shape[:2]).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def short_hash(image: np.ndarray) -> int:
    """The first 64 bits of :func:`pixel_hash`, as a signed integer."""
    return _short(pixel_hash(image))


def _short(digest: str) -> int:
    return int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)


def remember(path: Path, bit_depth: int | None, digest: str) -> None:
    """Remember the :func:`pixel_hash` of a file that was decoded, so that it need not be decoded for that again."""
    if len(_remembered) >= _MOST_REMEMBERED:
        _remembered.clear()
    try:
        _remembered[_version(path, bit_depth)] = _short(digest)
    except OSError:  # removed meanwhile
        return


def _version(path: Path, bit_depth: int | None) -> tuple[object, ...]:
    status = path.stat()
    # The time of the last change of the status cannot be set, other than that of the content, which tools restore.
    return path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, bit_depth


def hash_of_file(path: Path, bit_depth: int | None = None) -> int:
    """The :func:`short_hash` of an image file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return _remembered[_version(path, bit_depth)]
    except (OSError, KeyError):
        digest = pixel_hash(read_image(path, bit_depth))
    remember(path, bit_depth, digest)
    return _short(digest)


def hashes_of_files(paths: Iterable[Path], bit_depth: int | None = None) -> np.ndarray:
    """The hashes of image files (n,), int64; see :func:`hash_of_file`."""
    with ThreadPoolExecutor(_READERS) as pool:
        return np.array(list(pool.map(lambda path: hash_of_file(path, bit_depth), paths)), dtype=np.int64)


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

    Attributes
    ----------
    paths : list of Path
        The files among the images that were not passed over.
    passed_over : int
    """

    def __init__(self, images: Any, bit_depth: int | None, learned: np.ndarray | None = None) -> None:
        self.paths: list[Path] = []
        self.passed_over = 0
        self._bit_depth = bit_depth
        self._learned: Collection[int] = frozenset() if learned is None else frozenset(learned.tolist())
        self._taken: list[Path | int] = []
        if self._learned and isinstance(images, (str, Path, Sample, Sequence)):
            # In threads, and not one by one below; of an iterator no more images are drawn than are wanted.
            hashes_of_files([item for item in image_items(images) if isinstance(item, Path)], bit_depth)
        self._items = self._new(images)

    def _new(self, images: Any) -> Iterator[Any]:
        for position, item in enumerate(image_items(images)):
            known_by: Path | int
            if isinstance(item, Path):
                known_by = hash_of_file(item, self._bit_depth) if self._learned else item
            else:
                known_by = short_hash(to_image(item, f"image {position}", self._bit_depth))
            if known_by in self._learned:
                self.passed_over += 1
                continue
            self._taken.append(known_by)
            if isinstance(item, Path):
                self.paths.append(item)
            yield item

    def __iter__(self) -> Iterator[Any]:
        return self._items

    def all_learned(self) -> bool:
        """Whether there are images, and all of them are passed over."""
        first = list(islice(self._items, 1))
        self._items = chain(first, self._items)
        return not first and self.passed_over > 0

    def tell(self) -> None:
        """Warn of images that were passed over."""
        if self.passed_over:
            new = len(self._taken)
            warnings.warn(
                f"{new} new of {new + self.passed_over} normal images: the model knows the others, and passes over "
                "them",
                stacklevel=3,
            )

    def hashes(self) -> np.ndarray:
        """The hashes (n,), int64, of all images that were given out, in order."""
        files = [known_by for known_by in self._taken if isinstance(known_by, Path)]
        of_files = iter(hashes_of_files(files, self._bit_depth).tolist())
        taken = [next(of_files) if isinstance(known_by, Path) else known_by for known_by in self._taken]
        return np.array(taken, dtype=np.int64)


def are_learned(images: Any, learned: np.ndarray, bit_depth: int | None) -> np.ndarray:
    """Which of some images (n,), bool, are among the learned ones."""
    hashed = HashedImages(images, bit_depth)
    for _ in hashed:
        pass
    return np.isin(hashed.hashes(), learned)
