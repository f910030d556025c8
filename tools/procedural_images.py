"""Pictures of nothing in particular: what the built-in backbone is trained on, so that no photograph is needed.

An image is a stack of shapes in front of a background ("dead leaves", Lee, Mumford and Huang 2001), each filled with a
texture of its own, then lit, blurred and made noisy. Textures are noise of many spectra, stripes, cells, dots, rings,
Julia sets and warped mixtures of these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Array = NDArray[np.float32]
Texture = Callable[[np.random.Generator, int], Array]


def procedural_image(seed: int, size: int) -> NDArray[np.uint8]:
    """An image (size, size, 3), the same on every machine for the same seed."""
    rng = np.random.default_rng([seed, 0])
    image = _painted(rng, size)
    largest, smallest = rng.uniform(0.2, 0.6), rng.uniform(0.01, 0.08)
    for scale in np.geomspace(largest, smallest, int(rng.choice([0, 1, 3, 8, 20]))):
        alpha = shape(rng, size, float(scale))
        box = _bounds(alpha)
        if box is None:
            continue
        piece = _flat(rng, size) if rng.random() < 0.3 else _painted(rng, size)
        if rng.random() < 0.4:  # a relief: darker towards the outline
            depth = ndimage.distance_transform_edt(alpha[box] > 0.5).astype(np.float32)
            piece[box] *= (0.4 + 0.6 * np.clip(depth / max(float(depth.max()), 1), 0, 1))[..., None]
        if rng.random() < 0.4:  # a shadow
            shift = rng.integers(-6, 7, 2)
            shadow = ndimage.gaussian_filter(np.roll(alpha, shift, (0, 1)), rng.uniform(0.5, 5))
            image *= 1 - rng.uniform(0.2, 0.7) * shadow[..., None]
        image[box] += (piece[box] - image[box]) * alpha[box][..., None]
    return _photographed(rng, image)


def _painted(rng: np.random.Generator, size: int) -> Array:
    """A texture in color, (size, size, 3)."""
    pattern = _pattern(rng, size)
    mixed = rng.random()
    if mixed < 0.4:  # two or three colors along one pattern
        colors = _colors(rng, 3)
        stops = np.array([0, rng.uniform(0.2, 0.8), 1])
        channels = [np.interp(pattern, stops, colors[:, channel]) for channel in range(3)]
        return np.asarray(np.stack(channels, -1), dtype=np.float32)
    if mixed < 0.8:  # one color, shaded
        shaded = _colors(rng, 1)[0] * (1 + rng.uniform(0.1, 1) * (pattern[..., None] - 0.5))
        return np.asarray(shaded, dtype=np.float32)
    other = _pattern(rng, size)
    first, second, third = _colors(rng, 3)
    blend = first + (second - first) * pattern[..., None] + (third - first) * 0.5 * other[..., None]
    return np.asarray(blend, dtype=np.float32)


def _flat(rng: np.random.Generator, size: int) -> Array:
    return np.broadcast_to(_colors(rng, 1)[0], (size, size, 3)).astype(np.float32)


def _colors(rng: np.random.Generator, number: int) -> Array:
    """Colors in [0, 1], mostly of low saturation as things are."""
    gray = rng.uniform(0.05, 0.95, (number, 1))
    return np.clip(gray + rng.normal(0, rng.choice([0.02, 0.1, 0.25]), (number, 3)), 0, 1).astype(np.float32)


def _pattern(rng: np.random.Generator, size: int) -> Array:
    """A texture in [0, 1], (size, size), perhaps warped."""
    texture = _TEXTURES[rng.integers(len(_TEXTURES))](rng, size)
    if rng.random() < 0.3:
        texture = texture + rng.uniform(0.1, 1) * _TEXTURES[rng.integers(len(_TEXTURES))](rng, size)
    if rng.random() < 0.3:
        shifts = [rng.uniform(2, 25) * (_spectrum(rng, size, 3.0) - 0.5) for _ in range(2)]
        rows, columns = np.mgrid[:size, :size].astype(np.float32)
        texture = ndimage.map_coordinates(texture, [rows + shifts[0], columns + shifts[1]], order=1, mode="reflect")
    return _unit(texture)


def _unit(values: Array) -> Array:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-6)).astype(np.float32)


def _spectrum(rng: np.random.Generator, size: int, exponent: float, stretch: float = 1.0, angle: float = 0.0) -> Array:
    """Gaussian noise whose power falls with frequency to the power of ``exponent``, perhaps along a direction."""
    y, x = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.hypot(along * stretch, across)
    radius[0, 0] = 1.0
    noise = np.fft.rfft2(rng.standard_normal((size, size)))
    return _unit(np.fft.irfft2(noise * radius ** (-exponent / 2), (size, size)).astype(np.float32))


def _noise(rng: np.random.Generator, size: int) -> Array:
    stretch = float(rng.choice([1, 1, 4, 20]))
    return _spectrum(rng, size, rng.uniform(0, 4), stretch, rng.uniform(0, np.pi))


def _plane(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Turned coordinates in [-1, 1]."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _sharpened(rng: np.random.Generator, wave: Array) -> Array:
    """A wave in [-1, 1], anywhere between a sine and a square."""
    steep = rng.choice([1.0, 3.0, 30.0])
    return np.asarray(np.tanh(steep * (wave - rng.uniform(-0.5, 0.5))), dtype=np.float32)


def _stripes(rng: np.random.Generator, size: int) -> Array:
    x, y = _plane(rng, size)
    frequency = np.exp(rng.uniform(np.log(4), np.log(200)))
    wave = _sharpened(rng, np.sin(frequency * x))
    if rng.random() < 0.5:
        crossing = _sharpened(rng, np.sin(frequency * rng.uniform(0.7, 1.4) * y))
        wave = wave * crossing if rng.random() < 0.5 else np.maximum(wave, crossing)
    return _unit(wave)


def _rings(rng: np.random.Generator, size: int) -> Array:
    x, y = _plane(rng, size)
    x, y = x - rng.uniform(-1, 1), (y - rng.uniform(-1, 1)) * rng.uniform(0.3, 1)
    phase = np.exp(rng.uniform(np.log(5), np.log(120))) * np.hypot(x, y) + rng.integers(0, 12) * np.arctan2(y, x)
    return _unit(_sharpened(rng, np.sin(phase)))


def _cells(rng: np.random.Generator, size: int) -> Array:
    """Distance to the nearest of scattered points, or each cell in a shade of its own (Worley 1996)."""
    number = int(np.exp(rng.uniform(np.log(8), np.log(1500))))
    marks = np.zeros((size, size), dtype=np.int32)
    marks[tuple(rng.integers(0, size, (2, number)))] = 1
    distance, (rows, columns) = ndimage.distance_transform_edt(marks == 0, return_indices=True)
    shades = rng.random((size, size)).astype(np.float32)[rows, columns]
    kind = rng.integers(3)
    near = _unit(distance.astype(np.float32))
    return shades if kind == 0 else near if kind == 1 else _unit(shades + 2 * near)


def _dots(rng: np.random.Generator, size: int) -> Array:
    marks = (rng.random((size, size)) < np.exp(rng.uniform(np.log(5e-4), np.log(2e-2)))).astype(np.float32)
    blurred = ndimage.gaussian_filter(marks * rng.random((size, size)).astype(np.float32), rng.uniform(0.7, 5))
    return _unit(np.minimum(blurred, np.quantile(blurred, rng.uniform(0.8, 1))))


def _scratches(rng: np.random.Generator, size: int) -> Array:
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.choice([3, 15, 80]))):
        start = rng.uniform(0, size, 2)
        bends = np.cumsum(rng.normal(0, size * rng.choice([0.02, 0.1, 0.3]), (rng.integers(2, 8), 2)), 0)
        line = [tuple(point) for point in start + bends]
        draw.line(line, fill=int(rng.integers(60, 256)), width=int(rng.integers(1, 6)))
    return _unit(ndimage.gaussian_filter(np.asarray(picture, dtype=np.float32), rng.uniform(0.3, 1.2)))


def _julia(rng: np.random.Generator, size: int) -> Array:
    """How fast z² + c escapes."""
    x, y = _plane(rng, size)
    zoom = rng.uniform(0.05, 1.3)
    z = (zoom * (x + 1j * y) + rng.normal(0, 0.4) + 1j * rng.normal(0, 0.4)).astype(np.complex64)
    turn = np.exp(1j * rng.uniform(0, 2 * np.pi))
    c = np.complex64(0.5 * turn - 0.25 * turn**2 + 0.05 * (rng.normal() + 1j * rng.normal()))
    steps = np.zeros((size, size), dtype=np.float32)
    for _ in range(40):
        inside = np.abs(z) < 4
        z = np.where(inside, z * z + c, z)
        steps += inside
    return _unit(np.sqrt(steps))


_TEXTURES: tuple[Texture, ...] = (_noise, _noise, _noise, _stripes, _rings, _cells, _dots, _scratches, _julia)


def shape(rng: np.random.Generator, size: int, scale: float) -> Array:
    """Coverage (size, size) of a closed outline: round, angular or ragged; perhaps repeated or hollow."""
    picture = Image.new("L", (2 * size, 2 * size))
    draw = ImageDraw.Draw(picture)
    corners = int(rng.choice([3, 4, 4, 5, 6, 8, 48, 48, 48]))
    angles = 2 * np.pi * (np.arange(corners) / corners + rng.random())
    radius = np.ones(corners)
    if corners == 48:  # a smooth outline from a few harmonics
        for harmonic in range(1, int(rng.integers(1, 7))):
            radius += rng.normal(0, 0.25) / harmonic * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    elif rng.random() < 0.5:
        radius *= rng.uniform(0.4, 1, corners)
    aspect, turn = rng.uniform(0.15, 1), rng.uniform(0, np.pi)
    outline = np.stack([radius * np.cos(angles), aspect * radius * np.sin(angles)], 1) * scale * size
    outline = outline @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    hollow = rng.random() < 0.15
    for _ in range(int(rng.choice([1, 1, 1, 4, 12]))):
        points = [tuple(point) for point in 2 * (outline + rng.uniform(0, size, 2))]
        if hollow:
            draw.line([*points, points[0]], fill=255, width=int(rng.integers(2, 14)))
        else:
            draw.polygon(points, fill=255)
    alpha = np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
    return np.asarray(ndimage.gaussian_filter(alpha, rng.uniform(1, 4))) if rng.random() < 0.2 else alpha


def _bounds(alpha: Array) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if rows.size else None


def _photographed(rng: np.random.Generator, image: Array) -> NDArray[np.uint8]:
    """Light that falls off, a lens that blurs, a sensor that is noisy."""
    size = len(image)
    if rng.random() < 0.6:
        x, _ = _plane(rng, size)
        image = image * (1 + rng.uniform(0, 0.4) * x)[..., None]
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, (sigma := rng.uniform(0.4, 2.5), sigma, 0))
    exposed = np.clip(image, 0, 1) ** rng.uniform(0.6, 1.6)
    noisy = exposed + rng.normal(0, rng.choice([0, 0.005, 0.02]), image.shape)
    return (255 * np.clip(noisy, 0, 1) + 0.5).astype(np.uint8)
