"""Ensembles: the anomaly maps of several runs, brought to one scale by normal images and combined.

The scale of a run is the mean and standard deviation of all pixels of its out-of-fold maps: the maps of the normal
images, each by the fold that had not seen it. The test images have no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.prediction import Prediction


class MapStatistics:
    """Mean and standard deviation of the pixels of maps that come in parts."""

    def __init__(self) -> None:
        self.pixels = 0
        self.total = 0.0
        self.total_of_squares = 0.0

    def add(self, prediction: Prediction | None) -> None:
        """Count the pixels that were judged in; detectors that give no maps leave the statistics empty."""
        if prediction is not None and prediction.maps is not None:
            maps = prediction.maps if prediction.roi_masks is None else prediction.maps[prediction.roi_masks]
            values = maps.astype(np.float64)
            self.pixels += values.size
            self.total += float(values.sum())
            self.total_of_squares += float(np.square(values).sum())

    def with_maps(
        self, maps: Sequence[np.ndarray | None], roi_masks: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What an ensemble needs of a member.

        Parameters
        ----------
        maps : sequence of ndarray (N, H, W)
            Maps of the test images, by each fold.
        roi_masks : ndarray (N, H, W), bool, optional
            The pixels that count.

        Returns
        -------
        dict
            ``maps`` (folds, N, H, W), and ``mean`` and ``std`` () of the out-of-fold pixels of normal images; and
            ``roi_masks`` where not all pixels count.

        Raises
        ------
        InputError
            If the detector gives no maps.
        """
        given = [fold for fold in maps if fold is not None]
        if len(given) < len(maps) or not self.pixels:
            raise InputError("an ensemble combines anomaly maps: this detector gives none")
        mean = self.total / self.pixels
        variance = max(self.total_of_squares / self.pixels - mean**2, 0.0)
        kept = {"maps": np.stack(given), "mean": np.array(mean), "std": np.array(math.sqrt(variance))}
        return kept if roi_masks is None else {**kept, "judged": roi_masks}


def combine_members(members: Iterable[Mapping[str, np.ndarray]], rule: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Normalize the maps of every member by its normal images, then take their mean or maximum.

    Parameters
    ----------
    members : iterable of dict
        As :meth:`MapStatistics.with_maps` gives them; read one at a time.
    rule : str
        ``"mean"`` or ``"max"``.

    Returns
    -------
    maps : ndarray (folds, N, H, W), float32
        Where not all pixels count, the others have the lowest value of all that do.
    roi_masks : ndarray (N, H, W), bool, or None
        The pixels that count, for every member.

    Raises
    ------
    InputError
        If members differ in the number or the size of their maps.
    """
    combined: np.ndarray | None = None
    roi_masks: np.ndarray | None = None
    count = 0
    for member in members:
        if "judged" in member:
            roi_masks = member["judged"] if roi_masks is None else roi_masks & member["judged"]
        # A detector that is constant on normal images has no scale of its own.
        scale = float(member["std"]) or 1.0
        maps = (member["maps"] - np.float32(member["mean"])) / np.float32(scale)
        count += 1
        if combined is None:
            combined = maps
            continue
        if combined.shape != maps.shape:
            raise InputError(f"the members of an ensemble have maps of {combined.shape} and {maps.shape}: use one size")
        combined = np.maximum(combined, maps) if rule == "max" else combined + maps
    assert combined is not None
    combined = combined / np.float32(count) if rule == "mean" else combined
    if roi_masks is not None:
        combined[:, ~roi_masks] = combined[:, roi_masks].min()
    return combined, roi_masks
