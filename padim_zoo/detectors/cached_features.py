"""Features of images: read from the disk where they are kept, else computed, and kept for the next time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from padim_zoo.cache.features import Entry, FeatureCache, Stack, entries_of
from padim_zoo.cache.images import ImageCache
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.data.loading import mixed_batches
from padim_zoo.data.transform import Transform
from padim_zoo.features.features import Features

_SHARE = 2


class CachedFeatureExtractor:
    """Gives the features of images batch by batch, however many there are.

    Of more images than the cache has room for, the first are kept, as many as half of it takes: were all of them
    written, the last would push out the first, and the next fit would find none of those that it begins with.

    Parameters
    ----------
    cache : FeatureCache
    cache_key : str
        What decides features besides the image file.
    compute : callable
        Features, in one or more parts, of the views of images (n·V, 3, H, W), uint8.
    """

    def __init__(self, cache: FeatureCache, cache_key: str, compute: Callable[[Tensor], Iterator[Features]]) -> None:
        self._cache = cache
        self._cache_key = cache_key
        self._compute = compute
        self._passed = 0

    def features(
        self,
        images: Any,
        transform: Transform,
        batch_size: int,
        view_set: ViewSet,
        *,
        ahead: bool = True,
        resized: ImageCache | None = None,
    ) -> Iterator[Features]:
        """Features of images, in order, as :func:`~padim_zoo.data.loading.view_batches` takes them."""
        batches = mixed_batches(
            images, transform, batch_size, view_set, ahead=ahead, cache=resized, recall=self._recall
        )
        for batch in batches:
            parts = iter(()) if batch.pixels is None else self._kept(self._compute(batch.pixels), batch.paths)
            if all(entry is None for entry in batch.known):
                yield from parts
            else:
                yield self._together(batch.known, parts)

    def _recall(self, path: Path) -> Entry | None:
        try:
            return self._cache.read(self._cache.key(path, self._cache_key))
        except OSError:  # which is told better by the attempt to decode the file
            return None

    def _together(self, known: Sequence[Entry | None], parts: Iterable[Features]) -> Features:
        """Those that were read, and in between those that are computed."""
        computed = (entry for part in parts for entry in entries_of(part))
        stack = Stack(len(known))
        for index, entry in enumerate(known):
            self._passed += 0 if entry is None else entry.nbytes
            fits = stack.put(index, next(computed) if entry is None else entry)
            assert fits, "images of one size have features of one shape"
        return stack.features

    def _kept(self, parts: Iterable[Features], paths: Iterable[Path | None]) -> Iterator[Features]:
        """Parts as they are computed; the images that they are of are written as long as there is room."""
        of_images = iter(paths)
        for part in parts:
            for path, entry in zip(islice(of_images, len(part)), entries_of(part), strict=True):
                if path is not None and self._cache.writes and self._passed * _SHARE < self._cache.limit:
                    self._cache.write(self._cache.key(path, self._cache_key), entry)
                    self._passed += entry.nbytes
            yield part
