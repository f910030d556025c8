"""What the file of a detector on a frozen backbone holds, and how a detector is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.patch_embeddings import PatchEmbeddings, PatchSubset

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector

Made = TypeVar("Made")
Fitted = TypeVar("Fitted", bound="BackboneDetector[Any]")

MODEL_DTYPES = ("float16", "float32")
"""Types that the factors of Gaussians can have in a file."""


def contents_of(
    detector: BackboneDetector[Any], arrays: Mapping[str, Tensor], own: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and arrays of a file: those of the model, and all that detectors on a backbone have.

    Parameters
    ----------
    detector : BackboneDetector
        Fitted.
    arrays, own
        Arrays and JSON of its model, :meth:`~padim_zoo.detectors.backbone_detector.BackboneDetector.model_arrays`.
    """
    backbone = detector.build_backbone()
    written = {**arrays, **{f"backbone.{name}": array for name, array in backbone.state_in_use().items()}}
    header: dict[str, Any] = {
        "detector": detector.name,
        "parameters": detector.parameters_for_file(),
        "weights_hash": backbone.weights_hash,
        "precision": detector.precision_,
        "image_size": detector.image_size_,
        "n_images": detector.n_images_,
        **own,
    }
    region = detector.region_of_interest()
    if region is not None and region.mask is not None:
        header["roi"] = region.mask.shape
        written["roi"] = torch.from_numpy(np.packbits(region.mask))
    if detector.region_per_image:
        header["region_per_image"] = True
    if detector.adapted_to:
        header["adapted_to"], header["adapted_images"] = sorted(detector.adapted_to), detector.adapted_images_
    add_calibration(detector.calibration_, header, written)
    return header, written


def add_calibration(calibration: Calibration | None, header: dict[str, Any], arrays: dict[str, Tensor]) -> None:
    """Put a calibration, if there is one, into header and arrays of a file."""
    header["calibration"] = None if calibration is None else calibration.to_dict()
    if calibration is not None:
        arrays["calibration.scores"] = torch.from_numpy(calibration.scores)


def calibration_in(file: DetectorFile) -> Calibration | None:
    """The calibration that :func:`add_calibration` put into a file."""
    if file.header["calibration"] is None:
        return None
    return Calibration(**file.header["calibration"], scores=file.arrays("calibration.")["scores"].numpy())


def unfitted(kind: Callable[..., Made], header: Mapping[str, Any], *, device: str, batch_size: int) -> Made:
    """The detector that the parameters in a file's header make; what JSON made lists of are tuples again."""
    detector = kind(**header["parameters"], device=device, batch_size=batch_size)
    for name in ("resize", "crop", "layers"):
        value = getattr(detector, name, None)
        if isinstance(value, list):
            setattr(detector, name, tuple(value))
    return detector


def detector_from(kind: type[Fitted], file: DetectorFile, *, device: str, batch_size: int) -> Fitted:
    """The detector that a file holds.

    Raises
    ------
    InputError
        If the backbone is not registered here, or its weights are not those of the fit.
    """
    header = file.header
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
    made = registry.backbones.create(name, layers=detector.layers, weights=weights)
    detector.use_backbone(made, header.get("precision"))  # older files have it among the parameters alone
    if made.weights_hash != header["weights_hash"]:
        raise InputError(
            f"{file.path} was fitted with weights {header['weights_hash']} of {made.name}, but holds "
            f"{made.weights_hash}: the file is damaged"
        )
    detector.image_size_ = (header["image_size"][0], header["image_size"][1])
    detector.n_images_ = header["n_images"]
    detector.restore(file)
    detector.set_fit_metadata(
        adapted_to=frozenset(header.get("adapted_to", ())),
        adapted_images=header.get("adapted_images", 0),
        region_per_image=header.get("region_per_image", False),
    )
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
