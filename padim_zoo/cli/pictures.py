"""Pictures and maps of predictions, written into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.atomic import write_whole
from padim_zoo.data.image import read_image
from padim_zoo.data.transform import Transform
from padim_zoo.errors import InputError
from padim_zoo.report.pictures import Picture, Scale, boundary, heat_map, overlay, panels


@dataclass(frozen=True)
class PictureFolder:
    """Writes ``FOLDER/KIND/NAME.png`` for each kind asked for, all on one colour scale.

    Attributes
    ----------
    folder : Path
    kinds : tuple of str
        Of ``heatmap``, ``overlay``, ``boundary`` and ``panel``.
    transform : Transform
        What the detector did to the images; pictures show the images after it.
    scale : (low, high)
        The scores of the first and the last colour.
    threshold : float
        Pixels that exceed it lie within the boundary.
    """

    folder: Path
    kinds: tuple[str, ...]
    transform: Transform
    scale: Scale
    threshold: float

    def write(self, name: Path, path: Path, anomaly_map: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Write the pictures of the image at ``path``; ``mask`` is its ground truth after the transform."""
        image = self.transform.image(read_image(path))
        for kind in self.kinds:
            picture = Image.fromarray(self._draw(kind, image, anomaly_map, mask))
            target = self.folder / kind / name.with_name(f"{name.name}.png")
            write_whole(target, partial(picture.save, format="PNG"))

    def _draw(self, kind: str, image: Picture, anomaly_map: np.ndarray, mask: np.ndarray | None) -> Picture:
        if kind == "heatmap":
            return heat_map(anomaly_map, self.scale)
        if kind == "overlay":
            return overlay(image, anomaly_map, self.scale)
        if kind == "boundary":
            return boundary(image, anomaly_map, self.threshold)
        return panels(image, mask, anomaly_map, self.scale, self.threshold)


def picture_folder(detector: Any, folder: Path, kinds: tuple[str, ...], threshold: float | None) -> PictureFolder:
    """Where the pictures of a detector's predictions go.

    The colours start at the score of a typical normal pixel, or at 0 where the detector knows none, and have the
    threshold at two thirds of the way, where they turn bright.

    Raises
    ------
    InputError
        If there is no threshold.
    """
    if threshold is None:
        raise InputError("the model has no threshold for the colours of pictures to rest on: give --threshold")
    low = 0.0 if detector.calibration_ is None else detector.calibration_.map_low or 0.0
    if not detector.score_is_map_maximum:
        # Scores and maps are on scales of their own: the colours turn bright where one normal pixel in 1,000 is.
        if detector.calibration_ is None or detector.calibration_.map_high is None:
            raise InputError("the model knows no normal maps for the colours of pictures to rest on: fit it again")
        threshold = detector.calibration_.map_high
    if threshold <= low:
        raise InputError(
            f"the threshold {threshold:g} is below the score of normal pixels, {low:.4g}: give a higher one"
        )
    return PictureFolder(folder, kinds, detector.transform, (low, low + 1.5 * (threshold - low)), threshold)


def write_map(folder: Path, name: Path, anomaly_map: np.ndarray) -> None:
    """Write ``FOLDER/maps/NAME.npy``, float32 (H, W)."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, anomaly_map, allow_pickle=False)

    write_whole(folder / "maps" / name.with_name(f"{name.name}.npy"), write)
