"""From the name of a picture to its pixels and its exact mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from padim_zoo.core.errors import InputError
from padim_zoo.data.synthetic import objects, textures
from padim_zoo.data.synthetic.canvas import REFERENCE, Array, Rendering, grid, planes, tint
from padim_zoo.data.synthetic.defects import SURFACE_DEFECTS, Severity

# The order is part of every picture's random key: append, never reorder.
TEXTURES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "fabric": textures.fabric,
    "leather": textures.leather,
    "terrazzo": textures.terrazzo,
    "wood": textures.wood,
}
OBJECTS: dict[str, Callable[[np.random.Generator, int, objects.Fault | None], Rendering]] = {
    "board": objects.board,
    "cable": objects.cable,
    "capsule": objects.capsule,
    "gear": objects.gear,
}
CATEGORIES = (*TEXTURES, *OBJECTS)
KINDS = ("crack", "misplaced", "missing", "scratch", "stain")
_SPLITS = ("train", "test")

TOLERANCE = 4 / 255
"""Largest change of a channel, of 1, that does not count as visible."""

_CONTRASTS = (0.2, 0.4, 0.7)
_EXTENTS = (0.75, 1.2, 1.9)
_SMALLEST, _LARGEST = 0.0003, 0.5  # share of the image that a mask may cover


@dataclass(frozen=True)
class Picture:
    """Names one picture of the data set; the same name gives the same pixels.

    Attributes
    ----------
    category : str
        One of ``CATEGORIES``.
    split : str
        ``"train"`` or ``"test"``.
    kind : str
        ``"good"`` or one of ``KINDS``.
    number : int
        Counts from 0 within the kind.
    """

    category: str
    split: str
    kind: str
    number: int

    def generator(self, seed: int, stream: int) -> np.random.Generator:
        """The random numbers of one aspect of the picture, independent of every other picture's."""
        kind = ("good", *KINDS).index(self.kind)
        category, split = CATEGORIES.index(self.category), _SPLITS.index(self.split)
        return np.random.default_rng([seed, category, split, kind, self.number, stream])


