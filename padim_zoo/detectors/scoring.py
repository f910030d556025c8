"""From features to a prediction: which views are scored, how many at a time, and how they become one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.moving import HOST
from padim_zoo.core.parallel import one_thread_for
from padim_zoo.core.whole_float32 import whole_float32
from padim_zoo.data.passing_images import PassingImages
from padim_zoo.data.sources import count_of, listed
from padim_zoo.data.view import View, mean_of_views
from padim_zoo.detectors.feature_extractor import FeatureExtractor
from padim_zoo.detectors.p_value_maps import in_map_values
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.runtime_of_fit import warn_of_another_runtime
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import pixels

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


def predict_images(detector: BackboneDetector[Any], images: Any, roi: Any) -> Prediction:
    """Score images, batch by batch; see :meth:`BackboneDetector.predict`."""
    if detector.region_per_image and roi is None:
        warnings.warn(
            f"this {detector.name} was fitted with a mask for each image, which its file does not hold: all pixels are "
            "scored; name the folder of these images' masks by --roi",
            stacklevel=3,
        )
    detector.check_parameters()
    model, device = model_to_score(detector)  # an unfitted detector says so before any image is read
    images = listed(images)
    extractor, _ = detector.on_grid(images)
    passing = PassingImages(images, detector.extractor.bit_depth)
    refuse = partial(refuse_other_size, detector.image_size_, passed=passing.sources, takes_sizes=detector.takes_sizes)
    check_size = None if extractor.canvas is not None else refuse
    count = count_of(images)
    at_once = extractor.batch_within_budget(count)
    features = extractor.features(passing.images, roi=roi, check_size=check_size, in_work=at_once, device=device)
    if extractor.canvas is None:
        embedded = joined(map(partial(embed_to_score, detector), features), at_once)
        scored = (as_told(detector, score_views(detector, model, batch)) for batch in embedded)
    else:
        scored = (score_part(detector, model, part) for part in features)
    prediction = Prediction.concatenate(list(scored)) if count is None else Prediction.gather(scored, count)
    moves = "scores move by up to about 2 %, and the threshold does not"
    warn_of_another_runtime(detector.runtime_, detector.extractor.build_backbone(), "score", moves, 3)
    prediction = replace(detector.with_scale(prediction), sources=passing.sources)
    return prediction.of(images, detector.transform)


def model_to_score(detector: BackboneDetector[Any]) -> tuple[Any, torch.device]:
    """The model of a detector where it computes, and that device: with the backbone where it can, else main memory."""
    model, device = detector.model_, detector.computing_device
    if device == HOST:
        return model, HOST
    on_device = detector.extractor.in_use.on_device(model)
    return on_device, HOST if on_device is model else device


def embed_to_score(detector: BackboneDetector[Any], features: Features) -> PatchEmbeddings:
    """Embeddings of the views to score, of images whose size is that of the fit."""
    detector.check_blur(detector.image_size_)
    views = views_to_score(features, detector.image_size_, detector.extractor)
    with one_thread_for(sum(layer.numel() for layer in views.maps)):
        return detector.embed(views)


def score_part(detector: BackboneDetector[Any], model: Any, features: Features) -> Prediction:
    """Scores of images by their features; where these lie on a canvas, of each image alone."""
    if features.sizes is None:
        return as_told(detector, score_views(detector, model, embed_to_score(detector, features)))
    parts = []
    for one in features.apart():
        alone = of_size(detector, one.image_size)
        parts.append(score_views(alone, model, embed_to_score(alone, one)).on_canvas(features.image_size))
    return Prediction.concatenate(parts)


def as_told(detector: BackboneDetector[Any], prediction: Prediction) -> Prediction:
    """With what a calibration says of scores and maps of new images: p-values, and evidence beside embeddings."""
    return detector.with_evidence(in_map_values(detector, prediction))


def score_apart(detector: BackboneDetector[Any], model: Any, embeddings: PatchEmbeddings) -> Prediction:
    """Scores of images as :func:`score_views` has them; where these lie on a canvas, of each image alone."""
    if embeddings.sizes is None:
        return score_views(detector, model, embeddings)
    parts = (score_views(of_size(detector, size), model, one) for size, one in embeddings.apart())
    return Prediction.concatenate([part.on_canvas(detector.image_size_) for part in parts])


def of_size(detector: BackboneDetector[Any], image_size: tuple[int, int]) -> BackboneDetector[Any]:
    """A copy that makes maps of another size."""
    alone = copy.copy(detector)
    alone.image_size_ = image_size
    return alone


def score_views(detector: BackboneDetector[Any], model: Any, embeddings: PatchEmbeddings) -> Prediction:
    """Scores of images of which all views for scoring are given, those of one next to each other."""
    views = detector.extractor.views.of_score
    prediction = _score_where_it_fits(detector, model, embeddings)
    if views.count > 1:
        prediction = combine_views(prediction, views.others, score_is_map_maximum=detector.threshold_serves_maps)
    refuse_unscored(prediction)
    return rescore(detector, prediction)


def _score_where_it_fits(detector: BackboneDetector[Any], model: Any, embeddings: PatchEmbeddings) -> Prediction:
    """On the device of the embeddings; in main memory, from now on, where that device has no room for it."""
    if embeddings.device == HOST:
        return detector.score_embeddings(model, embeddings)
    with suppress(torch.cuda.OutOfMemoryError), whole_float32():
        return detector.score_embeddings(model, embeddings)
    in_memory = detector.model_  # no exception holds the tensors of the device any more
    detector.extractor.in_use.keep(in_memory, in_memory)
    return detector.score_embeddings(in_memory, embeddings.to(HOST))


def rescore(detector: BackboneDetector[Any], prediction: Prediction) -> Prediction:
    """The same maps, and scores by them where ``score`` says how."""
    rule = detector.map_score
    if rule is None or prediction.maps is None:
        return prediction
    return replace(prediction, scores=rule.of(prediction.maps, prediction.roi_masks))


def refuse_other_size(
    image_size: tuple[int, int],
    size: tuple[int, int],
    *,
    passed: Sequence[Path | tuple[int, int]] | None = None,
    takes_sizes: bool = False,
) -> None:
    """Refuse to score an image whose size after the transform is not that of the fit.

    Parameters
    ----------
    image_size, size : (int, int)
        Of the fit, and of the image.
    passed : sequence of Path or (int, int), optional
        The files or sizes of the images so far. All have one size, so the first is named.
    takes_sizes : bool
        Whether it could be scored if its size had been known before.

    Raises
    ------
    InputError
        Naming both.
    """
    if size != image_size:
        named = f"{passed[0]}, an image " if passed and isinstance(passed[0], Path) else "an image "
        of_fit = f"{image_size[0]}x{image_size[1]}"
        what_to_do = f"resize the image to {of_fit}, or fit a model with --resize {of_fit}"
        if takes_sizes:
            what_to_do = "give files or a list of arrays"
        raise InputError(
            f"{named}of {pixels(size)} after the transform cannot be scored by a detector fitted on "
            f"{pixels(image_size)}: {what_to_do}"
        )


def views_to_score(features: Features, image_size: tuple[int, int], extractor: FeatureExtractor) -> Features:
    """The views by which images are scored, of features in these views or in all of a fit.

    Raises
    ------
    InputError
        If the images are not of the size of the fit, or their views are others.
    """
    refuse_other_size(image_size, features.image_size)
    count, of_fit = extractor.views.of_score.count, extractor.views.of_fit.count
    if features.views not in (count, of_fit):
        raise InputError(
            f"features of {features.views} views of each image do not fit a detector that scores {count}: extract "
            "them by its extract"
        )
    return features if features.views == count else features.of_views([0, *range(of_fit - count + 1, of_fit)])


def joined(parts: Iterable[PatchEmbeddings], views: int) -> Iterator[PatchEmbeddings]:
    """Embeddings of about so many views at a time: features come in smaller parts, of far more channels."""
    waiting: list[PatchEmbeddings] = []
    for part in parts:
        waiting.append(part)
        if sum(each.n for each in waiting) >= views:
            yield PatchEmbeddings.concatenate(waiting) if len(waiting) > 1 else part
            waiting = []
    if waiting:
        yield PatchEmbeddings.concatenate(waiting) if len(waiting) > 1 else waiting[0]


def combine_views(prediction: Prediction, others: Sequence[View], *, score_is_map_maximum: bool) -> Prediction:
    """One prediction of the predictions of all views; a view that shows nothing of what counts says nothing.

    Parameters
    ----------
    prediction : Prediction
        Of N·V views, those of one image next to each other.
    others : sequence of V − 1 View
        Those after the image as it is.
    score_is_map_maximum : bool
        Whether scores are the maxima of the combined maps; the means of the scores of the views otherwise.
    """
    views = (View(), *others)
    of_scores = prediction.scores.reshape(-1, len(views))
    scores = np.nanmean(of_scores, 1) if np.isnan(of_scores).any() else of_scores.mean(1)
    if prediction.maps is None:
        return Prediction(scores, None, prediction.threshold)
    of_views = torch.from_numpy(prediction.maps.reshape(-1, len(views), *prediction.maps.shape[1:]))
    roi_masks = None
    if prediction.roi_masks is not None:
        roi_masks = torch.from_numpy(prediction.roi_masks.reshape(-1, len(views), *prediction.roi_masks.shape[1:]))
    return Prediction.from_maps(
        mean_of_views(of_views, views, roi_masks),
        None if score_is_map_maximum else torch.from_numpy(scores),
        threshold=prediction.threshold,
        roi_masks=None if roi_masks is None else roi_masks[:, 0],
    )


def predict_patches(
    detector: BackboneDetector[Any],
    distances: Tensor,
    grid: tuple[int, int],
    *,
    scores: Tensor | None = None,
    roi_masks: Tensor | None = None,
    counted: Tensor | None = None,
    edges: str = "symmetric",
) -> Prediction:
    """Score N images by maps of the distances of their patches.

    Parameters
    ----------
    distances : Tensor (P, N)
        Of the patches of a grid.
    scores : Tensor (N,), optional
        By default the maxima of the maps.
    roi_masks : Tensor (N, H, W), bool, optional
        The pixels that count.
    counted : Tensor (P, N), bool, optional
        The patches that have a distance.
    edges : str
        As of :func:`~padim_zoo.features.anomaly_map.anomaly_maps`.
    """
    if roi_masks is not None or counted is not None:  # which lie in main memory
        distances = distances.cpu()
    on_grid = None if counted is None else counted.T.reshape(-1, *grid)
    on_patches, tiles, sigma = distances.T.reshape(-1, *grid), detector.tile_layout, getattr(detector, "sigma", 0.0)
    maps = anomaly_maps(on_patches, detector.image_size_, sigma, edges, counted=on_grid, tiles=tiles)
    with one_thread_for(maps.numel()):
        return Prediction.from_maps(
            maps, scores, threshold=detector.threshold_, roi_masks=roi_masks, scored_patches=on_grid, tiles=tiles
        )


def refuse_unscored(prediction: Prediction) -> None:
    """Refuse images of which nothing is scored.

    Raises
    ------
    InputError
        If there is one.
    """
    if prediction.roi_masks is None:
        return
    scored: np.ndarray = np.any(prediction.roi_masks, axis=(1, 2))
    if not scored.all():
        raise InputError(
            f"nothing of {(~scored).sum()} of {len(scored)} images is scored, the first at index "
            f"{scored.argmin()}: no patch of their regions of interest was among those of the fit"
        )
