"""What the file of a detector on a frozen backbone holds, and how a detector is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import FieldError, Fields, is_size
from padim_zoo.core.precision import PRECISIONS
from padim_zoo.core.spill import spill_above
from padim_zoo.detectors.calibration import ARRAYS, Calibration
from padim_zoo.detectors.config import DECIDES, REGION_AREAS
from padim_zoo.detectors.image_facts import ImageFacts
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.pose_evidence import PoseEvidence
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.features.patch_embeddings import PatchEmbeddings, PatchSubset
from padim_zoo.statistics.accumulator import largest_array

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector

Made = TypeVar("Made")
Fitted = TypeVar("Fitted", bound="BackboneDetector[Any]")

_LEFT_OPEN = ("device", "batch_size", "memory", "stream", "cache", "roi", "runtime")
"""Parameters that a file does not keep: they change how fast a detector works, or are kept as an array."""

STATISTICS_LEFT_OUT = (
    "does not hold the statistics of its images; fit again, or save with resumable=True (padim-zoo fit --resumable) "
    "before the next time"
)

MOST_PASSES = 1000

POSE_ARRAYS = {"poses": 3, "distances": 2, "scores": 2}
"""What a file holds of the evidence of poses: so many numbers of each image."""

MODEL_DTYPES = ("float16", "float32")
"""Types that the factors of Gaussians can have in a file."""


def to_state(
    detector: BackboneDetector[Any], *, resumable: bool = False, dtype: str = "float16"
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and arrays of the file that :meth:`BackboneDetector.save` writes: of the model, and all that is common.

    Raises
    ------
    InputError
        If the detector is not fitted or does not know its statistics, or there is no such type.
    """
    if dtype not in MODEL_DTYPES:
        raise InputError(f"dtype is {dtype!r}: expected {' or '.join(MODEL_DTYPES)}")
    detector.model_  # noqa: B018  an unfitted detector says so
    with spill_above(largest_array(detector.extractor.budget)):
        arrays, own = detector.model_arrays(resumable=resumable, half=dtype == "float16")
    backbone, region = detector.build_backbone(), detector.extractor.region_of_interest()
    of_backbone = {f"backbone.{name}": array for name, array in backbone.state_in_use().items()}
    of_images, hashes_and_groups = detector.learned_images_.to_file(detector.extractor.adapted_to)
    written = {**arrays, **of_backbone, **hashes_and_groups}
    header: dict[str, Any] = {
        "detector": detector.name,
        "described": detector.describe_fit(),
        "parameters": _parameters(detector, backbone),
        "weights_hash": backbone.weights_hash,
        "precision": detector.precision_,
        "runtime": detector.runtime_,
        "image_size": detector.image_size_,
        "bit_depth": detector.extractor.bit_depth,
        **of_images,
        **own,
    }
    if region is not None and region.mask is not None:
        header["roi"] = region.mask.shape
        written["roi"] = torch.from_numpy(np.packbits(region.mask))
    if detector.region_per_image if region is None else not region.common:
        header["region_per_image"] = True
    if detector.several_sizes:
        header["several_sizes"] = True
    add_calibration(detector.calibration_, header, written)
    return header, written


def _parameters(detector: BackboneDetector[Any], backbone: Backbone) -> dict[str, Any]:
    """The constructor's arguments as a file keeps them, names for objects."""
    parameters = {
        name: registry.estimators.spec_of(value) if isinstance(value, Estimator) else value
        for name, value in detector.get_params(deep=False).items()
        if name not in _LEFT_OPEN
    }
    named = {"backbone": backbone.name, "weights": Path(backbone.weights_source).name, "layers": list(backbone.layers)}
    return parameters | named


def add_calibration(calibration: Calibration | None, header: dict[str, Any], arrays: dict[str, Tensor]) -> None:
    """Put a calibration, if there is one, into header and arrays of a file."""
    header["calibration"] = None if calibration is None else calibration.to_dict()
    for name in ARRAYS if calibration is not None else ():
        if (array := getattr(calibration, name)) is not None:
            arrays[f"calibration.{name}"] = torch.from_numpy(array)
    evidence = None if calibration is None else calibration.pose_evidence
    for name in POSE_ARRAYS if evidence is not None else ():
        arrays[f"calibration.pose_evidence.{name}"] = torch.from_numpy(getattr(evidence, name))


