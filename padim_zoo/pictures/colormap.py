"""Anomaly scores to colors, on a scale that the caller gives and never takes from the map itself.

Only on one scale can two images be compared, and a normal image has to look normal.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from padim_zoo.core.errors import InputError, needs_extra
from padim_zoo.core.suggest import suggest
from padim_zoo.pictures.kinds import PictureChoice

Picture = npt.NDArray[np.uint8]
Scale = tuple[float, float]

OWN = PictureChoice.colormap
"""The name of the color map that is drawn here; all others are matplotlib's."""

# From cold to hot. Oklab lightness rises by equal steps along the table (see `color_table`), so the map also reads
# in gray; blue to yellow is kept apart by all common color-vision deficiencies.
_ANCHORS = ("08102b", "2a1a66", "6b1f80", "b02f73", "e55a4f", "f99b3e", "fbe08a")
_UNKNOWN = (128, 128, 128)

_LINEAR_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def to_oklab(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """sRGB colors (..., 3) in the perceptual space Oklab (lightness, green–red, blue–yellow).

    References
    ----------
    Björn Ottosson, "A perceptual color space for image processing", 2020.
    """
    encoded = rgb / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _LINEAR_RGB_TO_LMS.T) @ _LMS_TO_OKLAB.T)


def from_oklab(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Oklab colors (..., 3) as sRGB, clipped to what a screen can show."""
    linear = (lab @ np.linalg.inv(_LMS_TO_OKLAB).T) ** 3 @ np.linalg.inv(_LINEAR_RGB_TO_LMS).T
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(encoded * 255.0), dtype=np.uint8)


def scale_of_maps(
    threshold: float | None, normal: tuple[float | None, float | None], score_is_map_maximum: bool
) -> tuple[Scale, float]:
    """What the colors of all pictures of a detector's maps rest on.

    Parameters
    ----------
    threshold : float or None
        Of scores.
    normal : (low, high)
        The scores of a typical normal pixel and of one in 1,000, as far as they are known.
    score_is_map_maximum : bool
        Whether the threshold is one of pixels too.

    Returns
    -------
    scale : (low, high)
        The scores of the first and the last color.
    map_threshold : float
        Pixels whose score exceeds it are anomalous.

    Raises
    ------
    InputError
        If there is no threshold, or it is no higher than a typical normal pixel.
    """
    if threshold is None:
        raise InputError("the model has no threshold for the colors of pictures to rest on: give --threshold")
    low, limit = normal[0] or 0.0, threshold
    if not score_is_map_maximum:
        # Scores and maps are on scales of their own: the colors turn bright where one normal pixel in 1,000 is.
        if normal[1] is None:
            raise InputError("the model knows no normal maps for the colors of pictures to rest on: fit it again")
        limit = normal[1]
    if limit <= low:
        raise InputError(f"the threshold {limit:g} is below the score of normal pixels, {low:.4g}: give a higher one")
    return (low, low + 1.5 * (limit - low)), limit


@lru_cache(maxsize=8)
def color_table(name: str = OWN) -> Picture:
    """The 256 colors of a heat map, uint8 (256, 3).

    Parameters
    ----------
    name : str
        ``"ember"``, which is a few anchors joined in Oklab at equal steps of lightness, or the name of a color map
        of matplotlib's, such as ``"viridis"``, ``"turbo"`` or ``"gray"``.

    Raises
    ------
    InputError
        If there is none of that name (the closest are named), or matplotlib is needed and not installed.
    """
    if name == OWN:
        anchors = to_oklab(np.array([list(bytes.fromhex(anchor)) for anchor in _ANCHORS], dtype=np.uint8))
        lightness = np.linspace(anchors[0, 0], anchors[-1, 0], 256)
        table = from_oklab(np.stack([np.interp(lightness, anchors[:, 0], axis) for axis in anchors.T], axis=1))
    else:
        with needs_extra("report", f"the color map {name!r}"):
            from matplotlib import colormaps
        if name not in colormaps:
            hint = suggest(name, [OWN, *colormaps], f"expected {OWN} or one of matplotlib's")
            raise InputError(f"unknown color map {name!r}: {hint}")
        table = np.asarray(np.round(colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255), dtype=np.uint8)
    table.setflags(write=False)  # it is shared by all callers
    return table


def place_on_scale(anomaly_map: npt.NDArray[np.floating], scale: Scale) -> npt.NDArray[np.float64]:
    """Position of scores on a scale, 0 to 1; NaN where the score is.

    Raises
    ------
    ValueError
        If the scale does not rise.
    """
    low, high = scale
    if not low < high:
        raise ValueError(f"a scale rises from low to high, found {scale}")
    return np.clip((anomaly_map.astype(np.float64) - low) / (high - low), 0.0, 1.0)


def heat_map(anomaly_map: npt.NDArray[np.floating], scale: Scale, colors: str = OWN) -> Picture:
    """Colors of an anomaly map.

    Parameters
    ----------
    anomaly_map : ndarray (H, W)
        Anomaly score of each pixel. NaN, outside of a region of interest say, is gray.
    scale : (low, high)
        The scores of the first and the last color; scores beyond them take the end's color.
    colors : str
        As :func:`color_table` takes it.

    Returns
    -------
    ndarray (H, W, 3), uint8
    """
    position = place_on_scale(anomaly_map, scale)
    unknown = np.isnan(position)
    position[unknown] = 0.0
    drawn = np.take(color_table(colors), np.rint(position * 255).astype(np.uint8), axis=0)
    drawn[unknown] = _UNKNOWN
    return drawn
