"""Drawing with antialiasing, smooth and cellular noise, and light on a relief.

All coordinates are reference pixels: the image spans 0 to 256 in x and y at any size in real pixels, so
that one seed shows the same scene at every size. Images are float32 (H, W, 3), reflectance about 0 to 1.

In memory the three colors of an image lie one after the other, as (3, H, W): what multiplies all colors of a pixel then
runs along rows, several times as fast as along colors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

REFERENCE = 256
_OVERSAMPLING = 3

Array = NDArray[np.floating[Any]]
Color = tuple[float, float, float] | NDArray[np.float64]
Point = tuple[float, float]
Points = Sequence[Point] | NDArray[np.float64]


@dataclass(frozen=True)
class Rendering:
    """A picture before light and camera noise.

    Attributes
    ----------
    image : array (H, W, 3)
        Reflectance.
    region : array (H, W)
        1 on the part that is inspected, 0 on the background, in between at its edge.
    """

    image: Array
    region: Array


def bearing(y: Array, x: Array) -> Array:
    """The angles of points, float32, the same on every processor.

    NumPy's own ``arctan2`` of float32 is not: AVX-512 changes its last bits, and with them a gray level here and there.
    """
    return np.arctan2(y.astype(np.float64), x.astype(np.float64)).astype(np.float32)


def grid(size: int) -> tuple[Array, Array]:
    """Reference coordinates x (1, W) and y (H, 1) of the pixel centers."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * (REFERENCE / size)).astype(np.float32)
    return line[None, :], line[:, None]


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur of an (H, W) array; ``sigma`` in reference pixels."""
    return np.asarray(ndimage.gaussian_filter(image, sigma * image.shape[0] / REFERENCE, truncate=3.0))


def smooth_noise(rng: np.random.Generator, size: int, wavelength: float | tuple[float, float]) -> Array:
    """Gaussian values on a coarse grid, interpolated: (H, W) of about unit variance.

    ``wavelength`` is the spacing of the grid in reference pixels, or one for y and one for x.
    """
    spacing_y, spacing_x = wavelength if isinstance(wavelength, tuple) else (wavelength, wavelength)
    rows, columns = REFERENCE / spacing_y, REFERENCE / spacing_x
    coarse = rng.standard_normal((int(rows) + 4, int(columns) + 4), dtype=np.float32)
    top, left = 1 + rng.random(), 1 + rng.random()
    box = (left, top, left + columns, top + rows)
    fine = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC, box=box)
    # Interpolation between independent values lowers the variance; 1.35 restores it on average.
    return np.asarray(np.asarray(fine, dtype=np.float32) * np.float32(1.35))


def cellular_noise(rng: np.random.Generator, size: int, cell: float) -> tuple[Array, Array, NDArray[np.intp], int]:
    """Distances to the nearest and second nearest of scattered points (Worley 1996), in cell widths.

    Returns
    -------
    nearest, second : array (H, W)
        The distances F1 and F2.
    owner : array (H, W)
        Number of the nearest point.
    count : int
        How many points there are.
    """
    x, y = grid(size)
    cells = int(REFERENCE / cell) + 4
    jitter = rng.uniform(-0.1, 1.1, (2, cells, cells)).astype(np.float32)
    phase = rng.random(2).astype(np.float32)
    u, v = x / np.float32(cell) + 1 + phase[0], y / np.float32(cell) + 1 + phase[1]
    column, row = u.astype(np.intp), v.astype(np.intp)
    nearest = np.full((size, size), np.inf, dtype=np.float32)
    second = nearest.copy()
    owner = np.zeros((size, size), dtype=np.intp)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            number = (row + down) * cells + (column + right)
            dx = np.take(jitter[0], number) + (column + np.float32(right) - u)
            dy = np.take(jitter[1], number) + (row + np.float32(down) - v)
            distance = (dx * dx + dy * dy).astype(np.float32)
            np.copyto(owner, number, where=distance < nearest)
            np.minimum(second, np.maximum(nearest, distance), out=second)
            np.minimum(nearest, distance, out=nearest)
    return np.sqrt(nearest), np.sqrt(second), owner, cells * cells


def smoothstep(values: Array, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, a smooth cubic in between."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def inside(depth: Array) -> Array:
    """Coverage of the pixels by a shape, given each pixel center's depth below its outline in reference pixels."""
    return np.asarray(np.clip(0.5 + depth * np.float32(depth.shape[0] / REFERENCE), 0, 1), dtype=np.float32)


def mix(below: Array, above: Array | Color, alpha: Array) -> Array:
    """``above`` laid over ``below`` (H, W, 3) with coverage ``alpha`` (H, W)."""
    top = np.asarray(above, dtype=np.float32)
    lower, upper = planes(below), planes(top) if top.ndim == 3 else top[:, None, None]
    return np.moveaxis(lower + alpha * np.subtract(upper, lower, order="C"), 0, -1)


def planes(image: Array) -> Array:
    """The colors of an image (H, W, 3), one after the other: (3, H, W)."""
    return np.moveaxis(image, -1, 0)


def tint(color: Array, brightness: Array) -> Array:
    """The image (H, W, 3) of one color (3,) in light (H, W)."""
    return np.moveaxis(color[:, None, None] * brightness, 0, -1)


def vary(rng: np.random.Generator, color: Color, spread: float) -> Array:
    """The color (3,) of one specimen, lighter or darker by a factor of deviation ``spread``."""
    return np.asarray(np.array(color, dtype=np.float32) * np.float32(rng.normal(1, spread)))


