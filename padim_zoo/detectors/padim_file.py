"""What a file holds of a PaDiM: Gaussians, reduction and, to go on from, samples or moments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import AS_IT_IS
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.mean_image import MeanImage
from padim_zoo.detectors.model_file import STATISTICS_LEFT_OUT, embeddings_of, numbered
from padim_zoo.detectors.registration import Registration
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.features import REDUCTIONS, Reduction
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.features.tiles import TileLayout
from padim_zoo.gaussians.forms import FORMS
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.padim import PaDiM


@dataclass(frozen=True)
class InFile:
    """What the file of a PaDiM said of the samples of its fit.

    Attributes
    ----------
    differing : bool
        Whether images differ in the patches that count, so that the file does not hold what it takes to go on.
    poses : Tensor or None
        Of the images, where these were moved.
    """

    differing: bool = False
    poses: Tensor | None = None


_HOW_THEY_DIFFER = "the images of the fit differ in the patches that count (roi, trim_patches)"


def padim_to_file(detector: PaDiM, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Arrays and JSON of a fitted detector; see :meth:`PaDiM.model_arrays`.

    Raises
    ------
    InputError
        If it is to be resumable, and that cannot be.
    """
    differing = _differing(detector)
    if resumable and differing:
        raise InputError(
            f"cannot save a resumable model: {_HOW_THEY_DIFFER}, which a file does not hold; save it without "
            "--resumable"
        )
    gaussian = detector.gaussian_
    arrays, header = model_to_file(gaussian, detector.reduction_, half=half)
    if resumable and gaussian.samples is None:
        statistics = detector.require_statistics("save a resumable model")
        assert statistics is not None
        arrays |= statistics_to_file(statistics)
    if detector.registration_ is not None:
        own_arrays, header["registration"] = registration_to_file(detector.registration_)
        arrays |= own_arrays
        samples = detector.statistics_
        if samples is None and gaussian.samples is not None:
            samples = detector.require_statistics("save")
        poses = samples.embeddings.poses if isinstance(samples, Samples) else None
        if poses is not None and poses.found is not None:
            arrays["poses"] = poses.found
    return arrays, {**header, "differing": differing}


def padim_in(file: DetectorFile, detector: PaDiM) -> Gaussian:
    """What :func:`padim_to_file` put into a file; sets the reduction, and what else the detector is to know."""
    detector.in_file = InFile(file.header["differing"], file.arrays("poses").get(""))
    detector.extractor.facts = replace(detector.extractor.facts, registration=registration_in(file))
    gaussian, detector.reduction_ = model_in(file)
    detector.statistics_ = statistics_in(file, gaussian.mean, detector.extractor.views.passes)
    return gaussian


def statistics_for(detector: PaDiM, purpose: str) -> Samples | Moments | None:
    """The statistics, or None before the first fit; see :meth:`PaDiM.require_statistics`."""
    if detector.statistics_ is not None or detector.made_model is None:
        return detector.statistics_
    if _differing(detector):
        raise InputError(f"cannot {purpose}: {_HOW_THEY_DIFFER}, and the model file does not hold these; fit again")
    if detector.made_model.samples is None:
        raise InputError(f"cannot {purpose}: the model file {STATISTICS_LEFT_OUT}")
    region = detector.extractor.region_of_interest()
    embeddings = detector.made_model.samples + detector.made_model.mean
    samples = samples_in(embeddings, region, detector.transform, detector.tile_layout)
    if detector.in_file.poses is not None and detector.registration_ is not None:
        poses = detector.registration_.of(detector.in_file.poses)
        samples = Samples(replace(samples.embeddings, poses=poses))
    detector.statistics_ = samples
    return samples


def _differing(detector: PaDiM) -> bool:
    """Whether images differ in the patches that count, so that a file cannot hold what it takes to go on."""
    if detector.trim_patches is not None:
        return True
    if isinstance(detector.statistics_, Samples):
        embeddings = detector.statistics_.embeddings
        return embeddings.roi_masks is not None and embeddings.subset is None
    return detector.in_file.differing and detector.statistics_ is None


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
    if registration.contours is not None:
        arrays["registration.contours"] = registration.contours.image
    mean = registration.mean
    about = {"disc": mean.disc, "reach": mean.reach, "chance": registration.chance}
    return arrays, {**about, "margin": registration.margin, "finer": registration.finer}


