"""Features of images: read from the disk where they are kept, else computed, and kept for the next time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from padim_zoo.cache.features import Entry, FeatureCache, Stack, entries_of
from padim_zoo.cache.images import ImageCache
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.data.content import Version, file_version, is_still
from padim_zoo.data.loading import Batch, mixed_batches
from padim_zoo.data.transform import Transform
from padim_zoo.features.features import Features

_SHARE = 2


class CachedFeatures:
    """The features of images that are on disk, read batch by batch, however many there are.

    Of more images than the cache has room for, the first are kept, as many as half of it takes: were all of them
    written, the last would push out the first, and the next fit would find none of those that it begins with.

    Parameters
    ----------
    cache : FeatureCache
    cache_key : str
        What decides features besides the image file.
    """

    def __init__(self, cache: FeatureCache, cache_key: str) -> None:
        self._cache = cache
        self._cache_key = cache_key
        self._passed = 0
        self._absent: dict[Path, tuple[str, Version]] = {}
        """Of files that were looked for in vain: the name of their entry, and which version it is of."""

    def batches(
        self,
        images: Any,
        transform: Transform,
        batch_size: int,
        view_set: ViewSet,
        *,
        ahead: bool,
        resized: ImageCache | None,
        pinned: bool,
    ) -> Iterator[Batch[Entry]]:
        """Images in order: the features of those that are on disk, and the pixels of the others.

        Arguments are those of :func:`~padim_zoo.data.loading.view_batches`.
        """
        return mixed_batches(
            images, transform, batch_size, view_set, ahead=ahead, cache=resized, lookup=self.lookup, pinned=pinned
        )

    def lookup(self, path: Path) -> Entry | None:
        """The features of an image file, if they are on disk."""
        try:
            version, key = file_version(path), self._cache.key(path, self._cache_key)
        except OSError:  # which is told better by the attempt to decode the file
            return None
        entry = self._cache.read(key)
        if entry is None:
            self._absent[path] = key, version
        return entry

    def complete(self, batch: Batch[Entry], computed: Iterator[Features]) -> Iterator[Features]:
        """The features of a batch, in one or more parts; those that were not on disk are ``computed``, and written."""
        written = self._write(batch, computed)
        if all(entry is None for entry in batch.cached):
            yield from written
            return
        entries = (entry for part in written for entry in entries_of(part))
        stack = Stack(len(batch.cached))
        for index, entry in enumerate(batch.cached):
            self._passed += 0 if entry is None else entry.nbytes
            fits = stack.put(index, next(entries) if entry is None else entry)
            assert fits, "images of one size have features of one shape"
        yield stack.features

    def _write(self, batch: Batch[Entry], computed: Iterator[Features]) -> Iterator[Features]:
        """Parts as they are computed; the images that they are of are written as long as there is room."""
        files = zip(batch.paths, batch.notes, strict=True)
        for part in computed:
            for (path, notes), entry in zip(islice(files, len(part)), entries_of(part), strict=True):
                absent = None if path is None else self._absent.pop(path, None)
                if path is None or absent is None:
                    continue
                key, version = absent
                has_room = self._cache.writes and self._passed * _SHARE < self._cache.limit
                if has_room and is_still(path, version):  # it may have been replaced or removed since it was decoded
                    self._cache.write(key, replace(entry, notes=notes))
                    self._passed += entry.nbytes
            yield part
