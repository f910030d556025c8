"""Scores of the normal images of a fit, each by a model of others: what thresholds are made from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import stage
from padim_zoo.core.spill import spill_above
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.equal_images import groups_with_copies
from padim_zoo.detectors.held_out import HeldOutScores, folds_of
from padim_zoo.detectors.pose_evidence import PoseEvidence
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring import score_apart
from padim_zoo.features.features import rows_of
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import largest_array
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


def out_of_fold(
    detector: BackboneDetector[Any], false_alarm_rate: float | None, folds: int, groups: np.ndarray | None = None
) -> Calibration:
    """The threshold by folds of the fit; see :meth:`~padim_zoo.detectors.backbone_detector.BackboneDetector.calibrate`.

    Raises
    ------
    InputError
        If there are fewer than two groups, or too few for the rate asked for, or not all is known of them.
    """
    statistics = require_samples(detector, "make a threshold")
    detector.check_parameters()
    require_other_views(detector)
    embeddings, passes = statistics.embeddings, detector.extractor.views.passes
    n = statistics.n // passes
    before = detector.learned_images_.all_groups
    groups = groups_with_copies(embeddings, passes, before.numbers if groups is None else groups)
    # Even if these are too few: more images may come.
    detector.learned_images_ = detector.learned_images_.with_groups(replace(before, numbers=groups))
    cut = folds_of(n, folds, detector.seed, groups)
    scores = HeldOutScores(n, false_alarm_rate, groups)
    limit = largest_array(detector.extractor.budget)
    with spill_above(limit), stage("setting the threshold", n) as progress:
        models = detector.fold_models(statistics, [rows_of(rest, passes) for rest, _ in cut])
        for model, (_, held_out) in zip(models, cut, strict=True):
            for images in held_out:
                scores.add(images, score_normal(detector, model, embeddings, images))
                progress.advance(len(images))
    calibration, poses = scores.calibration(len(cut)), embeddings.poses
    if poses is None or poses.found is None:
        return calibration
    found = poses.found.numpy().copy()  # a file holds both
    return calibration.changed(pose_evidence=PoseEvidence.of(calibration, found, cut))


def require_samples(detector: BackboneDetector[Any], purpose: str) -> Samples:
    """The embeddings of all normal images of a fit.

    Raises
    ------
    InputError
        If they are not kept, or there is no fit.
    """
    statistics = None
    if detector.files_hold_samples or detector.statistics_ is not None or detector.made_model is None:
        statistics = detector.require_statistics(purpose)
        if statistics is None:
            raise InputError(f"cannot {purpose}: the detector is not fitted; call fit with normal images first")
    if not isinstance(statistics, Samples):
        raise InputError(
            f"cannot {purpose} without the samples of the normal images, which moments do not replace: fit again on "
            "all images at once, with room for the samples in memory or on disk"
        )
    return statistics


def require_other_views(detector: BackboneDetector[Any]) -> None:
    """Refuse to score normal images of which not all views are known.

    Raises
    ------
    InputError
        If some are not.
    """
    if detector.extractor.views.of_score.count > 1 and detector.other_views is None:
        raise InputError(
            "a threshold needs the normal images in all views of tta, which are known of a fit with that tta in "
            "this session only: fit again"
        )


def score_normal(
    detector: BackboneDetector[Any], model: Any, embeddings: PatchEmbeddings, images: np.ndarray
) -> Prediction:
    """Scores of some of the normal images of the fit by a model of others.

    Parameters
    ----------
    detector : BackboneDetector
    model
    embeddings : PatchEmbeddings
        Of all images in the views of the passes.
    images : ndarray (m,)
        Their indices.
    """
    views = embeddings.images(images * detector.extractor.views.passes)
    if detector.other_views is not None:
        count = detector.extractor.views.of_score.count
        views = interleaved(views, detector.other_views.images(rows_of(images, count - 1)))
    return score_apart(detector, model, views)


def interleaved(first: PatchEmbeddings, others: PatchEmbeddings) -> PatchEmbeddings:
    """Embeddings of N images as they are, and of V further views of each, with all views of one next to each other.

    Parameters
    ----------
    first : PatchEmbeddings
        Of N images.
    others : PatchEmbeddings
        Of N·V views, those of one image next to each other.

    Returns
    -------
    PatchEmbeddings
        Of N·(1 + V) views.
    """
    n, count = first.n, others.n // first.n
    order = np.concatenate([np.arange(n)[:, None], n + np.arange(n * count).reshape(n, count)], 1)
    return PatchEmbeddings.concatenate([first, others]).images(order.ravel())