def registration_in(file: DetectorFile) -> Registration | None:
    """What :func:`registration_to_file` put into a file, if anything."""
    header = file.header.get("registration")
    if header is None:
        return None
    arrays = file.arrays("registration.")
    mean = MeanImage(arrays["image"], arrays["steps"], header["disc"], header["reach"])
    contours = MeanImage(arrays["contours"], arrays["steps"], header["disc"]) if "contours" in arrays else None
    scale, chance = arrays["scale"], header["chance"]
    return Registration(mean, contours, arrays["normal"], scale, chance, header["margin"], header["finer"])


def statistics_to_file(statistics: Samples | Moments) -> dict[str, Tensor]:
    """Arrays of samples, of which a threshold can be made, where they are fewer bytes; else of moments."""
    if isinstance(statistics, Samples) and _are_smaller(statistics.embeddings):
        return {name: layer.contiguous() for name, layer in numbered("samples", statistics.embeddings).items()}
    moments = Moments.of(statistics.embeddings, statistics.mean) if isinstance(statistics, Samples) else statistics
    arrays = {f"moments.{name}": array for name, array in moments.arrays().items()}
    return arrays | {name: layer.clone() for name, layer in numbered("reference", moments.reference).items()}


def _are_smaller(embeddings: PatchEmbeddings) -> bool:
    """Whether embeddings, which count everywhere and as they are, are fewer bytes than their moments."""
    parts = (embeddings.subset, embeddings.roi_masks, embeddings.poses, embeddings.sizes)
    is_plain = all(part is None for part in parts)
    return is_plain and embeddings.size_in_bytes() < Moments.bytes_needed(embeddings.P, embeddings.D)


def loses_samples(detector: PaDiM) -> bool:
    """Whether the samples at hand are not in a resumable file of this detector, which holds their moments instead."""
    samples = detector.statistics_
    in_file = detector.gaussian_.samples is not None or (
        isinstance(samples, Samples) and _are_smaller(samples.embeddings)
    )
    return isinstance(samples, Samples) and not in_file


def most_images_of_samples(detector: PaDiM, moments: Moments) -> int:
    """The number of images up to which a file would have held samples instead: in its Gaussians, or as fewer bytes."""
    most = moments.D
    if moments.reference.subset is None and detector.registration_ is None:
        most = max(most, (Moments.bytes_needed(moments.P, moments.D) - 1) // moments.reference.size_in_bytes())
    return most // detector.extractor.views.passes


def statistics_in(file: DetectorFile, mean: PatchEmbeddings, passes: int) -> Samples | Moments | None:
    """What :func:`statistics_to_file` put into a file, if anything.

    Parameters
    ----------
    mean : PatchEmbeddings
        Of the Gaussians.
    passes : int
        Views of each normal image that were fitted on.
    """
    samples, moments = file.arrays("samples."), file.arrays("moments.")
    if samples:
        return Samples(embeddings_of(samples, file.header["grids"]))
    if not moments:
        return None
    reference = replace(embeddings_of(file.arrays("reference."), file.header["grids"]), subset=mean.subset)
    return Moments.from_arrays(file.header["n_images"] * passes, reference, moments)


def samples_in(
    embeddings: PatchEmbeddings, region: RegionOfInterest | None, transform: Transform, tiles: TileLayout | None
) -> Samples:
    """The samples that Gaussians hold, with the region of interest.

    A file holds one mask for all images, and not one for each: pixels beside it must not have part in a threshold.
    """
    roi_masks = None
    if region is not None and region.mask is not None:
        _, pixels = AS_IT_IS.of(np.zeros((*region.mask.shape, 3), dtype=np.uint8), transform, region.mask)
        if pixels is not None:
            one = torch.from_numpy(pixels)
            roi_masks = (one if tiles is None else tiles.mosaic(one)).expand(embeddings.n, -1, -1)
    return Samples(replace(embeddings, roi_masks=roi_masks))
