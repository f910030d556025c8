"""Trimming: a fit on the normal images that belong together, where some that were called normal do not.

These are the concentration steps of the minimum covariance determinant (Rousseeuw and Van Driessen 1999), on images.
All images are scored by a fit on those that stay, each by one that leaves it out. Those with the highest scores go,
and the rest is fitted, until the same images go again. The covariance of a patch stays regular by the estimator's
own ridge or shrinkage, as in the regularized form (MRCD, Boudt et al. 2020).

No factor makes up for the spread that trimming takes. With one, Σ is c·S + εI = c·(S + ε/c·I): all scores and the
threshold scale alike, and the ridge is a few percent smaller. The promise of a threshold is another one, since new
images that are like the trimmed ones are normal by their label: :attr:`Trimmed.share` comes on top of its rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.core.spill import spill_above
from padim_zoo.detectors.config import SUSPECTS_RATE
from padim_zoo.detectors.forgetting import ForgottenImages, forget_images
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.out_of_fold import require_samples, score_normal
from padim_zoo.detectors.suspects import LEAST_IMAGES, find_suspects, refuse_few, with_all_patches
from padim_zoo.features.features import rows_of
from padim_zoo.metrics.suspicion import benjamini_hochberg, bulk_p_values
from padim_zoo.statistics.accumulator import largest_array
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector
    from padim_zoo.features.patch_embeddings import PatchEmbeddings

AUTO = "auto"
"""Trims what the rule of suspects marks, and not a share."""

MOST_ROUNDS = 10


@dataclass(frozen=True)
class Trimmed:
    """What trimming did.

    Attributes
    ----------
    images : ndarray (m,), int64
        The images that are out, in the order of the fit.
    scores : ndarray (n,), float32
        Of all images, each by a fit that it has no part in.
    rounds : int
        How often all images were scored.
    """

    images: np.ndarray
    scores: np.ndarray
    rounds: int

    @property
    def share(self) -> float:
        """Of the images, how many are out."""
        return len(self.images) / len(self.scores)


def check_count(n: int, share: float | str) -> None:
    """Refuse to trim so few images that what stays could not be judged.

    Parameters
    ----------
    n : int
        Normal images.
    share : float or str
        As :func:`trim_images` takes it.

    Raises
    ------
    InputError
        If there are too few.
    """
    least = LEAST_IMAGES if isinstance(share, str) else math.ceil(LEAST_IMAGES / (1 - share))
    refuse_few(n, least, f"trim {share} of them")


def trim_images(
    detector: BackboneDetector[Any],
    share: float | str,
    paths: Sequence[Path] = (),
    tell: Callable[[str], None] | None = None,
) -> Trimmed:
    """Take the images out of a fit that are unlike the others; what stays is fitted as if it had been all.

    Parameters
    ----------
    detector : BackboneDetector
        Fitted in this session.
    share : float or str
        In (0, 0.5), rounded to a number of images; or ``"auto"`` for those that
        :func:`~padim_zoo.detectors.suspects.find_suspects` would mark.
    paths : sequence of Path
        The files of the fit, in its order, where images are files: weights may be adapted to some of them.
    tell : callable, optional
        Told what a round costs, before the first.

    Raises
    ------
    InputError
        If the share is none, or there are too few images, or their samples are not known. The detector is then as it
        was.
    """
    if share != AUTO and not (isinstance(share, float) and 0 < share < 0.5):
        raise InputError(f"the share to trim is {share!r}: expected a number above 0 and below 0.5, or {AUTO}")
    statistics = require_samples(detector, "trim images")
    # Of the detector itself nothing changes until all is known.
    probe = _copy_on(detector, statistics, detector.other_views)
    n = probe.n_images_
    check_count(n, share)
    stays, before = np.ones(n, dtype=bool), set()
    rounds = 0
    while True:
        scores = _scores(probe, statistics, stays, tell if rounds == 0 else None)
        rounds += 1
        before.add(stays.tobytes())
        stays = _without_highest(scores, share)
        if stays.tobytes() in before or rounds == MOST_ROUNDS:
            break
    images = np.flatnonzero(~stays)
    if len(images):
        files = [paths[image] for image in images.tolist()] if paths else []
        forget_images(detector, ForgottenImages([], files, ~stays))
    return Trimmed(images, scores, rounds)


def _copy_on(
    detector: BackboneDetector[Any], samples: Samples, other_views: PatchEmbeddings | None
) -> BackboneDetector[Any]:
    probe = with_all_patches(detector)
    probe.set_statistics(samples, LearnedImages(samples.n // probe.extractor.views.passes), other_views)
    return probe


def _without_highest(scores: np.ndarray, share: float | str) -> np.ndarray:
    """The images (n,), bool, that stay."""
    if isinstance(share, str):
        return ~benjamini_hochberg(bulk_p_values(scores), SUSPECTS_RATE)
    stays = np.ones(len(scores), dtype=bool)
    stays[np.argsort(-scores, kind="stable")[: round(share * len(scores))]] = False
    return stays


def _scores(
    probe: BackboneDetector[Any], samples: Samples, stays: np.ndarray, tell: Callable[[str], None] | None
) -> np.ndarray:
    """Scores of all images (n,), float32: those that stay by a fit on the others of these, the rest by one on all."""
    views, kept, out = probe.extractor.views.of_fit, np.flatnonzero(stays), np.flatnonzero(~stays)
    others = probe.other_views
    with spill_above(largest_array(probe.extractor.budget)):
        if len(out):
            rows = rows_of(kept, views.augmentation.passes)
            of_kept = None if others is None else others.images(rows_of(kept, len(views.others)))
            fitted = _copy_on(probe, Samples(samples.embeddings.images(rows)), of_kept)
        else:
            fitted = probe
        scores = np.empty(len(stays), dtype=np.float32)
        scores[kept] = find_suspects(fitted, tell=tell).scores
        if len(out):
            scores[out] = score_normal(probe, fitted.model_, samples.embeddings, out).scores
    return scores
