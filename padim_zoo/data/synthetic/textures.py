"""Materials without a shape: each fills the image, and its pattern has a random phase.

Every function draws one normal specimen from ``rng`` as float32 (H, W, 3).
"""

from __future__ import annotations

import numpy as np

from padim_zoo.data.synthetic.canvas import (
    Array,
    cellular_noise,
    grid,
    light_relief,
    mix,
    smooth_noise,
    smoothstep,
    tint,
    vary,
)


def fabric(rng: np.random.Generator, size: int) -> Array:
    """Twill of two yarns: threads of uneven thickness and dye, slightly skewed."""
    x, y = grid(size)
    pitch, skew = 9.0 + rng.uniform(-0.15, 0.15), rng.uniform(-0.02, 0.02)
    sway_x, sway_y = smooth_noise(rng, size, 70) * 0.5, smooth_noise(rng, size, 70) * 0.5
    u = (x + skew * y + sway_x + rng.uniform(0, 40)) / pitch + 4
    v = (y - skew * x + sway_y + rng.uniform(0, 40)) / pitch + 4
    column, row = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    across, along = (u - column - 0.5).astype(np.float32), (v - row - 0.5).astype(np.float32)
    # A 2/2 twill: the warp passes over two wefts, then under two, one step further on in each column.
    warp_on_top = (column + row) % 4 < 2
    dye = rng.normal(1, 0.03, (2, 64)).astype(np.float32)
    profile = np.where(warp_on_top, across, along)
    shade = np.sqrt(np.clip(1 - 3.1 * profile * profile, 0.1, 1))
    end = np.where(warp_on_top, along, across)
    shade *= 1 - 0.35 * end * end
    shade *= np.where(warp_on_top, dye[0, column % 64], dye[1, row % 64])
    # Fibres twist along each yarn.
    twist = np.sin(2 * np.pi * (u + v) * 2.5) * 0.05 + smooth_noise(rng, size, 1.6) * 0.045
    shade *= 1 + twist
    warp = np.array((0.36, 0.42, 0.52), dtype=np.float32) + np.float32(rng.normal(0, 0.008))
    weft = np.array((0.66, 0.65, 0.60), dtype=np.float32) + np.float32(rng.normal(0, 0.008))
    brightness = shade * (1 + 0.02 * smooth_noise(rng, size, 60))
    return np.asarray(
        np.where(warp_on_top[..., None], tint(warp, brightness), tint(weft, brightness)), dtype=np.float32
    )


def leather(rng: np.random.Generator, size: int) -> Array:
    """Pebbled grain: cushions of uneven size, with pores and a soft sheen."""
    nearest, second, owner, count = cellular_noise(rng, size, 10.5 * rng.uniform(0.98, 1.02))
    cushion = smoothstep(second - nearest, 0.0, 0.55)
    lift = rng.normal(0, 0.08, count).astype(np.float32)
    relief = cushion * (1 + lift[owner]) + 0.18 * smooth_noise(rng, size, 3.2) + 0.10 * smooth_noise(rng, size, 1.5)
    brightness = light_relief(relief, 0.85, 0.7) * (0.72 + 0.28 * cushion)
    brightness *= 1 + 0.03 * smooth_noise(rng, size, 90)
    hide = (0.47 + rng.normal(0, 0.007), 0.285 + rng.normal(0, 0.005), 0.17 + rng.normal(0, 0.004))
    return np.asarray(tint(np.array(hide, dtype=np.float32), brightness), dtype=np.float32)


def terrazzo(rng: np.random.Generator, size: int) -> Array:
    """Polished cement with angular marble chips of several sizes and colors."""
    palette = np.array(
        [
            [0.82, 0.80, 0.76],
            [0.71, 0.67, 0.62],
            [0.66, 0.58, 0.54],
            [0.60, 0.61, 0.61],
            [0.78, 0.74, 0.66],
            [0.68, 0.71, 0.69],
        ],
        dtype=np.float32,
    )
    cement = np.array((0.74, 0.73, 0.71), dtype=np.float32)
    image = tint(cement, 1 + 0.035 * smooth_noise(rng, size, 2.0) + 0.02 * smooth_noise(rng, size, 40))
    veins = 1 + 0.06 * smooth_noise(rng, size, 5)
    for cell, share in ((5.5, 0.7), (10.0, 0.6)):
        nearest, second, owner, count = cellular_noise(rng, size, cell)
        inset = rng.uniform(0.16, 0.4, count).astype(np.float32)
        inset[rng.random(count) > share] = 9.0
        edge = 0.9 / cell
        chip = smoothstep(second - nearest - inset[owner], 0.0, edge)
        colors = palette[rng.choice(len(palette), count, p=[0.3, 0.2, 0.12, 0.1, 0.16, 0.12])]
        colors = colors * rng.normal(1, 0.04, (count, 1)).astype(np.float32)
        image = mix(image, np.moveaxis(colors.T[:, owner] * veins, 0, -1), chip)
    return np.asarray(image, dtype=np.float32)


def wood(rng: np.random.Generator, size: int) -> Array:
    """Planed oak: annual rings cut lengthwise, fibres and pores along the grain."""
    x, _ = grid(size)
    bend = 6 * smooth_noise(rng, size, (190, 110)) + 2.5 * smooth_noise(rng, size, (110, 32))
    radius = (x + bend + rng.uniform(0, 60)) / (17.0 + 4.0 * np.sin(x / 43 + rng.uniform(0, 6.3)))
    ring = radius - np.floor(radius)
    # Late wood darkens slowly and ends sharply.
    late = smoothstep(ring, 0.25, 0.95) * (1 - smoothstep(ring, 0.95, 1.0))
    fibre = 0.6 * smooth_noise(rng, size, (70, 1.4)) + 0.4 * smooth_noise(rng, size, (30, 3.0))
    pores = smoothstep(smooth_noise(rng, size, (16, 1.3)), 1.5, 2.1) * (1 - 0.6 * late)
    early, dark = vary(rng, (0.76, 0.60, 0.41), 0.01), vary(rng, (0.56, 0.385, 0.225), 0.01)
    image = mix(np.broadcast_to(early, (size, size, 3)), dark, np.clip(0.85 * late, 0, 1))
    image = image * (1 + 0.045 * fibre + 0.025 * smooth_noise(rng, size, 100))[..., None]
    return np.asarray(mix(image, (0.30, 0.19, 0.11), 0.55 * pores), dtype=np.float32)
