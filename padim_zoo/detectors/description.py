"""What is said of a detector at work: what it looks at, how images pass through its backbone, what it can promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_zoo.backbones.backbone import Backbone
    from padim_zoo.data.coverage import Coverage
    from padim_zoo.data.sample import Sample


def coverage_of(detector: Any, images: Iterable[Path | Sample], orientation: str | None = None) -> Coverage:
    """What a fitted detector, or an exported one, looks at of images, and how many its grid distorts."""
    from padim_zoo.data.coverage import coverage

    leaves_grid = isinstance(getattr(detector, "resize", None), int) and getattr(detector, "crop", 0) is None
    extractor = getattr(detector, "extractor", None)
    stride = extractor.stride if leaves_grid and extractor is not None else None
    return coverage(detector.transform, images, stride, orientation=orientation)


def blocks_of(detector: Any) -> str:
    """The bands or blocks in which images passed through the backbone, or those of all members; empty for none."""
    extractors = [part.extractor for part in parts_of(detector) if hasattr(part, "extractor")]
    blocks = (extractor.plans.latest for extractor in extractors)
    return "; ".join(dict.fromkeys(str(each) for each in blocks if each is not None))


def describe_runtime(detector: Any) -> str:
    """What runs the backbone, or those of all members, where that is not torch, or was asked for; else empty."""
    from padim_zoo.runtimes.runtime import AUTO, TORCH

    named = []
    for part in parts_of(detector):
        backbone = getattr(part, "backbone_", None)
        if backbone is not None and (backbone.choice is not None or backbone.runtime != TORCH):
            named.append(str(backbone.choice or backbone.runtime))
        elif backbone is not None and getattr(part, "runtime", None) == AUTO:
            named.append(f"torch: {_why_torch(part, backbone)}")
    return "; ".join(dict.fromkeys(named))


def _why_torch(detector: Any, backbone: Backbone) -> str:
    from padim_zoo.backbones.conversion import why_torch
    from padim_zoo.runtimes.runtime import RUNTIMES

    if not any(runtime.is_installed for runtime in RUNTIMES.values()):
        return "no other is installed"
    size = detector.image_size_
    tiles = detector.extractor.tile_layout(size)
    return why_torch(backbone, size if tiles is None else tiles.tile_size) or "these images do not repay another"


def describe_work(detector: Any, seen: Coverage) -> dict[str, str]:
    """What was looked at and how it was computed, by titles: transform; blocks and runtime if they are not usual."""
    rows = {"transform": str(detector.transform), "looks at": seen.shares.removeprefix("looks at ")}
    rows |= {"streams": f"in {blocks}"} if (blocks := blocks_of(detector)) else {}
    return rows | ({"runtime": runs} if (runs := describe_runtime(detector)) else {})


def parts_of(detector: Any) -> Sequence[Any]:
    """The members of an ensemble, or the detector itself."""
    return getattr(detector, "members", (detector,))


def unpromised(calibration: Any) -> str | None:
    """Which of the usual rates the images of a calibration cannot promise; None where they can promise all."""
    from padim_zoo.detectors.calibration import RATES
    from padim_zoo.metrics.conformal import images_for

    least = calibration.least_rate
    if None not in calibration.thresholds().values():
        return None
    images = calibration.n_groups
    needed = images_for(RATES[0])
    return (
        f"{images} different images promise no false-alarm rate below {least:.3g}; {RATES[0]:g} takes {needed}, "
        f"{needed - images} more"
    )
