"""An image with its anomaly map on it: overlay, boundary, highlight.

Every function that colors takes the scale, the two scores that the first and the last color stand for, and never
takes it from the map itself: only on one scale can two images be compared, and a normal image has to look normal.
Pixels that a map says nothing of, NaN, are left as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from padim_zoo.core.errors import InputError
from padim_zoo.pictures.colormap import Picture, Scale, heat_map, place_on_scale
from padim_zoo.pictures.kinds import PictureChoice

_LINE = (255, 40, 90)
_HALO = (255, 255, 255)
_DIMMED = 0.4
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def overlay(
    image: npt.ArrayLike,
    anomaly_map: npt.NDArray[np.floating],
    scale: Scale,
    alpha: float = PictureChoice.alpha,
    colors: str = PictureChoice.colormap,
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
    picture = as_picture(image, anomaly_map)
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
    drawn = as_picture(image, anomaly_map)
    region = anomaly_map > threshold
    if not region.any():
        return drawn
    inner = ndimage.binary_erosion(region, iterations=_line_width(region.shape))
    drawn[region & ~inner] = _LINE
    drawn[_just_outside(region)] = _HALO
    return drawn


def highlight(image: npt.ArrayLike, anomaly_map: npt.NDArray[np.floating], threshold: float) -> Picture:
    """The image in which only the regions whose score exceeds ``threshold`` keep their light and color.

    Everything else is gray and dim; pixels without a score (NaN) are not anomalous, and dim too. A white line of one
    pixel goes around the regions, which may be dark themselves.
    """
    picture = as_picture(image, anomaly_map)
    region = anomaly_map > threshold
    dim = np.rint(_DIMMED * (picture @ _LUMINANCE)).astype(np.uint8)
    drawn = np.where(region[..., None], picture, dim[..., None])
    drawn[_just_outside(region)] = _HALO
    return drawn


def grayed(image: npt.ArrayLike, unseen: npt.NDArray[np.bool_]) -> Picture:
    """The image, gray and dim where nothing was looked at."""
    picture = as_picture(image)
    picture[unseen] = np.rint(_DIMMED * (picture[unseen] @ _LUMINANCE)).astype(np.uint8)[:, None]
    return picture


def as_picture(image: npt.ArrayLike, anomaly_map: npt.NDArray[np.floating] | None = None) -> Picture:
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
            f"the image is {size_of(array)} and the map {size_of(anomaly_map)}: expected the image as the detector "
            "sees it, detector.transform.image(image)"
        )
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def size_of(array: npt.NDArray[Any]) -> str:
    """Height and width in words."""
    return "x".join(map(str, array.shape[:2]))


def _just_outside(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(region) & ~region)


def _line_width(shape: tuple[int, ...]) -> int:
    """Width of a boundary in pixels: the same share of every image."""
    return max(1, round(min(shape) / 128))
