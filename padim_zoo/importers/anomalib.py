"""PaDiM as anomalib 2 writes it: a Lightning checkpoint (``.ckpt``) or a module exported to torch (``.pt``).

The plugin padim-zoo-anomalib puts a whole detector of padim-zoo into such a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.loading import detector_in
from padim_zoo.detectors.storage import DetectorInMemory
from padim_zoo.importers.imported_model import ImportedModel
from padim_zoo.importers.stub_pickle import Stub

EPSILON = 0.01001
"""What anomalib adds to the diagonal of a covariance: 0.01, and 1e-5 once more before it inverts it."""

_NETWORK = "model.feature_extractor.feature_extractor."
_DEEPEST = 4
"""Transforms within transforms, at most."""
_DEEPEST_MODULE = 40


def is_anomalib(content: Any) -> bool:
    """Whether what a file holds is a checkpoint or an export of anomalib."""
    return isinstance(content, Mapping) and ("state_dict" in content or isinstance(content.get("model"), Stub))


def read_anomalib(content: Mapping[str, Any], path: Path) -> ImportedModel:
    """The model in a checkpoint or an export.

    Raises
    ------
    InputError
        If it is not a fitted PaDiM, or has parts that cannot be represented here.
    """
    if "state_dict" in content:
        state, settings = content["state_dict"], content.get("hyper_parameters", {})
        transform = content.get("anomalib_pre_processor_config", {}).get("transform")
        if transform is None and isinstance(settings.get("pre_processor"), Stub):  # before anomalib 2.7
            transform = _attributes(settings["pre_processor"]).get("transform")
    else:
        module = content["model"]
        parts = _attributes(module)
        state, settings = dict(_tensors(module)), _attributes(parts.get("model"))
        transform = _attributes(parts.get("pre_processor")).get("transform")
    for name in ("idx", "gaussian.mean", "gaussian.inv_covariance"):
        if f"model.{name}" not in state:
            raise InputError(
                f"{path} has no tensor model.{name} (it has {', '.join(list(state)[:3])} …): expected a PaDiM of "
                "anomalib; other models cannot be imported"
            )
    channels, mean = state["model.idx"], state["model.gaussian.mean"]
    if not mean.numel():
        raise InputError(f"{path} holds a PaDiM that is not fitted: fit it in anomalib first")
    network = {key.removeprefix(_NETWORK): tensor for key, tensor in state.items() if key.startswith(_NETWORK)}
    if not isinstance(settings, Mapping) or not isinstance(settings.get("backbone"), str):
        raise InputError(f"{path} does not name its backbone: expected one that timm knows by name")
    name = settings["backbone"]
    resize, crop, notes = _geometry(transform, path)
    return ImportedModel(
        "anomalib",
        name if name in registry.backbones.names() else f"timm/{name}",
        tuple(settings.get("layers") or ("layer1", "layer2", "layer3")),
        channels,
        mean.T,
        state["model.gaussian.inv_covariance"],
        is_inverse=True,
        resize=resize,
        crop=crop,
        pad_mode="reflect",
        sigma=_sigma(state.get("model.anomaly_map_generator.blur.kernel"), path),
        estimator=f"full({EPSILON})",
        weights=network,
        notes=notes + _threshold_note(state),
    )


def _sigma(kernel: Tensor | None, path: Path) -> float:
    """Standard deviation of a Gaussian kernel (1, 1, k, k), cut where anomalib cuts it."""
    if kernel is None:
        return 4.0
    row = kernel.double().sum((0, 1, 2))
    center = len(row) // 2
    ratio = float(row[center + 1] / row[center])
    sigma = round(math.sqrt(-1 / (2 * math.log(ratio))), 4) if 0 < ratio < 1 else 0.0
    if len(row) != 2 * int(4 * sigma + 0.5) + 1:
        raise InputError(f"{path} blurs its maps with a kernel of {len(row)} pixels, which is not cut at 4 sigma")
    return sigma


def _geometry(transform: Any, path: Path) -> tuple[Any, Any, list[str]]:
    """Resize, crop and notes of what anomalib does to an image."""
    if transform is None:
        return (256, 256), None, ["the file has no transform: anomalib's default is taken, 256x256 pixels"]
    resize: Any = None
    crop: Any = None
    notes = []
    for kind, options in _steps(transform):
        if kind == "Resize" and resize is None and crop is None:
            resize = _size(options["size"])
            if options.get("interpolation") not in (None, "bilinear", 2):
                notes.append(f"images were resized by {options['interpolation']} interpolation; here it is bilinear")
            elif options.get("antialias") is False:
                notes.append("images were resized without antialiasing; here it is with")
            else:
                notes.append(
                    "anomalib resizes in floating point, padim-zoo as Pillow does, to whole numbers: scores are equal "
                    "on images that have this size already, and nearly so on others"
                )
        elif kind in ("CenterCrop", "ExportableCenterCrop") and crop is None:
            crop = _size(options["size"])
        elif kind == "Normalize":
            if not _close(options["mean"], IMAGENET_MEAN) or not _close(options["std"], IMAGENET_STD):
                raise InputError(
                    f"{path} normalizes images by mean {options['mean']} and std {options['std']}: expected ImageNet's"
                )
        elif kind not in ("ToImage", "ToDtype", "ToTensor", "Identity"):
            raise InputError(f"{path} transforms images by {kind}: expected Resize, CenterCrop and Normalize only")
    return resize, (crop, crop) if isinstance(crop, int) else crop, notes


def _steps(transform: Any, depth: int = 0) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and settings of the steps of a transform, a description or stand-ins of torchvision's objects."""
    if depth > _DEEPEST:
        raise ValueError("transforms within transforms")
    if isinstance(transform, Stub):
        kind, options = transform.global_name.rpartition(".")[2], _attributes(transform)
    else:
        kind, options = transform["class_path"].rpartition(".")[2], transform["init_args"]
    if kind == "Compose":
        return [step for part in options["transforms"] for step in _steps(part, depth + 1)]
    return [(kind, options)]


