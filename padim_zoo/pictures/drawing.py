"""Pictures of an anomaly map as arrays: heat map, overlay, boundary, highlight, frame and the five panels.

Every function that colors takes the scale, the two scores that the first and the last color stand for, and never
takes it from the map itself: only on one scale can two images be compared, and a normal image has to look normal.
Pixels that a map says nothing of, NaN, are gray in a heat map and untouched elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from padim_zoo.core.errors import InputError
from padim_zoo.pictures.colormap import OWN, Picture, Scale, color_table, heat_map, place_on_scale

__all__ = ["OWN", "Picture", "Scale", "boundary", "color_table", "frame", "heat_map", "highlight", "overlay", "panels"]

OPACITY = 0.9
"""Of the last color of an overlay, unless said otherwise."""

_LINE = (255, 40, 90)
_HALO = (255, 255, 255)
# Decisions differ in lightness and in words too, for those who do not tell red from green.
_ANOMALOUS, _NORMAL = (200, 30, 40), (110, 205, 130)
_PANELS = ("image", "ground truth", "anomaly map", "overlay", "boundary")
_DIMMED = 0.4
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def overlay(
    image: npt.ArrayLike,
    anomaly_map: npt.NDArray[np.floating],
    scale: Scale,
    alpha: float = OPACITY,
    colors: str = OWN,
) -> Picture:
    """The heat map over the image, the more opaque the more anomalous.

    Parameters
    ----------
    image : ndarray (H, W, 3) or, gray, (H, W), uint8
        What the map was made from.
    anomaly_map : ndarray (H, W)
        Anomaly score of each pixel.
    scale : (low, high)
        At ``low`` the image shows through wholly.
    alpha : float
        Opacity at ``high``, 0 to 1.
    colors : str
        As :func:`~padim_zoo.pictures.colormap.color_table` takes it.

    Raises
    ------
    InputError
        If the image is not of uint8 or not of the size of the map, or alpha is no opacity.
    """
    picture = _picture(image, anomaly_map)
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}: expected an opacity between 0 and 1")
    opacity = alpha * np.nan_to_num(place_on_scale(anomaly_map, scale))[..., None].astype(np.float32)
    mixed = (1 - opacity) * picture + opacity * heat_map(anomaly_map, scale, colors)
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def boundary(image: npt.ArrayLike, anomaly_map: npt.NDArray[np.floating], threshold: float) -> Picture:
    """The image with a line around the regions whose score exceeds ``threshold``.

    The line lies just inside the region, and a halo of another color outside of it, so that it shows on
    any background.
    """
    drawn = _picture(image, anomaly_map)
    region = anomaly_map > threshold
    if not region.any():
        return drawn
    line_width = max(1, round(min(region.shape) / 128))  # the same share of every image
    inner = ndimage.binary_erosion(region, iterations=line_width)
    drawn[region & ~inner] = _LINE
    drawn[_just_outside(region)] = _HALO
    return drawn


def highlight(image: npt.ArrayLike, anomaly_map: npt.NDArray[np.floating], threshold: float) -> Picture:
    """The image in which only the regions whose score exceeds ``threshold`` keep their light and color.

    Everything else is gray and dim; pixels without a score (NaN) are not anomalous, and dim too. A white line of one
    pixel goes around the regions, which may be dark themselves.
    """
    picture = _picture(image, anomaly_map)
    region = anomaly_map > threshold
    dim = np.rint(_DIMMED * (picture @ _LUMINANCE)).astype(np.uint8)
    drawn = np.where(region[..., None], picture, dim[..., None])
    drawn[_just_outside(region)] = _HALO
    return drawn


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
    picture = _picture(image)
    height, width = picture.shape[:2]
    anomalous = score > threshold
    color = _ANOMALOUS if anomalous else _NORMAL
    # Pillow's own font has no sign for "at most".
    caption = f"{'anomalous' if anomalous else 'normal'}: {score:.4g} {'>' if anomalous else '<='} {threshold:.4g}"
    border = max(2, round(min(height, width) / 40))
    size = max(8, round(min(height / 12, width / 14)))
    sheet = Image.new("RGB", (width + 2 * border, height + 2 * border + 2 * size), color)
    sheet.paste(Image.fromarray(picture), (border, border))
    middle = (sheet.width / 2, height + border + size + border / 2)
    _write(sheet, caption, middle, size, width, (255, 255, 255) if anomalous else (10, 40, 15))
    return np.asarray(sheet)


def panels(
    image: npt.ArrayLike,
    mask: npt.NDArray[np.bool_] | None,
    anomaly_map: npt.NDArray[np.floating],
    scale: Scale,
    threshold: float,
    alpha: float = OPACITY,
    colors: str = OWN,
) -> Picture:
    """Five captioned pictures side by side: image, ground truth, anomaly map, overlay, boundary.

    Parameters
    ----------
    image : ndarray (H, W, 3) or, gray, (H, W), uint8
        What the map was made from.
    mask : ndarray (H, W), bool, or None
        Ground truth; blank when not known.
    anomaly_map : ndarray (H, W)
        Anomaly score of each pixel.
    scale : (low, high)
        The scores of the first and the last color.
    threshold : float
        Score beyond which a pixel lies within the boundary.
    alpha, colors
        As :func:`overlay` takes them.
    """
    picture = _picture(image, anomaly_map)
    height, width = picture.shape[:2]
    truth = np.full_like(picture, 235)
    if mask is not None:
        if mask.shape != anomaly_map.shape:
            raise InputError(f"the mask is {_size(mask)} and the map {_size(anomaly_map)}: expected the same size")
        truth[:] = np.where(mask, 255, 0)[..., None]
    pictures = (
        picture,
        truth,
        heat_map(anomaly_map, scale, colors),
        overlay(picture, anomaly_map, scale, alpha, colors),
        boundary(picture, anomaly_map, threshold),
    )
    gap = max(2, height // 48)
    size = max(8, round(min(height / 16, width / 8)))
    top = 2 * size
    sheet = Image.new("RGB", (5 * width + 6 * gap, height + top + gap), "white")
    for column, (caption, part) in enumerate(zip(_PANELS, pictures, strict=True)):
        left = gap + column * (width + gap)
        sheet.paste(Image.fromarray(part), (left, top))
        _write(sheet, caption, (left + width / 2, top / 2), size, width, (40, 40, 40))
    return np.asarray(sheet)


def _picture(image: npt.ArrayLike, anomaly_map: npt.NDArray[np.floating] | None = None) -> Picture:
    """A copy of an image as uint8 (H, W, 3).

    Raises
    ------
    InputError
        If it is no image of uint8, or not of the size of the map.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3):
        raise InputError(
            f"an image of {array.dtype} and shape {array.shape} cannot be drawn on: expected uint8, "
            "(height, width, 3) or (height, width)"
        )
    if anomaly_map is not None and array.shape[:2] != anomaly_map.shape:
        raise InputError(
            f"the image is {_size(array)} and the map {_size(anomaly_map)}: expected the image as the detector sees "
            "it, detector.transform.image(image)"
        )
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def _size(array: npt.NDArray[Any]) -> str:
    return "x".join(map(str, array.shape[:2]))


def _just_outside(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(region) & ~region)


def _write(
    sheet: Image.Image, text: str, middle: tuple[float, float], size: int, width: int, color: tuple[int, int, int]
) -> None:
    """Write in the largest font up to a size with which a text is no wider than so many pixels, if it can be read."""
    font = ImageFont.load_default(size=size)
    while size > 6 and font.getlength(text) > width:
        size -= 1
        font = ImageFont.load_default(size=size)
    ImageDraw.Draw(sheet).text(middle, text, fill=color, font=font, anchor="mm")
