"""Normal images that may not be: each is scored by a fit on all others, and ranked.

Log-scores of normal images are near to a normal distribution, with a few defects above it. Its center and width are
taken from the median and the quartiles, which some defects hardly move. A p-value is the share of that distribution
at or above a score, with Student's tail for few images. Images are suspected by Benjamini and Hochberg's rule: of
those, about the rate asked for are normal, as far as the distribution holds. Ranks alone would always suspect as many.

Copies of one defect hide each other, and so do many defects of one kind.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.core.parallel import BLOCK_BYTES
from padim_zoo.core.spill import spill_above
from padim_zoo.detectors.config import SUSPECTS_RATE
from padim_zoo.detectors.out_of_fold import require_other_views, require_samples, score_normal
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.patchcore import PatchCore
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring import rescore
from padim_zoo.detectors.subspace import Subspace
from padim_zoo.estimators.leave_one_out import changes_coefficients, has_leave_one_out, leave_one_out
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.metrics.suspicion import benjamini_hochberg, bulk_p_values, score_of_p_value
from padim_zoo.pictures.colormap import Scale
from padim_zoo.statistics.accumulator import largest_array
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector

LEAST_IMAGES = 8
"""Of fewer, no quartiles tell anything."""

SHOWN = 24
"""Images that a contact sheet shows, whose maps are kept."""


@dataclass(frozen=True)
class Suspects:
    """What leave-one-out says of n normal images, in the order of the fit.

    Attributes
    ----------
    scores : ndarray (n,), float32
        By a fit on all others.
    p_values : ndarray (n,), float64
    suspected : ndarray (n,), bool
    method : str
        How the scores were made, in words.
    maps : dict of int to ndarray (H, W)
        Those of the highest scores, by image; empty where there are none.
    scale : (low, high)
        The scores of the first and the last color of pictures of the maps.
    seconds : float
    """

    scores: np.ndarray
    p_values: np.ndarray
    suspected: np.ndarray
    method: str
    maps: dict[int, np.ndarray]
    scale: Scale
    seconds: float

    @property
    def ranking(self) -> np.ndarray:
        """All images, the most suspicious first."""
        return np.argsort(-self.scores, kind="stable")


def find_suspects(
    detector: BackboneDetector[Any],
    *,
    exact: bool = False,
    rate: float = SUSPECTS_RATE,
    tell: Callable[[str], None] | None = None,
) -> Suspects:
    """Score each normal image of a fit by a fit on all others.

    Parameters
    ----------
    detector : BackboneDetector
        Fitted in this session, or loaded from a file that holds its samples. A PatchCore keeps all patches here.
    exact : bool
        Estimate shrinkage without each image too, instead of once; ``full`` and ``diagonal`` are exact anyway.
    rate : float
        Share of normal images among the suspects that is aimed at, 0 to 1.
    tell : callable, optional
        Told what it costs, before it starts.

    Raises
    ------
    InputError
        If the samples are not known, or there are fewer than :data:`LEAST_IMAGES`.
    """
    statistics = require_samples(detector, "find suspects")
    require_other_views(detector)
    n = statistics.n // detector.extractor.views.passes
    refuse_few(n)
    if not 0 < rate < 1:
        raise InputError(f"the rate is {rate}: expected a number between 0 and 1, e.g. {SUSPECTS_RATE}")
    started = time.perf_counter()
    scores, medians = np.empty(n, dtype=np.float32), np.zeros(n)
    maps: dict[int, np.ndarray] = {}
    with spill_above(largest_array(detector.extractor.budget)):
        if tell is not None:
            seconds = leave_one_out_seconds(detector, exact=exact)
            tell(f"leave-one-out of {n} images takes about {seconds:.0f} s")
        fast = _estimator_of(detector, statistics.embeddings)
        parts = (
            _by_n_fits(detector, statistics.embeddings)
            if fast is None
            else _at_once(detector, statistics.embeddings, exact)
        )
        for images, prediction in parts:
            scores[images] = prediction.scores
            if prediction.maps is not None:
                medians[images] = np.median(prediction.maps, axis=(1, 2))
                maps |= dict(zip(images.tolist(), prediction.maps, strict=True))
                shown = sorted(maps, key=lambda one: -scores[one])[:SHOWN]
                maps = {image: maps[image].copy() for image in shown}  # a view would keep the maps of all its batch
    p_values = bulk_p_values(scores)
    low = float(np.median(medians))
    high = low + 1.5 * max(score_of_p_value(scores, SUSPECTS_RATE) - low, 1e-9)
    method = "n fits"
    if fast is not None and changes_coefficients(fast) and not exact:
        method = "with the shrinkage of all images; --exact estimates it without each"
    elif fast is not None or isinstance(detector, Subspace):
        method = "exact"
    elif isinstance(detector, PatchCore):
        method = "n fits without a coreset"
    suspected = benjamini_hochberg(p_values, rate)
    return Suspects(scores, p_values, suspected, method, maps, (low, high), time.perf_counter() - started)


def refuse_few(n: int, least: int = LEAST_IMAGES, purpose: str = "say which stand out") -> None:
    """Refuse so few normal images that none can be told from the others.

    Raises
    ------
    InputError
        Naming both numbers.
    """
    if n < least:
        found = f"there {'is' if n == 1 else 'are'} {number_of(n, 'normal image')}"
        raise InputError(f"{found}: expected {least} or more to {purpose}")


def _estimator_of(detector: BackboneDetector[Any], embeddings: PatchEmbeddings) -> Any:
    """The estimator whose n fits cost about one; None where they have to be made."""
    views = detector.extractor.views.of_fit
    if not isinstance(detector, PaDiM) or views.count > 1 or embeddings.roi_masks is not None:
        return None
    if detector.trim_patches is not None:
        return None
    estimator = detector.build_estimator()
    return estimator if has_leave_one_out(estimator) else None


def leave_one_out_seconds(detector: BackboneDetector[Any], *, exact: bool = False) -> float:
    """What it takes to score each image by a fit on all others, from some patches, or from one image.

    Parameters
    ----------
    detector, exact
        As of :func:`find_suspects`.
    """
    embeddings = require_samples(detector, "leave images out").embeddings
    estimator, passes = _estimator_of(detector, embeddings), detector.extractor.views.passes
    if estimator is not None:
        some = embeddings.small_part()
        started = time.perf_counter()
        leave_one_out(some, estimator, exact=exact)
        return (time.perf_counter() - started) * embeddings.P / some.P
    detector = with_all_patches(detector)
    models = detector.models_without_each(Samples(embeddings), passes)
    next(models)  # the first may take what serves all others too
    started = time.perf_counter()
    score_normal(detector, next(models), embeddings, np.array([1]))
    return (time.perf_counter() - started) * embeddings.n / passes


def _at_once(detector: Any, embeddings: PatchEmbeddings, exact: bool) -> Iterator[tuple[np.ndarray, Prediction]]:
    squared = leave_one_out(embeddings, detector.build_estimator(), exact=exact)
    size = max(1, BLOCK_BYTES // (4 * detector.image_size_[0] * detector.image_size_[1]))
    for start in range(0, embeddings.n, size):
        images = slice(start, min(start + size, embeddings.n))
        poses = None if embeddings.poses is None else embeddings.poses.images(images)
        prediction = detector.predict_distances(squared[:, images], embeddings.grid, poses=poses)
        yield np.arange(images.start, images.stop), rescore(detector, prediction)


def _by_n_fits(detector: Any, embeddings: PatchEmbeddings) -> Iterator[tuple[np.ndarray, Prediction]]:
    detector = with_all_patches(detector)
    models = detector.models_without_each(Samples(embeddings), detector.extractor.views.passes)
    for image, model in enumerate(models):
        images = np.array([image])
        yield images, score_normal(detector, model, embeddings, images)


def with_all_patches(detector: BackboneDetector[Any]) -> BackboneDetector[Any]:
    """A copy that keeps all patches of normal images: a coreset drawn anew would score each image by chance."""
    probe = copy.copy(detector)
    if isinstance(probe, PatchCore):
        probe.coreset_ratio = 1.0
    return probe
