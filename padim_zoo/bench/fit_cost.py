"""What a fit would cost, in time, memory and model size, before it is done; and what cheaper ways would cost.

One image passes through the backbone as in the fit. The rest is fitted on small crops of it, at two sizes, as many
as there would be images. What that takes grows with the number of patches, and is drawn on along a line. Where parts
are brought to one pose, the poses of a few images are learned, which takes time for each of them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo.bench.measure import MEGABYTE, PeakMemory
from padim_zoo.core.errors import InputError
from padim_zoo.data.image import read_image
from padim_zoo.detectors.aligning_extractor import AligningExtractor
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.choose_registration import MOST_IMAGES, choose_registration
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.registration import KINDS, Registration
from padim_zoo.detectors.suspects import leave_one_out_seconds
from padim_zoo.features.features import Features
from padim_zoo.statistics.accumulator import largest_array

LARGEST_MODEL = 500 * 10**6
"""Bytes of a model beyond which another way is recommended."""

MOST_CROPS = 1000
"""Crops of a probe; of more images, time and samples are drawn on too."""

IMAGES_OF_POSES = 12
"""Of which poses are learned, evenly from all."""

_SIDES = (4, 8)
"""Sides of the crops of the two probes, in strides of the coarsest layer."""

_NOISE = 8.0
"""Of crops, in gray levels of 255."""


@dataclass(frozen=True)
class FitCost:
    """What a fit would cost.

    Attributes
    ----------
    way : str
        What is fitted, in options of ``fit``; ``"as asked"`` for the one that was asked for.
    patches, dimensions : int
    seconds : float
        Of reading all images, of the fit, and of the folds for its threshold.
    memory_mb : float
        The most that the process takes.
    scratch_mb : float
        Of mapped files beside it, which vanish with the process.
    model_mb : float
        Of the file.
    recommended : bool
        Whether it is the first way whose model is small enough; no way may be.
    """

    way: str
    patches: int
    dimensions: int
    seconds: float
    memory_mb: float
    scratch_mb: float
    model_mb: float
    recommended: bool = False

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types, times and sizes in three digits."""
        return {
            name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in asdict(self).items()
        }


USUAL_ROUNDS = 3
"""Of `--trim`: the same images nearly always go again in the second or third."""


def fit_costs(
    detector: Any, paths: Sequence[Path], folds: int, rounds: int = 0, *, resumable: bool = False
) -> list[FitCost]:
    """What a fit on image files would cost, the way that is asked for first, then cheaper ones.

    Parameters
    ----------
    detector : BackboneDetector
        Not fitted; it stays so.
    paths : sequence of Path
        At least one.
    folds : int
        For the threshold.
    rounds : int
        How often each image is scored by a fit on all others.
    resumable : bool
        Whether the model holds what ``update`` and ``merge`` need.

    Raises
    ------
    InputError
        If one of the images looked at cannot be read, or the detector is of no kind whose fit can be drawn on.
    """
    if not isinstance(detector, BackboneDetector) or not detector.cost.grows_with_patches:
        name = getattr(detector, "name", type(detector).__name__)
        raise InputError(f"--dry-run cannot tell what a fit of {name} costs: expected a detector such as padim")
    if not paths:
        raise InputError("--dry-run has no images to tell the costs of: expected one normal image or more")
    costs: list[FitCost] = []
    start = time.perf_counter()
    image = read_image(paths[0], detector.extractor.bit_depth)
    reading = (time.perf_counter() - start) * len(paths)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        registration = None
        if isinstance(detector, PaDiM) and detector.register is not None:
            registration, reading = _poses(detector, paths)
        more: dict[str, Any] = {"folds": folds, "rounds": rounds, "resumable": resumable, "registration": registration}
        for way, changes in _ways(detector):
            cost = _cost(detector, way, changes, image, paths, **more)
            costs.append(replace(cost, seconds=cost.seconds + reading))
    limit = min(LARGEST_MODEL, detector.extractor.budget) / MEGABYTE
    best = next((number for number, cost in enumerate(costs) if cost.model_mb <= limit), None)
    return [replace(cost, recommended=number == best) for number, cost in enumerate(costs)]