def calibration_in(file: DetectorFile) -> Calibration | None:
    """The calibration that :func:`add_calibration` put into a file."""
    if file.header["calibration"] is None:
        return None
    arrays: dict[str, Any] = {name: array.numpy() for name, array in file.arrays("calibration.").items()}
    of_poses: dict[str, Any] = {name: arrays.pop(f"pose_evidence.{name}", None) for name in POSE_ARRAYS}
    calibration = Calibration(**file.header["calibration"], **arrays)
    fields = Fields(file.header["calibration"], "calibration.")
    fields.number("threshold")
    fields.or_none("false_alarm_rate", lambda name: fields.number(name, 0, 1))
    fields.whole("folds")
    fields.or_none("map_low", fields.number)
    fields.or_none("map_high", fields.number)
    if "rate_asked" in fields.values:
        fields.flag("rate_asked")
    if "region_threshold" in fields.values:
        fields.number("region_threshold")
        fields.number("region_rate", 0, 1)
    if calibration.region_area not in REGION_AREAS or calibration.decides not in DECIDES:
        raise FieldError("calibration.region_area or calibration.decides is none that is known")
    peaks = calibration.region_peaks
    if peaks is not None and peaks.shape != (len(calibration.scores), len(REGION_AREAS)):
        raise FieldError("calibration.region_peaks are not one number for each image and area")
    maxima = calibration.map_maxima
    if maxima is not None and (maxima.ndim != 3 or len(maxima) != len(calibration.scores)):
        raise FieldError("calibration.map_maxima are not one grid of cells for each image")
    deciding = {"pixel": calibration.map_high, "region": calibration.region_threshold}
    if deciding.get(calibration.decides, 0.0) is None:
        raise FieldError(f"calibration.decides is {calibration.decides}, which has no threshold")
    if calibration.scores.ndim != 1 or not np.isfinite(calibration.scores).all():
        raise FieldError("calibration.scores are not one finite number for each image")
    if any(array is not None for array in of_poses.values()):
        for name, numbers in POSE_ARRAYS.items():
            if of_poses[name] is None or of_poses[name].shape != (len(calibration.scores), numbers):
                raise FieldError(f"calibration.pose_evidence.{name} are not {numbers} numbers for each image")
        calibration = calibration.changed(pose_evidence=PoseEvidence(**of_poses, groups=calibration.groups))
    return calibration


def unfitted(kind: Callable[..., Made], header: Mapping[str, Any], *, device: str, batch_size: int) -> Made:
    """The detector that the parameters in a file's header make; what JSON made lists of are tuples again."""
    detector = kind(**header["parameters"], device=device, batch_size=batch_size)
    for name in ("resize", "crop", "layers"):
        value = getattr(detector, name, None)
        if isinstance(value, list):
            setattr(detector, name, tuple(value))
    return detector


def check_header(header: Mapping[str, Any]) -> None:
    """Refuse fields that are absent, or not of their type and range.

    Raises
    ------
    FieldError
        Naming the first.
    """
    fields = Fields(header)
    fields.sizes("image_size")
    fields.text("precision", PRECISIONS)
    fields.text("runtime")
    fields.text("weights_hash")
    fields.whole("bit_depth", 8, 16)
    parameters = fields.fields("parameters")
    parameters.text("backbone")
    if "passes" in parameters.values:
        parameters.or_none("passes", lambda name: parameters.whole(name, 1, MOST_PASSES))
    if "roi" in header:
        fields.sizes("roi")
    if "several_sizes" in header:
        fields.flag("several_sizes")
    if "grids" in header:
        for grid in fields.array("grids"):
            if not is_size(grid):
                raise FieldError(f"grids has {str(grid)[:40]}: expected height and width")


def detector_from(kind: type[Fitted], file: DetectorFile, *, device: str, batch_size: int) -> Fitted:
    """The detector that a file holds.

    Raises
    ------
    InputError
        If the backbone is not registered here, or its weights are not those of the fit.
    """
    header = file.header
    check_header(header)
    detector = unfitted(kind, header, device=device, batch_size=batch_size)
    if "roi" in header:
        height, width = header["roi"]
        packed = file.arrays("roi")[""].numpy()
        detector.roi = np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)
    detector.check_parameters()
    weights = file.arrays("backbone.")
    name = header["parameters"]["backbone"]
    try:
        registry.backbones.entry(name)
    except InputError as error:
        raise InputError(f"{error}; if a plugin brought it, load that first (--plugin FILE)") from None
    backbone = registry.backbones.create(name, layers=detector.layers, weights=weights)
    height, width = header["image_size"]
    detector.image_size_, detector.learned_images_ = (height, width), LearnedImages.in_file(file)
    detector.fitted_in, detector.fitted_by = header["precision"], header["runtime"]
    extractor = detector.extractor
    extractor.facts = ImageFacts(header["bit_depth"])
    extractor.in_use.adapted_to = frozenset(header.get("adapted_to", ()))
    detector.region_per_image = header.get("region_per_image", False)
    detector.several_sizes = header.get("several_sizes", False)
    extractor.in_use.use(backbone, extractor.config, header["precision"])
    if backbone.weights_hash != header["weights_hash"]:
        raise InputError(
            f"{file.path} was fitted with weights {header['weights_hash']} of {backbone.name}, but holds "
            f"{backbone.weights_hash}: the file is damaged"
        )
    detector.made_model = detector.restore(file)
    detector.calibration_ = calibration_in(file)
    return detector


def numbered(prefix: str, embeddings: PatchEmbeddings) -> dict[str, Tensor]:
    """The layers of embeddings by number, as a file names them."""
    return {f"{prefix}.{number}": layer for number, layer in enumerate(embeddings.layers)}


def embeddings_of(
    layers: Mapping[str, Tensor],
    grids: Iterable[Iterable[int]],
    subset: Tensor | None = None,
    roi_masks: Tensor | None = None,
) -> PatchEmbeddings:
    """Embeddings from the layers that a file holds by number, of some of the patches and pixels."""
    ordered = tuple(layers[str(number)] for number in range(len(layers)))
    sizes = tuple((height, width) for height, width in grids)
    grid = max(sizes, key=lambda grid: grid[0] * grid[1])
    return PatchEmbeddings(ordered, sizes, grid, None if subset is None else PatchSubset(grid, subset), roi_masks)
