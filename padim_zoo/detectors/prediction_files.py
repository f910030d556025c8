"""A prediction as files and as a figure."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from padim_zoo.core.atomic_write import write_text_whole, write_whole
from padim_zoo.core.errors import InputError, needs_extra
from padim_zoo.core.printable import printable, without_formula
from padim_zoo.core.suggest import suggest
from padim_zoo.data.image import read_image, to_image
from padim_zoo.pictures.kinds import MAPLESS, PICTURES, PictureChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from padim_zoo.detectors.prediction import Prediction


def photo_of(prediction: Prediction, position: int) -> np.ndarray | None:
    """The photo (H, W, 3), uint8; None where the prediction does not know it."""
    if prediction.originals is None:
        return None
    depth = None if prediction.transform is None else prediction.transform.bit_depth
    source, name = prediction.originals[position], prediction.names[position]
    return read_image(source, depth) if isinstance(source, Path) else to_image(source, name, depth)


def map_on_photo(prediction: Prediction, position: int, photo: np.ndarray) -> np.ndarray | None:
    """The map on the pixels of the photo, NaN where nothing was scored."""
    pictured = prediction.pictured
    if pictured is None or prediction.transform is None:
        return None
    return prediction.transform.on_original(pictured[position], *photo.shape[:2])


def save(prediction: Prediction, folder: Path, kinds: Sequence[str]) -> None:
    """Write ``scores.csv`` and pictures; see :meth:`~padim_zoo.detectors.prediction.Prediction.save`."""
    for kind in kinds:
        if kind not in PICTURES:
            raise InputError(f"unknown kind of picture {kind!r}: {suggest(kind, PICTURES)}")
    frame = prediction.to_frame()
    frame["image"] = [without_formula(printable(name)) for name in frame["image"]]
    write_text_whole(folder / "scores.csv", frame.to_csv(index=False))
    if prediction.originals is None or prediction.threshold is None or prediction.transform is None:
        return
    from padim_zoo.pictures.drawing import ScoredPhoto, draw

    drawn = [kind for kind in kinds if kind in MAPLESS or prediction.scale is not None]
    digits = len(str(len(prediction)))
    for position, name in enumerate(prediction.names if drawn else ()):
        photo = photo_of(prediction, position)
        assert photo is not None
        anomaly_map = map_on_photo(prediction, position, photo)
        seen = np.ones(photo.shape[:2], dtype=bool) if anomaly_map is None else ~np.isnan(anomaly_map)
        score = float(prediction.deciding_scores[position])
        scale, limit = prediction.scale, prediction.map_threshold
        scored = ScoredPhoto(photo, score, prediction.threshold, seen, anomaly_map, scale, limit)
        for kind in drawn:
            picture = Image.fromarray(draw(kind, scored, PictureChoice.alpha, PictureChoice.colormap))
            target = folder / kind / f"{position:0{digits}} {Path(name).stem}.png"
            write_whole(target, partial(picture.save, format="PNG"))


def plot(prediction: Prediction, most: int) -> Figure:
    """A figure; see :meth:`~padim_zoo.detectors.prediction.Prediction.plot`."""
    with needs_extra("report", "a plot"):
        from matplotlib.figure import Figure
    count = min(most, len(prediction))
    figure = Figure(figsize=(5, 2.4 * max(1, count)), layout="constrained")
    axes = figure.subplots(max(1, count), 2, squeeze=False)
    anomalous = prediction.anomalous
    for position, (left, right) in enumerate(axes):
        for side in (left, right):
            side.axis("off")
        if position >= count:
            continue
        word = "" if anomalous is None else ", anomalous" if anomalous[position] else ", normal"
        left.set_title(Path(prediction.names[position]).name, fontsize=8)
        right.set_title(f"{prediction.deciding_scores[position]:.4g}{word}", fontsize=8)
        photo = photo_of(prediction, position)
        if photo is not None:
            left.imshow(photo)
        if prediction.pictured is not None:
            low, high = prediction.scale or (None, None)
            anomaly_map = prediction.pictured[position] if photo is None else map_on_photo(prediction, position, photo)
            right.imshow(anomaly_map, vmin=low, vmax=high, cmap="inferno")
    # A notebook shows figures of pyplot only, which would need, or choose, a screen.
    vars(figure)["_repr_png_"] = partial(_png_of, figure)
    return figure


def _png_of(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