def light_relief(height: Array, depth: float, softness: float = 1.0) -> Array:
    """Brightness (H, W), about 1, of a relief under light from the upper left.

    ``depth`` scales the slopes of ``height`` (H, W), ``softness`` is a blur in reference pixels.
    """
    relief = blur(height, softness)
    scale = np.float32(depth * height.shape[0] / REFERENCE)
    slope_y, slope_x = np.gradient(relief)
    return np.asarray(1 + scale * np.clip(slope_x * 0.6 + slope_y * 0.8, -1, 1), dtype=np.float32)


def cast_shadow(height: Array, distance: float, softness: float, darkness: float) -> Array:
    """Factor (H, W) at most 1: what stands higher darkens what lies lower to its lower right."""
    pixels = distance * height.shape[0] / REFERENCE
    moved = ndimage.shift(height, (pixels, 0.75 * pixels), order=1, mode="nearest")
    return np.asarray(1 - darkness * np.clip(blur(moved, softness) - height, 0, 1), dtype=np.float32)


@dataclass(frozen=True)
class Pose:
    """A rotation and scaling about the center of the image, then a shift."""

    angle: float
    scale: float
    shift: Point

    @staticmethod
    def draw(rng: np.random.Generator, *, degrees: float, shift: float, scale: float = 0.01) -> Pose:
        """A random pose within the given limits."""
        angle = np.deg2rad(rng.uniform(-degrees, degrees))
        dx, dy = rng.uniform(-shift, shift, 2)
        return Pose(float(angle), float(1 + rng.uniform(-scale, scale)), (float(dx), float(dy)))

    def points(self, points: Points) -> NDArray[np.float64]:
        """Image coordinates (n, 2) of points (n, 2) given relative to the center."""
        c, s = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        turned = np.asarray(points, dtype=np.float64).reshape(-1, 2) @ np.array([[c, s], [-s, c]])
        return np.asarray(turned + REFERENCE / 2 + np.array(self.shift))

    def inverse(self, size: int) -> tuple[Array, Array]:
        """Coordinates x, y (H, W) relative to the center of the posed object, of every pixel."""
        x, y = grid(size)
        dx = x - np.float32(REFERENCE / 2 + self.shift[0])
        dy = y - np.float32(REFERENCE / 2 + self.shift[1])
        c, s = np.float32(np.cos(self.angle) / self.scale), np.float32(np.sin(self.angle) / self.scale)
        return c * dx + s * dy, c * dy - s * dx


class Painter:
    """Paints shapes in color and height, oversampled, onto a posed plane.

    Points are relative to the center of the object; ``height`` is 0 to 1.
    """

    def __init__(self, size: int, pose: Pose, color: Color = (0, 0, 0)) -> None:
        side = size * _OVERSAMPLING
        self._scale = side / REFERENCE
        self._pose = pose
        # Four channels without a meaning of their own: red, green, blue and height.
        self._image = Image.new("RGBX", (side, side), _to_bytes(*color, 0))
        self._pen = ImageDraw.Draw(self._image)

    def _place(self, points: Points) -> list[Point]:
        return [(float(x), float(y)) for x, y in self._pose.points(points) * self._scale]

    def polygon(self, points: Points, color: Color, height: float) -> None:
        """Fill a polygon."""
        self._pen.polygon(self._place(points), fill=_to_bytes(*color, height))

    def disc(self, center: Point | NDArray[np.float64], radius: float, color: Color, height: float) -> None:
        """Fill a circle."""
        ((x, y),) = self._place(np.asarray([center]))
        r = radius * self._pose.scale * self._scale
        self._pen.ellipse((x - r, y - r, x + r, y + r), fill=_to_bytes(*color, height))

    def line(self, points: Points, width: float, color: Color, height: float) -> None:
        """Draw a line of several segments with round corners."""
        pixels = max(1, round(width * self._pose.scale * self._scale))
        self._pen.line(self._place(points), fill=_to_bytes(*color, height), width=pixels, joint="curve")

    def box(self, center: Point, width: float, length: float, color: Color, height: float, angle: float = 0.0) -> None:
        """Fill a rectangle, ``width`` in x and ``length`` in y, turned by ``angle`` in radians about its own center."""
        c, s = np.cos(angle), np.sin(angle)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, length / 2)
        self.polygon(corners @ np.array([[c, s], [-s, c]]) + np.array(center), color, height)

    def finish(self) -> tuple[Array, Array]:
        """Colors (H, W, 3) and heights (H, W) at the size asked for."""
        channels = _reduced(self._image)
        return channels[..., :3], channels[..., 3]


def strokes(size: int, lines: Sequence[tuple[Sequence[Point], float]]) -> Array:
    """Coverage (H, W) of polylines, each a list of points in reference pixels and a width."""
    side = size * _OVERSAMPLING
    scale = side / REFERENCE
    image = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(image)
    for points, width in lines:
        corners = [(x * scale, y * scale) for x, y in points]
        pen.line(corners, fill=255, width=max(1, round(width * scale)), joint="curve")
    return _reduced(image)


def _reduced(oversampled: Image.Image) -> Array:
    pixels = np.asarray(oversampled.reduce(_OVERSAMPLING))
    if pixels.ndim == 3:
        pixels = np.moveaxis(np.ascontiguousarray(planes(pixels)), 0, -1)
    return np.asarray(pixels.astype(np.float32) / np.float32(255))


def _to_bytes(*channels: float) -> tuple[int, ...]:
    return tuple(round(255 * min(1.0, max(0.0, channel))) for channel in channels)
