"""Which pixels a detector judges, where not all of an image count."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.detectors.detector import Prediction
from padim_zoo.features.patch_embeddings import upsample_mask


def prediction_from_maps(
    maps: Tensor,
    scores: Tensor | None = None,
    *,
    threshold: float | None,
    roi_masks: Tensor | None,
    counted: Tensor | None = None,
) -> Prediction:
    """A prediction that says nothing of pixels that do not count.

    Parameters
    ----------
    maps : Tensor (N, H, W)
        Anything at pixels that do not count.
    scores : Tensor (N,), optional
        By default the maximum of each map over the pixels that count.
    threshold : float, optional
    roi_masks : Tensor (N, H, W), bool, or None
        The pixels that count; None for all.
    counted : Tensor (N, h, w), bool, or None
        The patches that have a distance; None for all.
    """
    roi_masks = roi_masks
    if counted is not None:
        seen = upsample_mask(counted, (maps.shape[1], maps.shape[2]))
        roi_masks = seen if roi_masks is None else roi_masks & seen
    if roi_masks is not None and bool(roi_masks.all()):
        roi_masks = None
    if roi_masks is not None:
        maps = torch.where(roi_masks, maps, 0)
    found = maps.amax((1, 2)) if scores is None else scores
    return Prediction(
        found.numpy(), maps.numpy(), threshold, roi_masks=None if roi_masks is None else roi_masks.numpy()
    )
