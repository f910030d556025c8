"""A fit whose images are embedded in parts, wherever: grid and bit depth of all, embeddings of each part, one model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from padim_zoo.backbones.weight_provenance import count_adapted
from padim_zoo.core.errors import InputError
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import Accumulator, refuse_to_join
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


class Part(NamedTuple):
    """Some of the normal images of a fit.

    Attributes
    ----------
    embeddings : PatchEmbeddings
    image_size : tuple of int
        Of the transformed images.
    hashes : ndarray (n,), int64
        Of the images, see :mod:`padim_zoo.data.image_hashes`.
    """

    embeddings: PatchEmbeddings
    image_size: tuple[int, int]
    hashes: np.ndarray


def grid_of_fit(detector: BackboneDetector[Any], images: Sequence[Path]) -> tuple[int, int] | None:
    """Find out the bit depth of normal images, and their grid; None where it is not left to them."""
    detector.check_parameters()
    detector.extractor.look_at(images)
    return detector.extractor.on_grid_of(images)[0].grid


def embed_part(
    detector: BackboneDetector[Any], images: Sequence[Path], grid: tuple[int, int] | None, bit_depth: int
) -> Part:
    """Embed some of the normal images of a fit. Grid and bit depth are those of all, the draw is that of the fit."""
    detector.extractor.facts = replace(detector.extractor.facts, bit_depth=bit_depth)
    detector.draw()
    extractor = copy.copy(detector.extractor)
    extractor.grid = grid
    hashed = HashedImages(images, bit_depth, kept=detector.fingerprints)
    embedded: list[PatchEmbeddings] = []
    image_size: tuple[int, int] | None = None
    for features in extractor.features(hashed, fit=True):
        image_size = image_size or features.image_size
        refuse_to_join(image_size, features.image_size)
        embedded.append(detector.embed(features))
    if image_size is None:
        raise InputError("there are no images to fit on: expected at least one normal image")
    return Part(PatchEmbeddings.concatenate(embedded), image_size, hashed.hashes())


def fit_parts(detector: BackboneDetector[Any], parts: Iterable[Part], bit_depth: int, images: Sequence[Path]) -> None:
    """Fit on images that were embedded by :func:`embed_part`, wherever, forgetting any earlier fit.

    Parameters
    ----------
    detector : BackboneDetector
    parts : iterable of Part
        In the order of the images.
    bit_depth : int
    images : sequence of Path
        All of them.
    """
    image_size: tuple[int, int] | None = None
    hashes: list[np.ndarray] = []
    accumulator = Accumulator(None, detector.extractor.budget)
    for part in parts:
        image_size = image_size or part.image_size
        refuse_to_join(image_size, part.image_size)
        accumulator.add(part.embeddings)
        hashes.append(part.hashes)
    assert image_size is not None
    take_fit(detector, accumulator.result(), image_size, bit_depth, np.concatenate(hashes), images)


def take_fit(
    detector: BackboneDetector[Any],
    statistics: Samples | Moments,
    image_size: tuple[int, int],
    bit_depth: int,
    hashes: np.ndarray,
    images: Sequence[Path],
) -> None:
    """Become the detector of statistics that were gathered elsewhere, forgetting any earlier fit."""
    fitted = copy.copy(detector)
    fitted.draw()
    fitted.fitted_in, fitted.region_per_image, fitted.several_sizes = None, False, False
    fitted.fitted_by = detector.build_backbone().runtime
    fitted.image_size_ = image_size
    adapted = count_adapted(detector.extractor.adapted_to, images)
    fitted.set_statistics(statistics, LearnedImages(len(images), hashes, adapted=adapted))
    vars(detector).update(vars(fitted))
    detector.extractor.facts = replace(detector.extractor.facts, bit_depth=bit_depth)
