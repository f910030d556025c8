"""Normal images into the statistics of a detector: a fit anew, or on more images beside those seen so far."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.core.moving import HOST
from padim_zoo.data.image_groups import ImageGroups
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.data.training_depth import refuse_deeper
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.runtime_of_fit import joined_runtimes, warn_of_another_runtime
from padim_zoo.features.features import Features
from padim_zoo.statistics.accumulator import TrainingEmbeddings, refuse_to_join
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


def fit_images(detector: BackboneDetector[Any], images: Any, whole: Sequence[Path] | None) -> None:
    """Fit on normal images, forgetting any earlier fit; see :meth:`BackboneDetector.fit`."""
    detector.check_parameters()
    with detector.extractor.learning():
        detector.extractor.look_at(images if whole is None else whole)
        extractor, ahead = detector.prepare(*detector.on_grid(images if whole is None else whole, anew=True))
        if whole is not None:
            ahead = images
        hashed = HashedImages(ahead, extractor.bit_depth, kept=detector.fingerprints)
        detector.add_features(extractor.features(hashed, fit=True, device=detector.computing_device), None)
    detector.learned_images_ = LearnedImages().with_added(hashed, detector.extractor.adapted_to)


def add_images(detector: BackboneDetector[Any], images: Any, groups: ImageGroups | np.ndarray | None) -> None:
    """Fit on more normal images; see :meth:`BackboneDetector.partial_fit`."""
    earlier = detector.earlier_fit()
    precision = detector.build_backbone().precision
    if earlier is not None and detector.precision_ != precision:
        warnings.warn(
            f"images added in {precision} join those seen in {detector.precision_}: a fit with precision float32 goes "
            "on the same on every machine",
            stacklevel=3,
        )
    with detector.extractor.learning():
        if earlier is None:
            detector.look_at(images)
        else:
            refuse_deeper(images, detector.extractor.bit_depth)
        learned = LearnedImages() if earlier is None else detector.learned_images_
        extractor, ahead = detector.on_grid(images)
        if earlier is None:
            extractor, ahead = detector.prepare(extractor, ahead)
        hashed = HashedImages(ahead, extractor.bit_depth, learned.hashes, detector.fingerprints)
        if not hashed.all_learned():
            more = copy.copy(detector)  # groups may turn out to be those of other images
            check_size = None if earlier is None else partial(refuse_to_join, detector.image_size_)
            parts = extractor.features(hashed, fit=True, check_size=check_size, device=detector.computing_device)
            more.add_features(parts, earlier)
            more.learned_images_ = learned.with_added(hashed, detector.extractor.adapted_to, groups)
            vars(detector).update(vars(more))
    hashed.tell()


def accumulate(detector: BackboneDetector[Any], parts: Iterable[Features], earlier: Samples | Moments | None) -> None:
    """Add the embeddings of normal images to earlier ones; a fit that fails leaves the detector as it was."""
    fitted = copy.copy(detector)
    if earlier is None:
        fitted.draw()
        fitted.fitted_in, fitted.fitted_by, fitted.region_per_image, fitted.several_sizes = None, None, False, False
    size = None if earlier is None else detector.image_size_
    view_set, budget = detector.extractor.views.of_fit, detector.extractor.budget
    normal = TrainingEmbeddings(view_set, earlier, size, detector.other_views, budget)
    for features in parts:
        normal.check(features)
        detector.check_blur(features.image_size)
        fitted.several_sizes |= features.sizes is not None
        # Statistics are gathered in main memory, where there is room for all images: only what is kept goes there.
        embeddings = fitted.embed_apart(normal.fitted_views(features)).to(HOST)
        normal.add(fitted.select_patches(embeddings, normal.like))
        others = normal.other_views_of(features)
        if others is not None:
            normal.add_other_views(fitted.select_patches(fitted.embed(others).to(HOST), normal.like))
    if normal.image_size is None:
        raise InputError("there are no images to fit on: expected at least one normal image")
    statistics = normal.statistics()
    if isinstance(statistics, Moments) and not detector.supports_moments:
        raise InputError(
            f"{detector.name} needs all normal embeddings, which fit neither the memory allowed nor the disk: allow "
            "more memory (--memory), free some disk, or fit on fewer images"
        )
    fitted.image_size_ = normal.image_size
    n = statistics.n // view_set.augmentation.passes
    fitted.set_statistics(statistics, LearnedImages(n), normal.other_views())
    # Put down now: which runtime is the fastest may be decided anew when images are scored.
    backbone = detector.build_backbone()
    if earlier is not None:
        apart = "what it learns by the two differs by about 1 %"
        warn_of_another_runtime(detector.runtime_, backbone, "update", apart, 4)
    fitted.fitted_by = joined_runtimes(fitted.fitted_by, backbone.runtime)
    vars(detector).update(vars(fitted))
