"""Means and covariances without a model around them: those of the first implementation of PaDiM, and of anodet.

The first (github.com/xiahaifeng1995/PaDiM-Anomaly-Detection-Localization-master) pickles ``[mean (D, P), covariance
(D, D, P)]``; anodet (github.com/OpenAOI/anodet) saves ``mean`` and ``cov_inv`` by torch, (P, D) and (P, D, D), or with
the patches last in its early versions. Neither file names the network, nor says which channels were drawn: by both it
is ``random.sample`` after ``random.seed(1024)``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.core.file_type import file_type
from padim_zoo.data.transform import Size
from padim_zoo.importers.imported_model import ImportedModel

_TOTAL = {"resnet18": 448, "wide_resnet50_2": 1792}
_BY_DIMS = {100: "resnet18", 550: "wide_resnet50_2"}
_SEED = 1024


def read_anodet(mean: Any, matrix: Any, paths: Sequence[Path], **asked: Any) -> ImportedModel:
    """The model of two tensors that anodet saved."""
    model = _model("anodet", mean, matrix, paths, is_inverse=True, pad_mode="reflect", size=(224, 224), **asked)
    if model.backbone == "wide_resnet50_2":
        model.notes.append(
            "anodet takes torchvision's second weights of wide_resnet50_2, and the default here is the first: if the "
            "scores are to be equal, give the file of the second by --weights"
        )
    return model


def read_first_implementation(content: Any, path: Path, **asked: Any) -> ImportedModel:
    """The model of the pickle ``[mean, covariance]``."""
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise InputError(f"{path} holds a {type(content).__name__}: expected the list [mean, covariance] of two arrays")
    model = _model(
        "the first implementation",
        content[0],
        content[1],
        [path, path],
        is_inverse=False,
        pad_mode="symmetric",
        size=(256, 224),
        **asked,
    )
    model.notes.append(
        "it resized images by Lanczos interpolation; here it is bilinear: scores are equal on images whose shorter "
        f"side is {model.resize} already, and nearly so on others"
    )
    return model


def _model(
    source: str,
    mean: Any,
    matrix: Any,
    paths: Sequence[Path],
    *,
    is_inverse: bool,
    pad_mode: str,
    size: tuple[int, int],
    backbone: str | None,
    layers: tuple[str, ...] | None,
    channels: Tensor | None,
    resize: Size | Callable[[], Size],
    crop: Size | Callable[[], Size],
) -> ImportedModel:
    means, matrices = _patches_first(_tensor(mean, paths[0]), _tensor(matrix, paths[1]), paths)
    D = means.shape[1]
    notes = []
    if backbone is None:
        backbone = _BY_DIMS.get(D)
        if backbone is None:
            raise InputError(
                f"{paths[0]} has {D} dimensions, which do not tell the backbone (100 stand for resnet18, 550 for "
                "wide_resnet50_2): name it by --backbone"
            )
        notes.append(f"{D} dimensions stand for {backbone}: if it was another, name it by --backbone")
    if channels is None:
        channels = _drawn(D, backbone, layers)
    if len(channels) != D:
        raise InputError(f"there are {len(channels)} channel indices for {D} dimensions: expected as many")
    return ImportedModel(
        source,
        backbone,
        layers,
        channels,
        means,
        matrices,
        is_inverse,
        resize=size[0] if callable(resize) else resize,
        crop=size[1] if callable(crop) else crop,
        pad_mode=pad_mode,
        notes=notes,
    )


def _drawn(D: int, backbone: str, layers: tuple[str, ...] | None) -> Tensor:
    """The channels that both programs draw."""
    if backbone not in _TOTAL or layers is not None:
        raise InputError(
            f"the channels that were drawn of {backbone} are not known: give their indices by --channels FILE "
            "(.pt, .npy or .json)"
        )
    return torch.tensor(random.Random(_SEED).sample(range(_TOTAL[backbone]), D))


def _tensor(content: Any, path: Path) -> Tensor:
    if isinstance(content, np.ndarray) and content.dtype.kind == "f":
        content = torch.from_numpy(np.ascontiguousarray(content))
    if not isinstance(content, Tensor) or not content.is_floating_point():
        raise InputError(f"{path} holds a {type(content).__name__}: expected an array of floating-point numbers")
    if not torch.isfinite(content).all():
        raise InputError(f"{path} has numbers that are not finite: fit again")
    return content.detach()


def _patches_first(mean: Tensor, matrix: Tensor, paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Means (P, D) and matrices (P, D, D), whichever way they lie; a grid (D, H, W) may be spelt out."""
    if mean.ndim == 3 and matrix.ndim == 4:
        mean, matrix = mean.flatten(1), matrix.flatten(2)
    if mean.ndim == 2 and matrix.ndim == 3:
        P, D = mean.shape
        if matrix.shape == (P, D, D):
            return mean, matrix
        if matrix.shape == (P, P, D):  # patches last: mean (D, P), matrix (D, D, P)
            return mean.T, matrix.permute(2, 0, 1)
    raise InputError(
        f"{paths[0]} has the shape {tuple(mean.shape)} and {paths[1]} {tuple(matrix.shape)}: expected (P, D) and "
        "(P, D, D), or (D, P) and (D, D, P)"
    )


def read_channels(path: Path) -> Tensor:
    """Channel indices from a ``.pt``, ``.npy`` or ``.json`` file.

    Raises
    ------
    InputError
        If it is none, or does not hold whole numbers.
    """
    from padim_zoo.importers.stub_pickle import read_torch_file

    if not path.is_file():
        raise InputError(f"--channels {path} does not exist: expected a .pt, .npy or .json file of channel indices")
    content: Any
    try:
        if path.suffix == ".json":
            content = torch.tensor(read_json(path.read_text(encoding="utf-8")))
        elif path.suffix == ".npy":
            content = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            content = read_torch_file(path)
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"--channels {path} is {file_type(path)}: expected channel indices in a .pt, .npy or .json file that is "
            "what its suffix says"
        ) from None
    if not isinstance(content, Tensor) or content.is_floating_point() or content.ndim != 1 or not len(content):
        raise InputError(f"--channels {path} holds no list of whole numbers: expected channel indices")
    return content
