"""The usual cache of fingerprints, opened when it is first used: that imports torch, and a refusal must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from padim_zoo.data.image_hashes import KeptFingerprints


def usual_fingerprints() -> KeptFingerprints | None:
    """Fingerprints of images in the cache folder; None if its limit is 0."""
    from padim_zoo.cache.caches import Caches

    return Caches.usual().fingerprints
