"""Pictures of one prediction on the photo itself, at its own size; what was not looked at is gray.

Two kinds have words on them: a frame that tells the decision, and panels side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from padim_zoo.core.errors import InputError
from padim_zoo.pictures.colormap import Picture, Scale, heat_map
from padim_zoo.pictures.kinds import PictureChoice
from padim_zoo.pictures.overlays import as_picture, boundary, grayed, highlight, overlay, size_of

PANEL_SIDE = 640
"""Pixels of the longer side of each part of a panel, at most about: five photos side by side would be too large."""


@dataclass(frozen=True)
class ScoredPhoto:
    """What a detector says of one photo.

    Attributes
    ----------
    image : ndarray (H, W, 3), uint8
    score, threshold : float
        The image is anomalous if its score exceeds the threshold.
    seen : ndarray (H, W), bool
        What was looked at.
    anomaly_map : ndarray (H, W) or None
        NaN where nothing was scored.
    scale : (low, high), optional
        The scores of the first and the last color.
    map_threshold : float, optional
        Pixels that exceed it lie within the boundary.
    mask : ndarray (H, W), bool, or None
        The ground truth, where it is known.
    """

    image: Picture
    score: float
    threshold: float
    seen: npt.NDArray[np.bool_]
    anomaly_map: npt.NDArray[np.floating] | None = None
    scale: Scale | None = None
    map_threshold: float | None = None
    mask: npt.NDArray[np.bool_] | None = None


def draw(kind: str, scored: ScoredPhoto, alpha: float, colors: str) -> Picture:
    """A picture of a kind of :data:`~padim_zoo.pictures.kinds.PICTURES`."""
    image = grayed(scored.image, ~scored.seen)
    if kind == "frame":
        return frame(image, scored.score, scored.threshold)
    assert scored.anomaly_map is not None
    assert scored.scale is not None
    assert scored.map_threshold is not None
    anomaly_map, scale, limit = scored.anomaly_map, scored.scale, scored.map_threshold
    if kind == "heatmap":
        return heat_map(anomaly_map, scale, colors)
    if kind == "overlay":
        return overlay(image, anomaly_map, scale, alpha, colors)
    if kind == "boundary":
        return boundary(image, anomaly_map, limit)
    if kind == "highlight":
        return highlight(image, anomaly_map, limit)
    step = max(1, round(max(image.shape) / PANEL_SIDE))
    small = np.asarray(Image.fromarray(image).reduce(step))
    mask = None if scored.mask is None else scored.mask[::step, ::step]
    return panels(small, mask, anomaly_map[::step, ::step], scale, limit, alpha, colors)


# Decisions differ in lightness and in words too, for those who do not tell red from green.
_ANOMALOUS, _NORMAL = (200, 30, 40), (110, 205, 130)


def frame(image: npt.ArrayLike, score: float, threshold: float) -> Picture:
    """Any picture within a frame that tells the decision: red and *anomalous*, or green and *normal*, and the score.

    Parameters
    ----------
    image : ndarray (H, W, 3) or, gray, (H, W), uint8
        The image, or one of the other pictures of it.
    score : float
        Anomaly score of the image.
    threshold : float
        Images whose score exceeds it are anomalous.

    Returns
    -------
    ndarray (H', W', 3), uint8
        The picture unchanged, with a border on all sides and a line of text below.
    """
    picture = as_picture(image)
    height, width = picture.shape[:2]
    anomalous = score > threshold
    color = _ANOMALOUS if anomalous else _NORMAL
    # Pillow's own font has no sign for "at most".
    caption = f"{'anomalous' if anomalous else 'normal'}: {score:.4g} {'>' if anomalous else '<='} {threshold:.4g}"
    border = max(2, round(min(height, width) / 40))
    size = max(8, round(min(height / 12, width / 14)))
    sheet = Image.new("RGB", (width + 2 * border, height + 2 * border + 2 * size), color)
    sheet.paste(Image.fromarray(picture), (border, border))
    ImageDraw.Draw(sheet).text(
        (sheet.width / 2, height + border + size + border / 2),
        caption,
        fill=(255, 255, 255) if anomalous else (10, 40, 15),
        font=_font_that_fits(caption, size, width),
        anchor="mm",
    )
    return np.asarray(sheet)


def panels(
    image: npt.ArrayLike,
    mask: npt.NDArray[np.bool_] | None,
    anomaly_map: npt.NDArray[np.floating],
    scale: Scale,
    threshold: float,
    alpha: float = PictureChoice.alpha,
    colors: str = PictureChoice.colormap,
) -> Picture:
    """Captioned pictures side by side: image, ground truth where it is known, anomaly map, overlay, boundary.

    Parameters
    ----------
    image : ndarray (H, W, 3) or, gray, (H, W), uint8
        What the map was made from.
    mask : ndarray (H, W), bool, or None
        Ground truth; None where it is not known.
    anomaly_map : ndarray (H, W)
        Anomaly score of each pixel.
    scale : (low, high)
        The scores of the first and the last color.
    threshold : float
        Score beyond which a pixel lies within the boundary.
    alpha, colors
        As :func:`overlay` takes them.
    """
    picture = as_picture(image, anomaly_map)
    height, width = picture.shape[:2]
    pictures = {"image": picture}
    if mask is not None:
        if mask.shape != anomaly_map.shape:
            raise InputError(f"the mask is {size_of(mask)} and the map {size_of(anomaly_map)}: expected the same size")
        pictures["ground truth"] = np.where(mask, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    pictures |= {
        "anomaly map": heat_map(anomaly_map, scale, colors),
        "overlay": overlay(picture, anomaly_map, scale, alpha, colors),
        "boundary": boundary(picture, anomaly_map, threshold),
    }
    gap = max(2, height // 48)
    size = max(8, round(min(height / 16, width / 8)))
    top = 2 * size
    count = len(pictures)
    sheet = Image.new("RGB", (count * width + (count + 1) * gap, height + top + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (caption, part) in enumerate(pictures.items()):
        left = gap + column * (width + gap)
        sheet.paste(Image.fromarray(part), (left, top))
        font = _font_that_fits(caption, size, width)
        draw.text((left + width / 2, top / 2), caption, fill=(40, 40, 40), font=font, anchor="mm")
    return np.asarray(sheet)


def _font_that_fits(text: str, size: int, width: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The largest font up to a size with which a text is no wider than so many pixels, down to what can be read."""
    font = ImageFont.load_default(size=size)
    while size > 6 and font.getlength(text) > width:
        size -= 1
        font = ImageFont.load_default(size=size)
    return font
