"""Manufactured parts on a background, each with a fault of its own for a missing and for a misplaced part.

Every function draws one specimen: what varies among normal ones comes from ``rng``, the fault from its own
generator, so that the same ``rng`` gives the same specimen with and without a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from padim_zoo.data.synthetic.canvas import (
    Array,
    Color,
    Painter,
    Point,
    Pose,
    Rendering,
    bearing,
    cast_shadow,
    inside,
    light_relief,
    mix,
    smooth_noise,
    smoothstep,
    tint,
    vary,
)


@dataclass(frozen=True)
class Fault:
    """Which part of an object is wrong.

    Attributes
    ----------
    kind : {"missing", "misplaced"}
        What is wrong with it.
    contrast : float
        How far a part is misplaced; below 0.2 is hard to see, above 0.5 plain.
    extent : float
        How large a part is concerned; 1.2 is the middle.
    rng : Generator
        Decides which part.
    """

    kind: str
    contrast: float
    extent: float
    rng: np.random.Generator

    @property
    def small(self) -> bool:
        """Whether only a small part is concerned."""
        return self.extent < 1.0

    @property
    def large(self) -> bool:
        """Whether a large part is concerned."""
        return self.extent > 1.5

    def offset(self) -> Point:
        """How far a part is misplaced, in reference pixels, in a random direction."""
        return _around(2.5 + 14.0 * self.contrast, self.rng.uniform(0, 2 * np.pi))


def _around(radius: float, angle: float) -> Point:
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def gear(rng: np.random.Generator, size: int, fault: Fault | None = None) -> Rendering:
    """Turned steel gear, clamped within a few degrees: 16 teeth, a bore with a keyway, five lightening holes."""
    pose = Pose.draw(rng, degrees=6, shift=3)
    teeth, root, tip = 16, 86.0, 103.0
    broken, height, sideways = -1, 1.0, 0.0
    hole, hole_shift, undrilled = -1, (0.0, 0.0), -1
    if fault is not None:
        number = int(fault.rng.integers(teeth))
        if fault.kind == "missing" and fault.large:
            undrilled = number % 5
        elif fault.kind == "missing":
            broken, height = number, 1 - min(1.0, 0.2 + 0.6 * fault.extent)
        elif fault.small:
            broken, sideways = number, 0.04 + 0.25 * fault.contrast
        else:
            hole, hole_shift = number % 5, fault.offset()

    pitch = 2 * np.pi / teeth
    outline: list[Point] = []
    for tooth in range(teeth):
        top = root + (tip - root) * (height if tooth == broken else 1.0)
        middle = tooth + (sideways if tooth == broken else 0.0)
        for part, radius in ((-0.30, root), (-0.17, top), (0.17, top), (0.30, root)):
            outline.append(_around(radius, (middle + part) * pitch))
        outline.append(_around(root, (tooth + 0.5) * pitch))
    paint = Painter(size, pose)
    steel, bottom = (0.60, 0.61, 0.63), (0.0, 0.0, 0.0)
    paint.polygon(outline, steel, 0.8)
    paint.disc((0, 0), 79, steel, 0.62)
    paint.disc((0, 0), 36, steel, 1.0)
    for spoke in range(5):
        if spoke != undrilled:
            center = np.add(_around(57, 2 * np.pi * spoke / 5 + 0.3), hole_shift if spoke == hole else 0.0)
            paint.disc(center, 14, bottom, 0.0)
    paint.disc((0, 0), 20, bottom, 0.0)
    paint.box((0, -21), 10, 10, bottom, 0.0)
    color, relief = paint.finish()

    coverage = color[..., 0] / np.float32(0.60)
    x, y = pose.inverse(size)
    angles, distance = bearing(y, x) + pose.angle, np.sqrt(x * x + y * y)
    # Turning marks are rings, so light glances off in two opposite fans.
    fans = 0.16 * np.cos(2 * (angles - 0.9)) + 0.07 * np.cos(4 * (angles - 0.4))
    marks = rng.normal(0, 0.035, 400).astype(np.float32)
    rings = marks[np.clip(distance * 2.2, 0, 399).astype(np.intp)]
    tarnish = 0.025 * smooth_noise(rng, size, 45)
    brightness = (1 + fans + rings * (distance < 84) + tarnish) * light_relief(relief, 1.6, 0.9)
    metal = tint(np.array(steel, dtype=np.float32), brightness)
    table = vary(rng, (0.20, 0.22, 0.25), 0.03)
    ground = tint(table, 1 + 0.06 * smooth_noise(rng, size, 2.2) + 0.03 * smooth_noise(rng, size, 60))
    ground = ground * cast_shadow(coverage, 5, 2.5, 0.6)[..., None]
    return Rendering(mix(ground, metal, coverage), coverage)


def cable(rng: np.random.Generator, size: int, fault: Fault | None = None) -> Rendering:
    """Cut end of a cable: three insulated wires of copper strands in a sheath with filler."""
    pose = Pose.draw(rng, degrees=3, shift=2)
    insulation: list[Color] = [(0.42, 0.27, 0.18), (0.20, 0.33, 0.60), (0.42, 0.55, 0.22)]
    shade = rng.normal(1, 0.03, 3)
    order, absent, lost, moved, shift = [0, 1, 2], -1, np.zeros((3, 19), dtype=bool), -1, (0.0, 0.0)
    if fault is not None:
        wire = int(fault.rng.integers(3))
        if fault.kind == "missing" and fault.large:
            absent = wire
        elif fault.kind == "missing":
            lost[wire, fault.rng.choice(19, 1 if fault.small else 4, replace=False)] = True
        elif fault.large and fault.contrast > 0.5:
            order[wire], order[(wire + 1) % 3] = order[(wire + 1) % 3], order[wire]
        else:
            moved, shift = wire, fault.offset()

    sheath = (0.30, 0.30, 0.32)
    paint = Painter(size, pose, sheath)
    paint.disc((0, 0), 106, sheath, 0.6)
    paint.disc((0, 0), 92, (0.11, 0.11, 0.12), 0.2)
    wobble = rng.normal(0, 0.5, (3, 2))
    turn = rng.uniform(-0.1, 0.1, 3)
    jitter = rng.normal(0, 0.3, (3, 19, 2))
    copper = rng.normal(1, 0.05, (3, 19))
    for wire in range(3):
        if wire == absent:
            continue
        center = _around(46, 2 * np.pi * wire / 3 - np.pi / 2) + wobble[wire]
        if wire == moved:
            center += shift
        paint.disc(center, 41, np.multiply(insulation[order[wire]], shade[wire]), 0.75)
        paint.disc(center, 28.5, (0.16, 0.10, 0.06), 0.3)
        strand = 0
        for ring, number in ((0.0, 1), (11.3, 6), (22.3, 12)):
            for step in range(number):
                place = center + _around(ring, 2 * np.pi * step / number + turn[wire]) + jitter[wire, strand]
                glint = copper[wire, strand]
                if not lost[wire, strand]:
                    paint.disc(place, 5.6, np.multiply((0.62, 0.37, 0.20), glint), 0.7)
                    paint.disc(place - (0.8, 1.0), 3.4, np.multiply((0.83, 0.55, 0.34), glint), 0.85)
                strand += 1
    color, relief = paint.finish()

    x_grid, y_grid = pose.inverse(size)
    coverage = inside(106 - np.sqrt(x_grid * x_grid + y_grid * y_grid))
    rough = 1 + 0.03 * smooth_noise(rng, size, 1.8) + 0.02 * smooth_noise(rng, size, (3, 30))
    lit = color * (light_relief(relief, 1.1, 0.9) * cast_shadow(relief, 4, 2.0, 0.55) * rough)[..., None]
    bench = vary(rng, (0.66, 0.67, 0.66), 0.015)
    ground = tint(bench, cast_shadow(coverage, 6, 4, 0.45) * (1 + 0.012 * smooth_noise(rng, size, 3)))
    return Rendering(mix(ground, lit, coverage), coverage)


# A glyph is one stroke in a box 0..1 wide and 0..1 high, y downwards.
_GLYPHS: dict[str, list[Point]] = {
    "P": [(0, 1), (0, 0), (0.7, 0), (1, 0.14), (1, 0.38), (0.7, 0.52), (0, 0.52)],
    "Z": [(0, 0), (1, 0), (0, 1), (1, 1)],
    "5": [(0.95, 0), (0.1, 0), (0.05, 0.45), (0.65, 0.42), (1, 0.6), (1, 0.82), (0.7, 1), (0, 0.97)],
    "0": [(0.3, 0), (0.7, 0), (1, 0.25), (1, 0.75), (0.7, 1), (0.3, 1), (0, 0.75), (0, 0.25), (0.3, 0)],
}


def capsule(rng: np.random.Generator, size: int, fault: Fault | None = None) -> Rendering:
    """Two-piece hard capsule, glossy, printed on its pale half."""
    pose = Pose.draw(rng, degrees=6, shift=6, scale=0.015)
    absent, moved, shift, gap = -1, -1, (0.0, 0.0), 0.0
    if fault is not None:
        number = int(fault.rng.integers(4))
        if fault.kind == "missing":
            absent = number
        elif fault.large:
            gap = (3.0 + 18.0 * fault.contrast) * float(fault.rng.choice([-1, 1]))
        else:
            moved, shift = number, fault.offset()

    half, radius, cap_radius = 62.0, 39.0, 40.5
    seam = -4.0 + float(rng.normal(0, 0.6)) + gap
    paint = Painter(size, pose)
    white = (1.0, 1.0, 1.0)
    paint.disc((half, 0), radius, white, 0.5)
    paint.box((half / 2 - 15, 0), half + 30, 2 * radius, white, 0.5)  # the body reaches into the cap
    paint.disc((-half, 0), cap_radius, (0.0, 1.0, 1.0), 1.0)
    paint.box(((seam - half) / 2, 0), half + seam, 2 * cap_radius, (0.0, 1.0, 1.0), 1.0)
    parts, thickness = paint.finish()
    coverage = parts[..., 1]
    cap = smoothstep(thickness, 0.5, 1.0) * coverage

    print_left = 10.0 + float(rng.normal(0, 1.2))
    ink = Painter(size, pose)
    for place, letter in enumerate("PZ50"):
        dx, dy = shift if place == moved else (0.0, 0.0)
        left, top = print_left + 18.0 * place + dx, -10.0 + dy
        stroke = [(left + 12 * x, top + 20 * y) for x, y in _GLYPHS[letter]]
        if place == absent and fault is not None:
            # A small fault loses the end of the stroke, a larger one the whole letter.
            stroke = stroke[: max(0, int(len(stroke) * (1 - 0.6 * fault.extent)))]
        if len(stroke) > 1:
            ink.line(stroke, 2.6, white, 1.0)
    printed = ink.finish()[1]

    x, y = pose.inverse(size)
    beyond = np.maximum(np.abs(x) - half, 0)
    across = np.clip(np.sqrt(y * y + beyond * beyond) / cap_radius, 0, 1)
    tilt = np.clip(y / cap_radius, -1, 1)
    body = vary(rng, (0.90, 0.87, 0.80), 0.01)
    top_color = (0.62 * float(rng.normal(1, 0.03)), 0.16, 0.13)
    image = mix(np.broadcast_to(body, (size, size, 3)), top_color, cap)
    image = mix(image, (0.18, 0.17, 0.20), 0.85 * printed)
    diffuse = np.sqrt(np.clip(1 - across * across, 0, 1)) * 0.62 + 0.42 - 0.12 * tilt
    image = image * (diffuse * light_relief(cap, 0.5, 0.8) * (1 + 0.012 * smooth_noise(rng, size, 8)))[..., None]
    shine_at = -0.48 + float(rng.normal(0, 0.02))
    gloss = np.exp(-(((y / cap_radius - shine_at) / 0.085) ** 2)) * (1 - smoothstep(np.abs(x), half - 8, half + 22))
    image = image + (0.42 * gloss)[..., None]
    ground = vary(rng, (0.33, 0.40, 0.46), 0.02)
    surface = tint(ground, 1 + 0.03 * smooth_noise(rng, size, 1.8) + 0.03 * smooth_noise(rng, size, 70))
    surface = surface * cast_shadow(coverage, 9, 5, 0.55)[..., None]
    return Rendering(mix(surface, image, coverage), coverage)


_SOLDER: Color = (0.74, 0.75, 0.76)
_TRACE: Color = (0.13, 0.42, 0.27)
_BLACK: Color = (0.10, 0.10, 0.11)


@dataclass(frozen=True)
class _Component:
    """One part of the board: its place, size and make."""

    make: Literal["chip", "resistor", "capacitor", "can", "led"]
    x: float
    y: float
    width: float
    height: float


_BOARD = yaml.safe_load(Path(__file__).with_name("board.yaml").read_text(encoding="utf-8"))
_COMPONENTS = [_Component(*values) for values in _BOARD["components"]]
_TRACES: list[list[Point]] = _BOARD["traces"]
_HEADER = [(x, 88.0) for x in range(-40, 50, 12)]


def _draw_component(paint: Painter, part: _Component, offset: Array, angle: float, present: bool, gain: float) -> None:
    """Paint the solder pads of a component where they belong, and the component where it is."""
    x, y = part.x, part.y
    upright = part.height > part.width
    for side in (-1, 1):
        if part.make == "chip":
            for step in np.arange(-part.height / 2 + 5, part.height / 2 - 3, 7.5).tolist():
                paint.box((x + side * (part.width / 2 + 3), y + step), 9, 3.6, _SOLDER, 0.2)
        elif part.make in ("can", "led"):
            paint.disc((x + 4 * side, y), 3, _SOLDER, 0.15)
        else:
            reach = side * max(part.width, part.height) / 2
            paint.box((x, y + reach) if upright else (x + reach, y), 10, 10, _SOLDER, 0.15)
    if not present:
        return
    x, y = x + offset[0], y + offset[1]
    if part.make == "chip":
        paint.box((x, y), part.width, part.height, (0.13 * gain, 0.13 * gain, 0.14 * gain), 0.55, angle)
        paint.disc((x - part.width / 2 + 6, y - part.height / 2 + 6), 2.2, (0.24, 0.24, 0.25), 0.5)
        for row, length in ((-4, 0.55), (3, 0.40)):
            paint.box((x, y + row), part.width * length, 2.0, (0.42, 0.42, 0.42), 0.55, angle)
    elif part.make in ("resistor", "capacitor"):
        body = _BLACK if part.make == "resistor" else (0.66 * gain, 0.50 * gain, 0.34 * gain)
        paint.box((x, y), part.width, part.height, _SOLDER, 0.35, angle)
        sizes = [(max(part.width, part.height) * 0.62, min(part.width, part.height), body)]
        if part.make == "resistor":
            sizes.append((6.5, 2.0, (0.75, 0.75, 0.75)))
        for length, width, color in sizes:
            paint.box((x, y), *((width, length) if upright else (length, width)), color, 0.4, angle)
    elif part.make == "can":
        paint.disc((x, y), part.width / 2, (0.16, 0.17, 0.22), 0.8)
        paint.disc((x, y), part.width / 2 - 2.5, (0.70 * gain, 0.71 * gain, 0.73 * gain), 0.95)
        stripe = [(x + (part.width / 2 - 3) * c, y + (part.width / 2 - 3) * s) for c, s in _ARC]
        paint.polygon(stripe, (0.15, 0.15, 0.19), 0.95)
    else:
        paint.disc((x, y), part.width / 2, (0.78 * gain, 0.20, 0.14), 0.5)
        paint.disc((x - 1.4, y - 1.8), part.width / 6, (0.95, 0.62, 0.52), 0.6)


_ARC = [_around(1, angle) for angle in np.linspace(2.2, 4.1, 12)]


def board(rng: np.random.Generator, size: int, fault: Fault | None = None) -> Rendering:
    """Printed circuit board: chips, resistors, capacitors, diodes, traces and a header."""
    pose = Pose.draw(rng, degrees=0.8, shift=1.5, scale=0.005)
    tolerance = rng.normal(0, 0.35, (len(_COMPONENTS), 2))
    turn, gain = rng.normal(0, 0.012, len(_COMPONENTS)), rng.normal(1, 0.03, len(_COMPONENTS))
    absent, moved, shift, turned = -1, -1, (0.0, 0.0), 0.0
    if fault is not None:
        by_area = np.argsort([part.width * part.height for part in _COMPONENTS], kind="stable")
        third = by_area[:9] if fault.small else by_area[9:] if fault.large else by_area[5:13]
        number = int(fault.rng.choice(third))
        if fault.kind == "missing":
            absent = number
        else:
            moved, shift = number, fault.offset()
            turned = float(fault.rng.normal(0, 0.8 * fault.contrast))

    solder_mask = (0.07, 0.30, 0.19)
    paint = Painter(size, pose, solder_mask)
    paint.box((0, 0), 212, 212, solder_mask, 0.05)
    for trace in _TRACES:
        paint.line(trace, 3.4, _TRACE, 0.1)
        for end in (trace[0], trace[-1]):
            paint.disc(end, 3.2, _TRACE, 0.1)
    for x, y in [(-97, -97), (97, -97), (-97, 97), (97, 97)]:
        paint.disc((x, y), 7, (0.72, 0.66, 0.42), 0.1)
        paint.disc((x, y), 4, (0.05, 0.05, 0.05), 0.0)
    paint.box((2, 88), 100, 14, _BLACK, 0.5)
    for pin in _HEADER:
        paint.box(pin, 5, 5, (0.80, 0.70, 0.38), 0.8)
    for number, part in enumerate(_COMPONENTS):
        if number == moved:
            tolerance[number] += shift
            turn[number] += turned
        _draw_component(paint, part, tolerance[number], turn[number], number != absent, gain[number])
    color, relief = paint.finish()

    x_grid, y_grid = pose.inverse(size)
    region = inside(106 - np.maximum(np.abs(x_grid), np.abs(y_grid)))
    fibre = 1 + 0.05 * smooth_noise(rng, size, 2.0) + 0.025 * smooth_noise(rng, size, 80)
    lit = color * (light_relief(relief, 0.9, 0.7) * cast_shadow(relief, 5, 1.6, 0.75) * fibre)[..., None]
    tray = vary(rng, (0.52, 0.52, 0.54), 0.02)
    ground = tint(tray, cast_shadow(region, 4, 2.5, 0.5) * (1 + 0.012 * smooth_noise(rng, size, 3)))
    return Rendering(mix(ground, lit, region), region)
