"""Several views of each image: they are scored side by side, and their predictions become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from padim_zoo.data.view import View, mean_of_views
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.features.patch_embeddings import PatchEmbeddings


def interleave_views(first: PatchEmbeddings, others: PatchEmbeddings) -> PatchEmbeddings:
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
