"""Forgetting: a fit on some images becomes a fit that has never seen them.

Samples lose rows. Moments lose what the images add to them, which is computed again from the images. Both are exact.
The grid, the bit depth and what was drawn stay those of the fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.backbones.conversion import in_runtime
from padim_zoo.backbones.weight_provenance import count_adapted
from padim_zoo.core.errors import InputError, MissingExtraError
from padim_zoo.core.spill import spill_above
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.data.sources import image_items
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.features.features import rows_of
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.runtimes.runtime import RUNTIMES, TORCH
from padim_zoo.statistics.accumulator import largest_array
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


@dataclass(frozen=True)
class ForgottenImages:
    """Images of a fit that are to be forgotten.

    Attributes
    ----------
    images : list
        Each picture as often as the fit has seen it.
    paths : list of Path
        The files among them, each once.
    gone : ndarray (n,), bool
        Which images of the fit are among them.
    """

    images: list[Any]
    paths: list[Path]
    gone: np.ndarray


def find_learned(detector: BackboneDetector[Any], images: Any) -> ForgottenImages:
    """Find images of a fit by their pixels.

    Raises
    ------
    InputError
        If the detector does not know its images, or has not learned one of these, or would keep none.
    """
    learned = detector.learned_images_.hashes
    if learned is None:
        raise InputError("cannot forget images: the model does not know which it has learned; fit again without them")
    asked = list(image_items(images))
    hashed = HashedImages(asked, detector.extractor.bit_depth, kept=detector.fingerprints)
    for _ in hashed:
        pass
    hashes = hashed.hashes()
    unknown = np.flatnonzero(~np.isin(hashes, learned))
    if len(unknown):
        first = asked[unknown[0]]
        name = first if isinstance(first, Path) else f"image {unknown[0]}"
        raise InputError(
            f"the model has not learned {len(unknown)} of {len(asked)} images, the first {name}: expected images of "
            "its fit, pixel for pixel; leave out the others"
        )
    gone = np.isin(learned, hashes)
    if gone.all():
        raise InputError(f"these are all {len(learned)} images of the model: at least one must stay")
    _, firsts = np.unique(hashes, return_index=True)
    seen = [asked[first] for first in sorted(firsts.tolist()) for _ in range(int((learned == hashes[first]).sum()))]
    return ForgottenImages(seen, hashed.paths, gone)


def forget_images(detector: BackboneDetector[Any], found: ForgottenImages) -> None:
    """Take images out of the statistics of a detector; see :meth:`BackboneDetector.forget`.

    Raises
    ------
    InputError
        If the statistics are not known, or are moments and their images cannot be computed again as they were.
    """
    statistics = detector.require_statistics("forget images")
    assert statistics is not None, "a detector that knows its images is fitted"
    stays, other_views = np.flatnonzero(~found.gone), detector.other_views
    view_set = detector.extractor.views.of_fit
    with spill_above(largest_array(detector.extractor.budget)):
        if isinstance(statistics, Moments):
            rest: Samples | Moments = _moments_without(detector, statistics, found)
        else:
            rest = Samples(statistics.embeddings.images(rows_of(stays, view_set.augmentation.passes)))
        if other_views is not None:
            other_views = other_views.images(rows_of(stays, len(view_set.others)))
    detector.set_statistics(rest, remaining_images(detector, found), other_views)


def remaining_images(detector: BackboneDetector[Any], found: ForgottenImages) -> LearnedImages:
    """The images that stay."""
    return detector.learned_images_.without(found.gone, count_adapted(detector.extractor.adapted_to, found.images))


def embeddings_again(
    detector: BackboneDetector[Any], found: ForgottenImages, like: PatchEmbeddings | None
) -> Iterator[PatchEmbeddings]:
    """Embeddings of images of the fit, in the views of its passes, computed as they were.

    Raises
    ------
    InputError
        If features are now computed in another precision.
    """
    precision = detector.build_backbone().precision
    if detector.precision_ != precision:
        raise InputError(
            f"cannot forget images: they were learned in {detector.precision_}, and would be taken out in {precision}; "
            "do it on a machine that computes in that precision, or fit again without them"
        )
    passes = detector.extractor.views.passes
    extractor, images = _run_as_fitted(detector).on_grid(found.images)
    for features in extractor.features(images, fit=True):
        yield detector.select_patches(detector.embed_apart(features.of_views(range(passes))), like)


def _run_as_fitted(detector: BackboneDetector[Any]) -> BackboneDetector[Any]:
    """The detector with the runtime of its fit; as it is where that was several, or is not here.

    In 16 bits that leaves traces, which a warning says.
    """
    name, backbone = detector.runtime_, detector.build_backbone()
    if name == TORCH or name in RUNTIMES:
        with suppress(MissingExtraError):  # or broken
            again = detector.with_backbone(in_runtime(backbone, name))
            again.runtime = name
            return again
    if backbone.precision != "float32":
        warnings.warn(
            f"the images were learned by {name} and are taken out by {backbone.runtime} in {backbone.precision}: "
            "about 1 % of them stays in the model; fit again without them",
            stacklevel=3,
        )
    return detector


def _moments_without(detector: BackboneDetector[Any], moments: Moments, found: ForgottenImages) -> Moments:
    for embeddings in embeddings_again(detector, found, moments.reference):
        moments = moments - detector.moments_of(Samples(embeddings), moments.reference)
    # The reference was a mean over all images: about the mean of the others, nothing of the forgotten ones is left.
    return moments.about(moments.mean)
