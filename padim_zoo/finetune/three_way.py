"""The pretext task of CutPaste: is an image normal, has it a pasted rectangle, or a pasted scar?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from padim_zoo.finetune.cutpaste import cutpaste, cutpaste_scar

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
