"""A fit whose images are embedded in parts, wherever: grid and bit depth of all, embeddings of each part, one model.

Images may leave moments behind, chunk by chunk, each chunk within one fold. Moments of a fold are taken from those of
all images, so one pass makes the model and those of the folds. In a second pass these score the images that they were
not fitted on.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from padim_zoo.backbones.weight_provenance import count_adapted
from padim_zoo.core.errors import InputError
from padim_zoo.data.image_groups import ImageGroups
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.detectors.held_out import HeldOutScores, folds_of, kept_of_prediction
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.scoring import score_views
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import Gaussian
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


PIECE = 64
"""Images whose embeddings are in memory together. It is part of the order of sums, so it is the same everywhere."""


class Place(NamedTuple):
    """What is known of all images of a fit before the first is embedded.

    Attributes
    ----------
    grid : tuple of int, or None
    bit_depth : int
    """

    grid: tuple[int, int] | None
    bit_depth: int


@dataclass(frozen=True)
class PartMoments:
    """What some of the normal images of a fit leave behind.

    Attributes
    ----------
    moments : Moments
    image_size : tuple of int
        Of the transformed images.
    hashes : ndarray (n,), int64
        Of the images, see :mod:`padim_zoo.data.image_hashes`.
    embedded : ndarray (n,), int64
        Hashes of their embeddings: those of equal images are equal.
    """

    moments: Moments
    image_size: tuple[int, int]
    hashes: np.ndarray
    embedded: np.ndarray

    @classmethod
    def of(
        cls, detector: BackboneDetector[Any], images: Sequence[Path], place: Place, reference: PatchEmbeddings
    ) -> PartMoments:
        """Embed images and add up their moments about a point, which is that of all parts."""
        pieces = (
            cls(Moments.of(part.embeddings, reference), part.image_size, part.hashes, hashes_of(part.embeddings))
            for part in _embedded(detector, images, place)
        )
        whole = next(pieces)
        for piece in pieces:
            whole = whole.followed_by(piece)
            del piece  # before the next one is made: functools.reduce would keep it
        return whole

    def followed_by(self, later: PartMoments) -> PartMoments:
        """The images of both, in the memory of the earlier one."""
        refuse_to_join(self.image_size, later.image_size)
        return PartMoments(
            self.moments.absorb(later.moments),
            self.image_size,
            np.concatenate([self.hashes, later.hashes]),
            np.concatenate([self.embedded, later.embedded]),
        )


def _embedded(detector: BackboneDetector[Any], images: Sequence[Path], place: Place) -> Iterator[Part]:
    for start in range(0, len(images), PIECE):
        yield embed_part(detector, images[start : start + PIECE], *place)


def hashes_of(embeddings: PatchEmbeddings) -> np.ndarray:
    """A hash (n,), int64, of the embeddings of each image."""
    hashes = []
    for image in range(embeddings.n):
        digest = hashlib.blake2b(digest_size=8)
        for layer in embeddings.layers:
            digest.update(layer[:, image].contiguous().numpy().data)
        hashes.append(int.from_bytes(digest.digest(), "big", signed=True))
    return np.array(hashes, dtype=np.int64)


def score_part(
    detector: BackboneDetector[Any],
    model: Gaussian,
    image_size: tuple[int, int],
    images: Sequence[Path],
    place: Place,
    numbers: np.ndarray,
    every: int,
) -> dict[str, np.ndarray]:
    """Score normal images by a model of others: what their threshold takes of that.

    Parameters
    ----------
    detector : BackboneDetector
    model : Gaussian
    image_size : tuple of int
    images : sequence of Path
    place : Place
    numbers : ndarray (m,)
        Of these images among all.
    every : int
        As of :class:`~padim_zoo.detectors.held_out.HeldOutScores`.
    """
    scoring = copy.copy(detector)
    scoring.image_size_ = image_size
    kept, start = [], 0
    for part in _embedded(detector, images, place):
        those = numbers[start : start + part.embeddings.n]
        kept.append(kept_of_prediction(those, score_views(scoring, model, part.embeddings), every))
        start += len(those)
    return {name: np.concatenate([one[name] for one in kept]) for name in kept[0]}


@dataclass(frozen=True)
class Folds:
    """How n normal images are cut into folds.

    Attributes
    ----------
    groups : ImageGroups
        Of images that are held out together.
    seed : int
    held_out : list of ndarray
        The images of each fold, ascending. One fold of all where there are too few groups for more.
    why_none : str
        Why there are no folds; empty where there are.
    """

    groups: ImageGroups
    seed: int
    held_out: list[np.ndarray]
    why_none: str = ""

    @classmethod
    def of(cls, groups: ImageGroups, count: int, seed: int) -> Folds:
        """The folds that a local fit makes."""
        n = len(groups.numbers)
        try:
            cut = folds_of(n, count, seed, groups.numbers)
        except InputError as error:
            return cls(groups, seed, [np.arange(n)], str(error))
        return cls(groups, seed, [np.concatenate(held_out) for _, held_out in cut])

    def refuse_rate(self, false_alarm_rate: float | None) -> None:
        """Refuse a rate that these images cannot promise, if one is asked for.

        Raises
        ------
        InputError
        """
        if false_alarm_rate is not None:
            if self.why_none:
                raise InputError(self.why_none)
            HeldOutScores(len(self.groups.numbers), false_alarm_rate, self.groups.numbers)

    def with_equal(self, embedded: np.ndarray, count: int) -> Folds:
        """Folds in which images whose embeddings have equal hashes (n,) are held out together too."""
        return Folds.of(self.groups.joined(embedded), count, self.seed)

    def is_cut_like(self, other: Folds) -> bool:
        """Whether the images of each fold are the same."""
        return len(self.held_out) == len(other.held_out) and all(map(np.array_equal, self.held_out, other.held_out))
