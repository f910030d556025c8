"""Defects of a surface: each takes a rendering and gives the image with the defect in it.

Sizes are in reference pixels, so a defect covers the same part of the scene at every image size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from padim_zoo.data.synthetic.canvas import (
    REFERENCE,
    Array,
    Point,
    Rendering,
    bearing,
    blur,
    grid,
    mix,
    smooth_noise,
    smoothstep,
    strokes,
    tint,
)


@dataclass(frozen=True)
class Severity:
    """How plain a defect is.

    Attributes
    ----------
    contrast : float
        Change of reflectance: below 0.2 is hard to see, above 0.5 plain.
    extent : float
        Length or diameter relative to the middle size of its kind.
    """

    contrast: float
    extent: float

    def plainer(self) -> Severity:
        """A little more of both, for a defect that hardly shows."""
        return Severity(min(1.0, 1.2 * self.contrast), min(2.4, 1.05 * self.extent))


def scratch(rendering: Rendering, rng: np.random.Generator, severity: Severity) -> Array:
    """A thin, gently bent groove: dark or bright, with an edge that catches the light on one side."""
    size = rendering.image.shape[0]
    length, width = 60 * severity.extent * rng.uniform(0.85, 1.15), rng.uniform(1.5, 2.4)
    path = _bend(_site(rendering, rng), rng.uniform(0, 2 * np.pi), length, rng.uniform(-0.22, 0.22))
    groove = strokes(size, [(path, width)])
    rim = strokes(size, [([(x + 1.1, y + 1.1) for x, y in path], 1.0)])
    sign = 1.0 if rng.random() < 0.6 else -1.0
    change = severity.contrast * sign * (groove - 0.6 * rim * (1 - groove)) * rendering.region
    return np.asarray(rendering.image * (1 + 0.35 * change)[..., None] + (0.75 * change)[..., None])


def crack(rendering: Rendering, rng: np.random.Generator, severity: Severity) -> Array:
    """A jagged dark line that tapers and branches."""
    start, heading = _site(rendering, rng), rng.uniform(0, 2 * np.pi)
    length, width = 48 * severity.extent * rng.uniform(0.85, 1.15), 1.6 + 1.0 * severity.extent
    trunk = _jagged(rng, start, heading, length)
    lines = _taper(trunk, width)
    for _ in range(int(rng.integers(1, 4))):
        root = trunk[int(rng.integers(len(trunk) // 4, len(trunk) - 1))]
        side = heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
        lines += _taper(_jagged(rng, root, side, length * rng.uniform(0.2, 0.45)), 0.65 * width)
    depth = np.clip(1.4 * severity.contrast, 0, 0.9) * strokes(len(rendering.image), lines) * rendering.region
    return np.asarray(rendering.image * (1 - depth)[..., None])


def stain(rendering: Rendering, rng: np.random.Generator, severity: Severity) -> Array:
    """A dried liquid: a tint with a wandering outline and a darker rim."""
    size = rendering.image.shape[0]
    distance = _blob(size, rng, _site(rendering, rng), 16 * severity.extent)
    inside = 1 - smoothstep(distance, 0.8, 1.0)
    rim = np.exp(-(((distance - 0.88) / 0.10) ** 2))
    cloud = 1 + 0.15 * smooth_noise(rng, size, 9)
    amount = severity.contrast * (0.85 * inside * cloud + 0.5 * rim * inside) * rendering.region
    # Oil, rust and ink darken; a bleached patch brightens.
    absorbed = np.array([(0.8, 1.0, 1.2), (0.4, 0.9, 1.3), (1.2, 1.0, 0.6), (-1.0, -1.0, -0.8)], dtype=np.float32)
    color = absorbed[int(rng.integers(len(absorbed)))]
    return np.asarray(rendering.image * (1 - amount[..., None] * color))


def hole(rendering: Rendering, rng: np.random.Generator, severity: Severity) -> Array:
    """A piece of the surface is missing: a pit with a ragged outline, a shadow and a lit far edge."""
    size = rendering.image.shape[0]
    distance = _blob(size, rng, _site(rendering, rng), 10 * severity.extent)
    ragged = distance + 0.10 * smooth_noise(rng, size, 2.5)
    pit = (1 - smoothstep(ragged, 0.85, 1.05)) * rendering.region
    depth = blur(pit, 1.2)
    slope_y, slope_x = np.gradient(depth)
    lit = np.clip((slope_x * 0.6 + slope_y * 0.8) * (size / REFERENCE), -0.4, 0.4)
    rough = 1 + 0.10 * smooth_noise(rng, size, 2.0)
    mean = np.ascontiguousarray(rendering.image).mean(axis=(0, 1))  # sums that depend on the order in memory
    below = tint(mean * np.float32(1 - min(0.8, 1.3 * severity.contrast)), rough)
    image = mix(rendering.image, below, pit)
    return np.asarray(image * (1 - 1.6 * severity.contrast * lit)[..., None])


def dislocation(rendering: Rendering, rng: np.random.Generator, severity: Severity) -> Array:
    """The pattern is locally displaced, as by a pulled thread or a mould that slipped."""
    size = rendering.image.shape[0]
    scale = size / REFERENCE
    center_x, center_y = _site(rendering, rng)
    x, y = grid(size)
    angle = rng.uniform(0, np.pi)
    along = (x - center_x) * np.cos(angle) + (y - center_y) * np.sin(angle)
    across = (y - center_y) * np.cos(angle) - (x - center_x) * np.sin(angle)
    radius = np.sqrt((along / (26 * severity.extent)) ** 2 + (across / (13 * severity.extent)) ** 2)
    window = 1 - smoothstep(radius.astype(np.float32), 0.55, 1.0)
    amount = (4.0 + 20.0 * severity.contrast) * scale * rng.choice([-1, 1])
    rows, columns = np.nonzero(window)
    weight = amount * window[rows, columns]
    source = np.array([rows + weight * np.sin(angle), columns + weight * np.cos(angle)])
    image: Array = rendering.image.copy()
    for channel in range(3):
        image[rows, columns, channel] = ndimage.map_coordinates(
            rendering.image[..., channel], source, order=1, mode="reflect"
        )
    return image


SURFACE_DEFECTS: dict[str, Callable[[Rendering, np.random.Generator, Severity], Array]] = {
    "scratch": scratch,
    "crack": crack,
    "stain": stain,
    "missing": hole,
    "misplaced": dislocation,
}


def _site(rendering: Rendering, rng: np.random.Generator) -> Point:
    """A point of the inspected part, away from the border of the image."""
    size = rendering.region.shape[0]
    margin = size // 10
    inner = rendering.region[margin : size - margin, margin : size - margin]
    places = np.flatnonzero(inner > 0.95)
    row, column = divmod(int(rng.choice(places)), inner.shape[1])
    scale = REFERENCE / size
    return (column + margin + 0.5) * scale, (row + margin + 0.5) * scale


def _bend(middle: Point, heading: float, length: float, curvature: float) -> list[Point]:
    """A parabola of the given length through ``middle``."""
    t = np.linspace(-0.5, 0.5, 16)
    along, aside = length * t, length * curvature * (4 * t * t - 1)
    x = middle[0] + along * np.cos(heading) - aside * np.sin(heading)
    y = middle[1] + along * np.sin(heading) + aside * np.cos(heading)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _jagged(rng: np.random.Generator, start: Point, heading: float, length: float) -> list[Point]:
    """A random walk in steps of about three pixels that keeps its main direction."""
    steps = max(4, round(length / 3))
    angles = heading + 0.25 * np.cumsum(rng.normal(0, 0.5, steps)) + rng.normal(0, 0.45, steps)
    x = start[0] + np.cumsum(3 * np.cos(angles))
    y = start[1] + np.cumsum(3 * np.sin(angles))
    return [start, *zip(x.tolist(), y.tolist(), strict=True)]


def _taper(path: list[Point], width: float) -> list[tuple[list[Point], float]]:
    """Segments of the path, thinner and thinner."""
    count = len(path) - 1
    return [([path[i], path[i + 1]], max(0.6, width * (1 - 0.75 * i / count))) for i in range(count)]


def _blob(size: int, rng: np.random.Generator, center: Point, radius: float) -> Array:
    """Distance (H, W) from ``center`` over a wandering radius: below 1 inside the blob."""
    x, y = grid(size)
    dx, dy = x - np.float32(center[0]), y - np.float32(center[1])
    squeeze, turn = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
    angle = bearing(dy, dx)
    outline = 1 + (squeeze - 1) * np.cos(angle - turn) ** 2
    for wave in range(2, 7):
        outline = outline + rng.normal(0, 0.11 / wave**0.5) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.sqrt(dx * dx + dy * dy) / (radius * np.maximum(outline, 0.35)), dtype=np.float32)
