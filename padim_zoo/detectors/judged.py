"""Which pixels a detector judges, where not all of an image count."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.detectors.detector import Prediction
from padim_zoo.features.patch_embeddings import pixels_of_cells


def prediction_within(
    maps: Tensor,
    scores: Tensor | None = None,
    *,
    threshold: float | None,
    regions: Tensor | None,
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
    regions : Tensor (N, H, W), bool, or None
        The pixels that count; None for all.
    counted : Tensor (N, h, w), bool, or None
        The patches that have a distance; None for all.
    """
    judged = regions
    if counted is not None:
        seen = pixels_of_cells(counted, (maps.shape[1], maps.shape[2]))
        judged = seen if regions is None else regions & seen
    if judged is not None and bool(judged.all()):
        judged = None
    if judged is not None:
        maps = torch.where(judged, maps, 0)
    found = maps.amax((1, 2)) if scores is None else scores
    return Prediction(found.numpy(), maps.numpy(), threshold, regions=None if judged is None else judged.numpy())
