"""What detectors keep on disk of image files: resized images, features and fingerprints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from padim_zoo.cache.features import FeatureCache
from padim_zoo.cache.fingerprints import FingerprintCache, FingerprintsInMemory
from padim_zoo.cache.images import ImageCache
from padim_zoo.core.cache_folder import cache_limit


@dataclass(frozen=True)
class Caches:
    """The caches that a detector uses.

    Attributes
    ----------
    images : ImageCache or None
    features : FeatureCache or None
    fingerprints : FingerprintCache, FingerprintsInMemory or None
    """

    images: ImageCache | None = None
    features: FeatureCache | None = None
    fingerprints: FingerprintCache | FingerprintsInMemory | None = None

    @classmethod
    def of(cls, cache: bool | Caches) -> Caches:
        """What a detector's ``cache`` stands for: ``True`` is :meth:`usual`, ``False`` none."""
        if isinstance(cache, Caches):
            return cache
        return cls.usual() if cache else cls()

    @classmethod
    def usual(cls, *, writes: bool = True) -> Caches:
        """Those in the cache folder; none if their limit is 0.

        Parameters
        ----------
        writes : bool
            Whether anything may be added to them.
        """
        if cache_limit() == 0:
            return cls()
        return cls(ImageCache(writes=writes), FeatureCache(writes=writes), FingerprintCache(writes=writes))

    def forget(self, paths: Iterable[Path]) -> int:
        """Remove all that is kept of image files, for whatever detector, and say how many entries that were."""
        kinds = [cache for cache in (self.images, self.features, self.fingerprints) if cache is not None]
        return sum(cache.remove(path) for path in paths for cache in kinds)
