"""Two detectors that were fitted on parts of the normal images to the one that all of them make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.overlap import without_overlap
from padim_zoo.detectors.runtime_of_fit import joined_runtimes
from padim_zoo.statistics.accumulator import Accumulator
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


def merge_images(
    detector: BackboneDetector[Any], other: BackboneDetector[Any], own: Mapping[str, Callable[[Any], Any]]
) -> None:
    """Add the images of another detector, as if they had been fitted on here.

    Images that both were fitted on count once: they are taken out of the samples of either, with a warning.

    Parameters
    ----------
    detector, other : BackboneDetector
        Of one kind; the first becomes the detector of all images.
    own : mapping of str
        What detectors of this kind must agree in beside all that any two must, and how it is read off one.

    Raises
    ------
    InputError
        If the detectors differ in more than their images, or either does not know its statistics; or if both
        hold moments, of which some images are the same.
    """
    mine, theirs = detector.require_statistics("merge"), other.require_statistics("merge")
    if mine is None or theirs is None:
        raise InputError("only fitted detectors can be merged: call fit first")
    depths = (detector.extractor.bit_depth, other.extractor.bit_depth)
    precisions = (detector.precision_, other.precision_)
    facts = {
        f"precision ({precisions[0]}, {precisions[1]})": precisions,
        f"bit depth ({depths[0]}, {depths[1]})": depths,
        f"transform ({detector.transform}; {other.transform})": (detector.transform, other.transform),
        "backbone, weights or tiles": (_key_in_torch(detector), _key_in_torch(other)),
        **_runtimes(detector, other),
        **{what: (read(detector), read(other)) for what, read in own.items()},
        "image size": (detector.image_size_, other.image_size_),
    }
    for what, (ours, others) in facts.items():
        if ours != others:
            raise InputError(f"the detectors differ in {what}: only images may differ in a merge")
    passes = detector.extractor.views.passes
    images = (detector.learned_images_, other.learned_images_)
    images[0].refuse_another_cut(images[1])
    apart = without_overlap(mine, theirs, images, passes)
    learned = images[0].merged(images[1], apart.images)
    if apart.theirs is not None:
        detector.several_sizes |= other.several_sizes
        detector.fitted_by = joined_runtimes(detector.runtime_, other.runtime_)
    if apart.theirs is None:
        if apart.mine is mine:
            detector.learned_images_ = learned
        else:
            detector.set_statistics(apart.mine, learned)
    elif isinstance(apart.theirs, Samples) and isinstance(apart.mine, Samples):
        accumulator = Accumulator(apart.mine, detector.extractor.budget)
        accumulator.add(apart.theirs.embeddings)
        detector.set_statistics(accumulator.result(), learned)
    else:
        both = [apart.mine, apart.theirs]
        reference = next(each.reference for each in both if isinstance(each, Moments))
        first, second = (each if isinstance(each, Moments) else detector.moments_of(each, reference) for each in both)
        detector.set_statistics(first + second, learned)


def _key_in_torch(detector: BackboneDetector[Any]) -> str:
    """What tells features apart beside the runtime."""
    return detector.with_backbone(detector.build_backbone().run_by(None)).features_key


def _runtimes(detector: BackboneDetector[Any], other: BackboneDetector[Any]) -> dict[str, tuple[str, str]]:
    """The runtimes of both fits, where features differ by them: in float32 they do not."""
    ran = (detector.runtime_, other.runtime_)
    return {} if detector.precision_ == "float32" else {f"runtime ({ran[0]}, {ran[1]})": ran}
