"""Images that differ from the others of a folder before any network sees them: their size, their exposure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from padim_zoo.data.grid import sizes_of
from padim_zoo.data.image_hashes import KeptFingerprints, fingerprint_of_file
from padim_zoo.data.training_depth import counts_of_images

RARE = 0.05
"""Sizes of at most this share of the images are odd, where one size is that of most."""

FAR = 5.0
"""Mean grays so many deviations from the median are odd."""

LEAST_DEVIATION = 3.0
"""Gray levels that are one deviation at least: lamps flicker."""


def odd_sizes(paths: Sequence[Path]) -> dict[Path, str]:
    """Images of a rare size, with their height and width in words."""
    sizes = sizes_of(paths)
    counts = Counter(sizes)
    [(_, most)] = counts.most_common(1)
    if 2 * most <= len(paths):
        return {}
    return {
        path: f"{size[0]}x{size[1]}"
        for path, size in zip(paths, sizes, strict=True)
        if counts[size] <= RARE * len(paths)
    }


def odd_exposures(paths: Sequence[Path], kept: KeptFingerprints | None = None) -> dict[Path, str]:
    """Images far darker or lighter than the others, with their mean gray and the usual one in words."""
    depth = counts_of_images(list(paths)).depth_or_full
    means = np.array([fingerprint_of_file(path, depth, kept).thumbnail.mean() for path in paths])
    usual = float(np.median(means))
    deviation = max(1.4826 * float(np.median(np.abs(means - usual))), LEAST_DEVIATION)
    return {
        path: f"mean gray {mean:.0f}, usually {usual:.0f}"
        for path, mean in zip(paths, means.tolist(), strict=True)
        if abs(mean - usual) > FAR * deviation
    }
