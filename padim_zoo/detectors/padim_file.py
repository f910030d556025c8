"""What a file holds of a PaDiM: Gaussians, reduction and, to go on from, moments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import AS_IT_IS
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.mean_image import MeanImage
from padim_zoo.detectors.model_file import embeddings_of, numbered
from padim_zoo.detectors.registration import Registration
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.features import REDUCTIONS, Reduction
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.features.tiles import TileLayout
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.forms import FORMS
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples


def model_to_file(gaussian: Gaussian, reduction: Reduction, *, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Arrays and JSON of Gaussians, and of the reduction to their dimensions.

    Parameters
    ----------
    half : bool
        Keep factors in 16 bit, where that moves distances little enough.
    """
    mean = gaussian.mean
    arrays = {f"gaussian.{name}": array for name, array in gaussian.arrays(half=half).items()}
    arrays |= numbered("mean", mean)
    arrays |= {f"reduction.{name}": array for name, array in reduction.arrays().items()}
    if mean.subset is not None:
        arrays["subset"] = mean.subset.indices
    return arrays, {
        "form": gaussian.form,
        "half_error": gaussian.half_error() if half else None,
        "reduction": next(name for name, kind in REDUCTIONS.items() if type(reduction) is kind),
        "grids": mean.grids,
    }


def model_in(file: DetectorFile) -> tuple[Gaussian, Reduction]:
    """What :func:`model_to_file` put into a file.

    Raises
    ------
    InputError
        If the Gaussians are of a form that this version does not know.
    """
    header = file.header
    if header["form"] not in FORMS:
        raise InputError(
            f"{file.path} holds Gaussians of the form {header['form']!r}, this version knows "
            f"{', '.join(FORMS)}: upgrade padim-zoo"
        )
    mean = embeddings_of(file.arrays("mean."), header["grids"], file.arrays("subset").get(""))
    gaussian = FORMS[header["form"]].from_arrays(mean, file.arrays("gaussian."))
    return gaussian, REDUCTIONS[header["reduction"]].from_arrays(file.arrays("reduction."))


def registration_to_file(registration: Registration) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Arrays and JSON of what normal images say of poses."""
    arrays = {
        "registration.image": registration.mean.image,
        "registration.steps": registration.mean.steps,
        "registration.normal": registration.normal,
        "registration.scale": registration.scale,
    }
    return arrays, {"disc": registration.mean.disc, "chance": registration.chance}


def registration_in(file: DetectorFile) -> Registration | None:
    """What :func:`registration_to_file` put into a file, if anything."""
    header = file.header.get("registration")
    if header is None:
        return None
    arrays = file.arrays("registration.")
    mean = MeanImage(arrays["image"], arrays["steps"], header["disc"])
    return Registration(mean, arrays["normal"], arrays["scale"], header["chance"])


def statistics_to_file(statistics: Samples | Moments) -> dict[str, Tensor]:
    """Arrays of moments, 8·P·D² bytes."""
    moments = Moments.of(statistics.embeddings, statistics.mean) if isinstance(statistics, Samples) else statistics
    arrays = {f"moments.{name}": array for name, array in moments.arrays().items()}
    return arrays | {name: layer.clone() for name, layer in numbered("reference", moments.reference).items()}


def statistics_in(file: DetectorFile, mean: PatchEmbeddings, passes: int) -> Moments | None:
    """What :func:`statistics_to_file` put into a file, if anything.

    Parameters
    ----------
    mean : PatchEmbeddings
        Of the Gaussians.
    passes : int
        Views of each normal image that were fitted on.
    """
    moments = file.arrays("moments.")
    if not moments:
        return None
    reference = replace(embeddings_of(file.arrays("reference."), file.header["grids"]), subset=mean.subset)
    return Moments.from_arrays(file.header["n_images"] * passes, reference, moments)


def samples_in(
    gaussian: DualGaussian, region: RegionOfInterest | None, transform: Transform, tiles: TileLayout | None
) -> Samples:
    """The samples that a dual Gaussian holds.

    A file holds one mask for all images, and not one for each: pixels beside it must not have part in a threshold.
    """
    embeddings, roi_masks = gaussian.samples + gaussian.mean, None
    if region is not None and region.mask is not None:
        _, pixels = AS_IT_IS.of(np.zeros((*region.mask.shape, 3), dtype=np.uint8), transform, region.mask)
        if pixels is not None:
            one = torch.from_numpy(pixels)
            roi_masks = (one if tiles is None else tiles.mosaic(one)).expand(embeddings.n, -1, -1)
    return Samples(replace(embeddings, roi_masks=roi_masks))