@dataclass(frozen=True)
class Shot:
    """A picture taken.

    Attributes
    ----------
    image : uint8 array (H, W, 3)
        The picture.
    clean : uint8 array (H, W, 3)
        The same specimen, light and camera noise without the defect.
    mask : bool array (H, W)
        The pixels that the defect changes visibly; all False for a good picture.
    """

    image: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def severity(picture: Picture) -> Severity:
    """Contrast and extent of a defect: nine consecutive numbers of one kind meet every combination."""
    turn = KINDS.index(picture.kind)
    contrast = _CONTRASTS[(picture.number + turn) % 3]
    return Severity(contrast, _EXTENTS[(picture.number + picture.number // 3 + 2 * turn) % 3])


def take(picture: Picture, size: int | tuple[int, int], seed: int, defect_area: tuple[int, int] | None = None) -> Shot:
    """Render a picture.

    Parameters
    ----------
    picture : Picture
    size : int or (int, int)
        Height and width in pixels. Of a scene that is not square, the middle of a square one is seen.
    seed : int
    defect_area : (int, int), optional
        Fewest and most pixels of a defect, which is then drawn on a part of the surface; else it is of the usual share
        of the image.
    """
    height, width = (size, size) if isinstance(size, int) else size
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    window = slice(top, top + height), slice(left, left + width)
    rendering = _render(picture, side, seed, None)
    camera = _Camera(picture.generator(seed, _CAMERA), side, window)
    clean = Rendering(rendering.image[window], rendering.region[window])
    if picture.kind == "good":
        image = camera.expose(clean.image)
        return Shot(image, image, np.zeros((height, width), dtype=bool))
    wanted = severity(picture)
    rng = picture.generator(seed, _DEFECT)
    if defect_area is not None:
        spoilt, mask = _spoil_part(picture.kind, clean, camera, rng, wanted, defect_area)
        return Shot(camera.expose(spoilt), camera.expose(clean.image), mask)
    while True:
        if picture.category in OBJECTS and picture.kind in ("missing", "misplaced"):
            fault = objects.Fault(picture.kind, wanted.contrast, wanted.extent, rng)
            spoilt = _render(picture, side, seed, fault).image[window]
        else:
            spoilt = SURFACE_DEFECTS[picture.kind](rendering, rng, wanted)[window]
        mask = visible_change(camera.light(clean.image), camera.light(spoilt))
        if _SMALLEST <= mask.mean() <= _LARGEST:
            return Shot(camera.expose(spoilt), camera.expose(clean.image), mask)
        # Drawn where it hardly shows: draw again, a little plainer.
        wanted = wanted.plainer()


def _spoil_part(
    kind: str, clean: Rendering, camera: _Camera, rng: np.random.Generator, wanted: Severity, area: tuple[int, int]
) -> tuple[Array, NDArray[np.bool_]]:
    """A surface with a defect of an area in pixels, and its mask: drawn on a square part, as if that were all of it."""
    least, most = area
    target = np.exp(rng.uniform(np.log(least), np.log(most)))
    height, width = clean.region.shape
    side, drawn = _PARTS_PER_AREA * target**0.5, 0
    for _ in range(_MOST_PLACES):
        length = int(np.clip(side, _SMALLEST_PART, min(height, width)))
        row, column = int(rng.integers(height - length + 1)), int(rng.integers(width - length + 1))
        part = slice(row, row + length), slice(column, column + length)
        if clean.region[part].min() <= 0.95:  # at the edge of the object
            side *= 0.99
            continue
        drawn += 1
        if drawn > _MOST_TRIES:
            break
        spoilt = SURFACE_DEFECTS[kind](Rendering(clean.image[part], clean.region[part]), rng, wanted)
        changed = visible_change(camera.light(clean.image[part], part), camera.light(spoilt, part))
        count = int(changed.sum())
        if least <= count <= most:
            image, mask = clean.image.copy(), np.zeros((height, width), dtype=bool)
            image[part], mask[part] = spoilt, changed
            return image, mask
        wanted = wanted.plainer()
        side = length * float(np.clip((target / max(count, 1)) ** 0.5, 0.5, 2))
    raise InputError(
        f"synthetic: no {kind} of {least} to {most} pixels could be drawn at {height}x{width}: "
        "expected a larger --size, or a wider --defect-area"
    )


def visible_change(clean: Array, spoilt: Array) -> NDArray[np.bool_]:
    """Mask (H, W) of where two images (H, W, 3) differ by more than ``TOLERANCE``, with its gaps closed."""
    red, green, blue = planes(np.abs(spoilt - clean))  # a maximum along three values is slow
    changed = np.maximum(np.maximum(red, green), blue) > TOLERANCE
    reach = max(1, round(2 * changed.shape[0] / REFERENCE))
    padded = np.pad(changed, reach)  # so that closing reaches the border of the image
    closed = ndimage.binary_closing(padded, iterations=reach)
    return np.asarray(closed[reach:-reach, reach:-reach] | changed)


_SPECIMEN, _CAMERA, _DEFECT = range(3)


def _render(picture: Picture, size: int, seed: int, fault: objects.Fault | None) -> Rendering:
    rng = picture.generator(seed, _SPECIMEN)
    if picture.category in TEXTURES:
        return Rendering(TEXTURES[picture.category](rng, size), np.ones((size, size), dtype=np.float32))
    return OBJECTS[picture.category](rng, size, fault)


_ALL = (slice(None), slice(None))
_PARTS_PER_AREA = 20.0
"""Side of the first part tried, over the square root of the area of its defect."""
_SMALLEST_PART = 24
_MOST_PLACES, _MOST_TRIES = 200_000, 4000
"""Places that are looked at for a defect, most of them at an edge, and defects drawn there, before it is given up."""


class _Camera:
    """Light that falls off across the image, exposure, white balance and sensor noise of one picture."""

    def __init__(self, rng: np.random.Generator, size: int, window: tuple[slice, slice]) -> None:
        x, y = grid(size)
        slope_x, slope_y = rng.normal(0, 0.03, 2).astype(np.float32)
        right, down = x / REFERENCE - 0.5, y / REFERENCE - 0.5
        falloff = 1 + slope_x * right + slope_y * down - np.float32(0.18) * (right * right + down * down)
        balance = (rng.normal(1, 0.02) * rng.normal(1, 0.006, 3)).astype(np.float32)
        self._gain = tint(balance, falloff)[window]
        noise = rng.standard_normal((size, size, 3), dtype=np.float32)
        strength = np.float32(rng.uniform(0.007, 0.011))
        self._noise = np.moveaxis(np.multiply(planes(noise), strength, order="C"), 0, -1)[window]

    def light(self, reflectance: Array, part: tuple[slice, slice] = _ALL) -> Array:
        """The image, or a part of it, without noise, in [0, 1]."""
        return np.asarray(np.clip(reflectance * self._gain[part], 0, 1))

    def expose(self, reflectance: Array) -> NDArray[np.uint8]:
        """The image as the camera gives it."""
        gray_levels = 255 * (self.light(reflectance) + self._noise) + 0.5
        return np.asarray(np.clip(gray_levels, 0, 255), dtype=np.uint8)