def _poses(detector: PaDiM, paths: Sequence[Path]) -> tuple[Registration | None, float]:
    """What a few images say of poses, and the seconds that all of them would take, decoding included."""
    some = list(paths[:: max(1, len(paths) // IMAGES_OF_POSES)][:IMAGES_OF_POSES])

    def learn(kind: str | None) -> tuple[Registration | None, float]:
        one = _variant(detector, cache=False, register=kind).with_backbone(detector.build_backbone())
        assert isinstance(one, PaDiM)
        one.draw()
        extractor, _ = one.extractor.on_grid_of(list(paths))
        assert isinstance(extractor, AligningExtractor)
        start = time.perf_counter()
        learned, _ = choose_registration(extractor, some, one.embed)
        return learned, time.perf_counter() - start

    registration, seconds = learn(detector.register)
    if detector.register != "auto":
        return registration, seconds * len(paths) / len(some)
    # Motions are learned of all images, and compared on some.
    learning = sum(learn(kind)[1] for kind in KINDS)
    compared = max(0.0, seconds - learning) * min(len(paths), MOST_IMAGES) / len(some)
    return registration, learning * len(paths) / len(some) + compared


def _ways(detector: BackboneDetector[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fit that is asked for, and cheaper ones, by their options and parameters."""
    yield "as asked", {}
    parameters, backbone = detector.get_params(deep=False), detector.build_backbone()
    tied = str(parameters.get("estimator", "tied")).startswith("tied")
    if not tied and parameters.get("trim_patches") is None:  # which is for each patch by itself
        yield '--estimator "tied(cells=8)"', {"estimator": "tied(cells=8)"}
    if "n_components" in parameters:
        all_channels = sum(backbone.channels)
        fewer = min(parameters["n_components"] or backbone.default_n_components or all_channels, all_channels) // 2
        if fewer:
            yield f"--n-components {fewer}", {"n_components": fewer}
    if "estimator" in parameters and isinstance(detector.backbone, str) and len(backbone.layers) > 2:
        coarser = backbone.layers[1:]
        yield f"--layers {','.join(coarser)}", {"layers": coarser, "n_components": None}


def _cost(
    detector: BackboneDetector[Any],
    way: str,
    changes: dict[str, Any],
    image: np.ndarray,
    paths: Sequence[Path],
    *,
    folds: int,
    rounds: int,
    resumable: bool,
    registration: Registration | None,
) -> FitCost:
    """What a way costs but for decoding and poses, by one decoded image; ``rounds`` are those of leave-one-out.

    With a registration it is by the file of that image, whose finer pixels are read, and decoding is counted.
    """
    whole = _variant(detector, cache=False, **changes)
    if "layers" not in changes:
        whole = whole.with_backbone(detector.build_backbone())
    backbone = whole.build_backbone()
    extractor, _ = whole.extractor.on_grid_of(list(paths))
    region = extractor.region_of_interest()
    extractor.facts = replace(extractor.facts, registration=registration)
    by_pixels = registration is None and (region is None or region.common)  # masks of single images go by names
    source: Any = [image] if by_pixels else paths[:1]
    next(extractor.features(source, fit=True))  # how images are cut, and what is packed once, takes time of its own
    with PeakMemory() as of_image:
        start = time.perf_counter()
        features = next(extractor.features(source, fit=True))
        seconds = time.perf_counter() - start
    n = len(paths) * whole.extractor.views.passes
    plain = dict.fromkeys(("resize", "crop", "augment", "passes", "tta", "roi", "tiles"))
    probe = _variant(whole, backbone=backbone, **plain)
    if "register" in probe.get_params(deep=False):
        probe.set_params(register=None)
    stride = max(backbone.strides)
    crops = min(n, MOST_CROPS)
    layout = extractor.tile_layout(features.image_size)
    image_size = features.image_size if layout is None else layout.tile_size
    sizes = [[size % stride + stride * side for size in image_size] for side in _SIDES]
    _Probe.of(probe, _crops(image, sizes[0], 2), folds)  # what is imported and packed once
    probes = [_Probe.of(probe, _crops(image, size, crops), folds, rounds, resumable=resumable) for size in sizes]
    patches = features.finest_grid[0] * features.finest_grid[1]

    def drawn_on(name: str) -> float:
        return _on_the_line([(each.patches, getattr(each, name)) for each in probes], patches)

    samples = drawn_on("sample_bytes") * n / crops
    weights = sum(array.nbytes for array in backbone.state_in_use().values())
    model = drawn_on("model_bytes") + weights
    # Where an image is compared with all patches of others, that grows with the square of their number.
    one_round = _on_the_parabola([(each.patches, each.seconds_of_round) for each in probes], patches) * (n / crops)
    budget = whole.extractor.budget
    making = probe.cost.memory(probe, int(samples), budget)
    on_disk = samples > largest_array(budget)
    return FitCost(
        way,
        patches,
        probes[-1].dimensions,
        seconds * len(paths)
        + drawn_on("seconds") * n / crops
        + probe.cost.seconds(probe, features, n, folds)
        + rounds * one_round,
        max(of_image.megabytes, (of_image.before + making) / MEGABYTE),
        3 * samples / MEGABYTE if on_disk else 0.0,
        model / MEGABYTE,
    )


@dataclass(frozen=True)
class _Probe:
    """A fit on crops of one size."""

    patches: int
    dimensions: int
    seconds: float
    seconds_of_round: float
    sample_bytes: int
    model_bytes: int

    @classmethod
    def of(
        cls,
        detector: BackboneDetector[Any],
        parts: Sequence[np.ndarray],
        folds: int,
        rounds: int = 0,
        *,
        resumable: bool = False,
    ) -> _Probe:
        """Fit on images."""
        features: Features = detector.extract_normal(parts)
        start = time.perf_counter()
        detector.fit_features(features)
        detector.model_  # noqa: B018  made when first wanted
        if len(parts) > 1:
            detector.calibrate(folds=folds)
        seconds = time.perf_counter() - start
        arrays, _ = detector.model_arrays(resumable=resumable, half=True)
        embeddings = detector.statistics_.embeddings  # type: ignore[union-attr]
        return cls(
            features.finest_grid[0] * features.finest_grid[1],
            embeddings.D,
            seconds,
            leave_one_out_seconds(detector) if rounds else 0.0,
            embeddings.size_in_bytes(),
            sum(array.nbytes for array in arrays.values()),
        )


def _crops(image: np.ndarray, size: Sequence[int], count: int) -> list[np.ndarray]:
    """Random parts of an image, with noise: parts of a black background have no covariance.

    Their sides leave the same rest as the image's, divided by the stride of the layers. So the grids of their layers
    nest if those of the image do.
    """
    rng = np.random.default_rng(0)
    height, width = (min(side, own) for side, own in zip(size, image.shape[:2], strict=True))
    corners = rng.integers(0, (image.shape[0] - height + 1, image.shape[1] - width + 1), (count, 2))
    parts = (image[top : top + height, left : left + width] for top, left in corners)
    return [np.clip(part + rng.normal(0, _NOISE, part.shape), 0, 255).astype(np.uint8) for part in parts]


def _on_the_line(points: Sequence[tuple[int, float]], at: int) -> float:
    """The value at a number of patches on the line through two points, or through the second and 0 if that falls."""
    (x0, y0), (x1, y1) = points
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    if slope <= 0:  # of times on a busy machine
        slope = y1 / x1
    return y1 + slope * (at - x1)


def _on_the_parabola(points: Sequence[tuple[int, float]], at: int) -> float:
    """The value at a number of patches on a·x + b·x² through two points, or on their line if either is negative."""
    (x0, y0), (x1, y1) = points
    b = (y1 / x1 - y0 / x0) / (x1 - x0) if x1 > x0 else 0.0
    a = y1 / x1 - b * x1
    return a * at + b * at**2 if min(a, b) >= 0 else _on_the_line(points, at)


def _variant(detector: BackboneDetector[Any], **changes: Any) -> BackboneDetector[Any]:
    """An unfitted detector of the same kind with some parameters changed."""
    other: BackboneDetector[Any] = type(detector)(**detector.get_params(deep=False) | changes)
    return other
