"""CutPaste: a piece of an image, pasted elsewhere into it (Li et al. 2021, arXiv 2104.04015, sections 2.2 and 2.3).

The pretext task of the paper: is an image normal, has it a pasted rectangle, or a pasted scar?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

AREAS = (0.02, 0.15)
"""Least and greatest share of the image that a pasted rectangle covers."""
LARGEST_ASPECT = 3.3
"""Width to height of a rectangle, or height to width, at most; the paper's intervals are (0.3, 1) and (1, 3.3)."""
SCAR_WIDTHS, SCAR_LENGTHS = (2, 16), (10, 25)
"""Least and greatest sides of a scar, in pixels of an image whose shorter side has :data:`SCAR_IMAGE`."""
SCAR_IMAGE = 256
SCAR_ANGLE = 45.0
"""Degrees that a scar is turned by at most, either way."""
JITTER = 0.1
"""Greatest change of brightness, contrast, saturation and hue of a pasted piece."""

VISIBLE = 12
"""Gray levels, of 255, that some color of a pixel must change by to be seen."""

ALTERED_SHARE = 0.25
"""A position of a layer is altered if more than this share of its pixels is, and normal if none is."""


class Pasted(NamedTuple):
    """An image with a piece pasted into it.

    Attributes
    ----------
    image : Tensor (3, H, W), uint8
    mask : Tensor (H, W), bool
        Where the piece lies, or what it visibly changed.
    """

    image: Tensor
    mask: Tensor


def cutpaste(image: Tensor, rng: np.random.Generator) -> Pasted:
    """Cut out a rectangle of random size and shape, change its colors a little, paste it at a random place.

    Parameters
    ----------
    image : Tensor (3, H, W), uint8
        It is left as it is.
    rng : Generator
        Every draw comes from it.
    """
    rows, columns = image.shape[1:]
    area = rng.uniform(*AREAS) * rows * columns
    aspect = rng.uniform(1, LARGEST_ASPECT)
    aspect = aspect if rng.random() < 0.5 else 1 / aspect
    width, height = _side(math.sqrt(area * aspect), columns), _side(math.sqrt(area / aspect), rows)
    piece = _jittered(_cut(image, height, width, rng), rng)
    return _paste(image, piece, torch.ones(height, width, dtype=torch.bool), rng)


def cutpaste_scar(image: Tensor, rng: np.random.Generator) -> Pasted:
    """As :func:`cutpaste`, with a small thin rectangle that is turned."""
    rows, columns = image.shape[1:]
    scale = min(rows, columns) / SCAR_IMAGE
    width, height = _side(rng.uniform(*SCAR_WIDTHS) * scale, columns), _side(rng.uniform(*SCAR_LENGTHS) * scale, rows)
    piece = _jittered(_cut(image, height, width, rng), rng)
    angle = rng.uniform(-SCAR_ANGLE, SCAR_ANGLE)
    # With an opaque fourth channel turned along, what the turn adds at the corners stays out of the image.
    opaque = torch.full((1, height, width), 255, dtype=torch.uint8)
    turned = transforms.rotate(torch.cat([piece, opaque]), angle, InterpolationMode.NEAREST, expand=True)
    turned = turned[:, : min(rows, turned.shape[1]), : min(columns, turned.shape[2])]
    return _paste(image, turned[:3], turned[3] > 0, rng)


def visibly_pasted(image: Tensor, rng: np.random.Generator) -> Pasted:
    """A rectangle or a scar, half of the time each; the mask is of what it visibly changed.

    A dark background pasted upon itself cannot be seen, and is no defect.
    """
    pasted = (cutpaste_scar if rng.random() < 0.5 else cutpaste)(image, rng).image
    return Pasted(pasted, (pasted.short() - image.short()).abs().amax(0) > VISIBLE)


def _side(length: float, most: int) -> int:
    return int(min(max(1, round(length)), most))


def _cut(image: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    top, left = _place(image, height, width, rng)
    return image[:, top : top + height, left : left + width]


def _paste(image: Tensor, piece: Tensor, opaque: Tensor, rng: np.random.Generator) -> Pasted:
    height, width = opaque.shape
    top, left = _place(image, height, width, rng)
    pasted, mask = image.clone(), torch.zeros(image.shape[1:], dtype=torch.bool)
    window = pasted[:, top : top + height, left : left + width]
    window[:, opaque] = piece[:, opaque]
    mask[top : top + height, left : left + width] = opaque
    return Pasted(pasted, mask)


def _place(image: Tensor, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
    rows, columns = image.shape[1:]
    return int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))


def _jittered(piece: Tensor, rng: np.random.Generator) -> Tensor:
    brightness, contrast, saturation = rng.uniform(1 - JITTER, 1 + JITTER, 3)
    hue = rng.uniform(-JITTER, JITTER)
    piece = transforms.adjust_contrast(transforms.adjust_brightness(piece, brightness), contrast)
    colored: Tensor = transforms.adjust_hue(transforms.adjust_saturation(piece, saturation), hue)
    return colored


CHANCE = 1 / 3
"""Accuracy of a network that has learned nothing."""


class ThreeWay(nn.Module):
    """The 3-way task of Li et al. 2021 (arXiv 2104.04015, section 2.3), with a head that is thrown away.

    The head takes the averages of the maps instead of the last layer's, since these maps are what a detector sees.

    Parameters
    ----------
    channels : sequence of int
        Of each layer.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(sum(channels), 256), nn.ReLU(), nn.Linear(256, 3))

    def examples(self, image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Three images (3, 3, H, W) made of a normal one (3, H, W), uint8, and their classes."""
        return torch.stack([image, cutpaste(image, rng).image, cutpaste_scar(image, rng).image]), torch.arange(3)

    def loss_and_accuracy(self, maps: Sequence[Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy, and the share that is told right, of maps (N, C_l, H_l, W_l), float32, and classes (N,)."""
        answers = self.head(torch.cat([_unit_mean_square(layer).mean((2, 3)) for layer in maps], 1))
        return cross_entropy(answers, classes), (answers.argmax(1) == classes).float().mean()


def _unit_mean_square(layer: Tensor) -> Tensor:
    """One learning rate then suits the heads of all layers and networks."""
    return layer / layer.detach().square().mean().sqrt().clamp_min(1e-12)
