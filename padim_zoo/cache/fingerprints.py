"""Fingerprints of image files, on disk or in memory: copies are found without decoding every image again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from padim_zoo.cache.content_addressed import ContentCache
from padim_zoo.core.cpu import processor_name
from padim_zoo.data.duplicates import count_compared, without_thumbnail
from padim_zoo.data.image_hashes import SIDE, Fingerprint, version_in_depth
from padim_zoo.data.opening import decoder


class FingerprintCache(ContentCache):
    """Fingerprints by the content of image files; parameters and manners are :class:`ContentCache`'s."""

    kind = "fingerprints"
    version = 1

    def read(self, path: Path, bit_depth: int | None) -> Fingerprint | None:
        """The fingerprint of a file that is read in a bit depth; None if there is none, or it is damaged."""
        key = self._key(path, bit_depth)
        entry = None if key is None else self.read_tensors(key)
        if entry is None:
            return None
        about, tensors = entry
        pixels, shapes = about.get("pixels"), [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]
        if not isinstance(pixels, str) or shapes != [(torch.uint8, (2 * SIDE, 2 * SIDE))]:
            return None
        return Fingerprint(pixels, tensors[0].numpy().copy())

    def write(self, path: Path, bit_depth: int | None, one: Fingerprint) -> None:
        """Keep a fingerprint; where that is impossible, say so once and go on without."""
        key = self._key(path, bit_depth)
        if key is not None:
            self.write_tensors(key, {"pixels": one.pixels}, [torch.from_numpy(np.array(one.thumbnail))])

    def _key(self, path: Path, bit_depth: int | None) -> str | None:
        try:
            return self.key(path, f"depth {bit_depth} {decoder()} {processor_name()}")
        except OSError:  # which is told by the attempt to decode it
            return None


class FingerprintsInMemory:
    """Those of one pass over images, where no cache is used.

    Parameters
    ----------
    n : int
        How many images there are. Of more than are compared, no thumbnails are held.
    """

    def __init__(self, n: int) -> None:
        self._thumbnails = count_compared(n) > 0
        self._held: dict[tuple[object, ...], Fingerprint] = {}

    def read(self, path: Path, bit_depth: int | None) -> Fingerprint | None:
        """The fingerprint of a file that is read in a bit depth; None if it was not, or was changed since."""
        try:
            return self._held.get(version_in_depth(path, bit_depth))
        except OSError:  # as of FingerprintCache
            return None

    def write(self, path: Path, bit_depth: int | None, one: Fingerprint) -> None:
        """Hold a fingerprint."""
        with suppress(OSError):
            self._held[version_in_depth(path, bit_depth)] = one if self._thumbnails else without_thumbnail(one)

    def remove(self, path: Path) -> int:
        """Let go of all that is held of a file, and say how many fingerprints that were."""
        versions = [version for version in self._held if version[0] == path.absolute()]
        for version in versions:
            del self._held[version]
        return len(versions)

    def clear(self) -> None:
        """Let go of all."""
        self._held.clear()
