"""Pictures of an anomaly map: heat map, overlay, boundary and the five panels, as arrays.

Every function takes the scale, the two scores that the first and the last colour stand for, and never takes it from
the map itself: only on one scale can two images be compared, and a normal image has to look normal.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Picture = npt.NDArray[np.uint8]
Scale = tuple[float, float]

# From cold to hot. Oklab lightness rises by equal steps along the table (see `colour_table`), so the map also reads
# in grey; blue to yellow is kept apart by all common colour-vision deficiencies.
_ANCHORS = ("08102b", "2a1a66", "6b1f80", "b02f73", "e55a4f", "f99b3e", "fbe08a")
_LINE = (255, 40, 90)
_HALO = (255, 255, 255)
_PANELS = ("image", "ground truth", "anomaly map", "overlay", "boundary")

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
    """sRGB colours (..., 3) in the perceptual space Oklab (lightness, green–red, blue–yellow).

    References
    ----------
    Björn Ottosson, "A perceptual color space for image processing", 2020.
    """
    encoded = rgb / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _LINEAR_RGB_TO_LMS.T) @ _LMS_TO_OKLAB.T)


def from_oklab(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Oklab colours (..., 3) as sRGB, clipped to what a screen can show."""
    linear = (lab @ np.linalg.inv(_LMS_TO_OKLAB).T) ** 3 @ np.linalg.inv(_LINEAR_RGB_TO_LMS).T
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(encoded * 255.0), dtype=np.uint8)


@lru_cache(maxsize=1)
def colour_table() -> Picture:
    """The 256 colours of a heat map, uint8 (256, 3): a few anchors joined in Oklab, at equal steps of lightness."""
    anchors = to_oklab(np.array([list(bytes.fromhex(anchor)) for anchor in _ANCHORS], dtype=np.uint8))
    lightness = np.linspace(anchors[0, 0], anchors[-1, 0], 256)
    return from_oklab(np.stack([np.interp(lightness, anchors[:, 0], axis) for axis in anchors.T], axis=1))


def _relative(anomaly_map: npt.NDArray[np.floating], scale: Scale) -> npt.NDArray[np.float64]:
    """Position on the scale, 0 to 1, (H, W)."""
    low, high = scale
    if not low < high:
        raise ValueError(f"a scale rises from low to high, found {scale}")
    return np.clip((anomaly_map.astype(np.float64) - low) / (high - low), 0.0, 1.0)


def heat_map(anomaly_map: npt.NDArray[np.floating], scale: Scale) -> Picture:
    """Colours of an anomaly map.

    Parameters
    ----------
    anomaly_map : ndarray (H, W)
        Anomaly score of each pixel.
    scale : (low, high)
        The scores of the first and the last colour; scores beyond them take the end's colour.

    Returns
    -------
    ndarray (H, W, 3), uint8
    """
    return colour_table()[np.round(_relative(anomaly_map, scale) * 255).astype(np.intp)]


def overlay(image: Picture, anomaly_map: npt.NDArray[np.floating], scale: Scale, alpha: float = 0.9) -> Picture:
    """The heat map over the image, the more opaque the more anomalous.

    Parameters
    ----------
    image : ndarray (H, W, 3), uint8
        What the map was made from.
    anomaly_map : ndarray (H, W)
        Anomaly score of each pixel.
    scale : (low, high)
        At ``low`` the image shows through wholly.
    alpha : float
        Opacity at ``high``.
    """
    opacity = alpha * _relative(anomaly_map, scale)[..., None]
    mixed = (1.0 - opacity) * image + opacity * heat_map(anomaly_map, scale)
    return np.asarray(np.round(mixed), dtype=np.uint8)


def boundary(image: Picture, anomaly_map: npt.NDArray[np.floating], threshold: float) -> Picture:
    """The image with a line around the regions whose score exceeds ``threshold``.

    The line lies just inside the region, and a halo of another colour outside of it, so that it shows on
    any background.
    """
    region = anomaly_map > threshold
    width = max(1, round(min(region.shape) / 128))
    inner = ndimage.binary_erosion(region, iterations=width)
    outer = ndimage.binary_dilation(region)
    drawn = np.array(image)
    drawn[region & ~inner] = _LINE
    drawn[outer & ~region] = _HALO
    return drawn


def panels(
    image: Picture,
    mask: npt.NDArray[np.bool_] | None,
    anomaly_map: npt.NDArray[np.floating],
    scale: Scale,
    threshold: float,
) -> Picture:
    """Five captioned pictures side by side: image, ground truth, anomaly map, overlay, boundary.

    Parameters
    ----------
    image : ndarray (H, W, 3), uint8
        What the map was made from.
    mask : ndarray (H, W), bool, or None
        Ground truth; blank when not known.
    anomaly_map : ndarray (H, W)
        Anomaly score of each pixel.
    scale : (low, high)
        The scores of the first and the last colour.
    threshold : float
        Score beyond which a pixel lies within the boundary.
    """
    height, width = image.shape[:2]
    blank = np.full_like(image, 235)
    truth = blank if mask is None else np.repeat(np.where(mask, 255, 0)[..., None], 3, axis=2).astype(np.uint8)
    pictures = (
        image,
        truth,
        heat_map(anomaly_map, scale),
        overlay(image, anomaly_map, scale),
        boundary(image, anomaly_map, threshold),
    )
    text = max(10, round(height / 16))
    gap, top = max(2, height // 48), 2 * text
    sheet = Image.new("RGB", (5 * width + 6 * gap, height + top + gap), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=text)
    for column, (caption, picture) in enumerate(zip(_PANELS, pictures, strict=True)):
        left = gap + column * (width + gap)
        sheet.paste(Image.fromarray(picture), (left, top))
        draw.text((left + width / 2, top / 2), caption, fill=(40, 40, 40), font=font, anchor="mm")
    return np.asarray(sheet)