def _size(size: Any) -> Any:
    lengths = [size] if isinstance(size, int) else list(size)
    return lengths[0] if len(lengths) == 1 else (lengths[0], lengths[1])


def _close(values: Any, expected: tuple[float, ...]) -> bool:
    return len(values) == len(expected) and all(abs(a - b) < 1e-6 for a, b in zip(values, expected, strict=True))


def _threshold_note(state: Mapping[str, Any]) -> list[str]:
    threshold = state.get("post_processor._image_threshold")
    if threshold is None or not math.isfinite(float(threshold)):
        return []
    return [
        f"anomalib's threshold, chosen on its validation images, was {float(threshold):.6g} before its normalization "
        f"of scores: padim-zoo predict --threshold {float(threshold):.6g}"
    ]


def _attributes(thing: Any) -> dict[str, Any]:
    """The attributes of a module's stand-in, its submodules among them."""
    state = thing.state if isinstance(thing, Stub) and isinstance(thing.state, dict) else {}
    modules = state.get("_modules")
    return {**state, **(modules if isinstance(modules, Mapping) else {})}


def _tensors(module: Stub, prefix: str = "", around: tuple[Stub, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """All parameters and buffers of a module's stand-in, named as ``state_dict`` names them."""
    if not isinstance(module, Stub) or not isinstance(module.state, dict):
        return
    if module in around or len(around) > _DEEPEST_MODULE:
        raise ValueError("modules within themselves")
    for group in ("_parameters", "_buffers"):
        tensors = module.state.get(group) or {}
        yield from ((prefix + name, tensor) for name, tensor in tensors.items() if isinstance(tensor, Tensor))
    for name, child in (module.state.get("_modules") or {}).items():
        yield from _tensors(child, f"{prefix}{name}.", (*around, module))


_HEADER = "model.header"
_ARRAYS = "model.arrays."


@dataclass
class WrappedDetector:
    """Header and arrays of a detector, as a model file of padim-zoo holds them."""

    path: Path
    header: dict[str, Any]
    arrays: dict[str, Tensor]
    source: str = "padim-zoo in anomalib"
    notes: list[str] = field(default_factory=list)

    def detector(self) -> Detector:
        """The fitted detector."""
        absent = [name for name in ("detector", "parameters", "image_size", "n_images") if name not in self.header]
        if absent:
            raise InputError(f"{self.path} is damaged: its header has no {', '.join(absent)}; save it again")
        return detector_in(DetectorInMemory(self.path, self.header, tensors=self.arrays))


def is_wrapped(content: Any) -> bool:
    """Whether what a file holds is such a checkpoint."""
    return isinstance(content, Mapping) and _HEADER in (content.get("state_dict") or {})


def read_wrapped(content: Mapping[str, Any], path: Path) -> WrappedDetector:
    """The detector in a checkpoint, with the transform of the pre-processor around it.

    Raises
    ------
    InputError
        If the checkpoint is damaged.
    """
    state, settings = content["state_dict"], content.get("hyper_parameters", {})
    try:
        header = read_json(bytes(state[_HEADER].tolist()))
        header["parameters"] |= {name: settings[name] for name in ("resize", "crop")}
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds a detector whose header cannot be read: {error}") from None
    arrays = {name.removeprefix(_ARRAYS): array for name, array in state.items() if name.startswith(_ARRAYS)}
    return WrappedDetector(path, header, arrays)
