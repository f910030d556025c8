"""Pretext tasks: what a network is asked about pasted pieces, so that its features come to tell them apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from padim_zoo.finetune.cutpaste import ALTERED_SHARE, cutpaste, cutpaste_scar, share_altered, visibly_pasted


class Pretext(nn.Module, ABC):
    """A task with a head on the feature maps, trained along with the network and thrown away.

    Attributes
    ----------
    chance : float
        What :meth:`judge` gives as accuracy to a network that has learned nothing.
    """

    name: ClassVar[str]
    chance: ClassVar[float]

    @abstractmethod
    def examples(self, image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Examples made of a normal image.

        Parameters
        ----------
        image : Tensor (3, H, W), uint8
        rng : Generator

        Returns
        -------
        images : Tensor (E, 3, H, W), uint8
            As many of every image.
        truth : Tensor (E, …)
        """

    @abstractmethod
    def judge(self, maps: Sequence[Tensor], truth: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, and accuracy in [0, 1], of the network on a batch of examples.

        Parameters
        ----------
        maps : sequence of Tensor (N, C_l, H_l, W_l), float32
        truth : Tensor (N, …)
        """


class WhichImage(Pretext):
    """Is the image normal, has it a pasted rectangle, or a pasted scar?

    The 3-way task of Li et al. 2021 (arXiv 2104.04015, section 2.3), on the averages of the maps instead of the last
    layer's, since these maps are what a detector sees.
    """

    name = "3-way"
    chance = 1 / 3

    def __init__(self, channels: Sequence[int], hidden: int = 256) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(sum(channels), hidden), nn.ReLU(), nn.Linear(hidden, 3))

    def examples(self, image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The image itself, one with a rectangle, one with a scar."""
        return torch.stack([image, cutpaste(image, rng).image, cutpaste_scar(image, rng).image]), torch.arange(3)

    def judge(self, maps: Sequence[Tensor], truth: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy, and the share of the examples that are told right."""
        answers = self.head(torch.cat([_normalized(layer).mean((2, 3)) for layer in maps], 1))
        return cross_entropy(answers, truth), (answers.argmax(1) == truth).float().mean()


class WhichPatch(Pretext):
    """Which positions of the feature maps lie in a pasted piece?

    Asked at every position of every layer through a linear function of its features, since it is from the features of
    single positions that patch-based detectors tell defects. Half of the pieces are rectangles, half scars.
    """

    name = "patches"
    chance = 0.5

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Conv2d(count, 1, 1) for count in channels])

    def examples(self, image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The image with a piece, and the mask (1, 1, H, W) of what it visibly changed."""
        pasted = visibly_pasted(image, rng)
        return pasted.image[None], pasted.mask[None, None]

    def judge(self, maps: Sequence[Tensor], truth: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy and accuracy, altered and normal positions weighing alike, means over the layers."""
        losses, accuracies = [], []
        for head, layer in zip(self.heads, maps, strict=True):
            changed = share_altered(truth, layer)
            altered, normal = changed > ALTERED_SHARE, changed == 0
            answers = head(_normalized(layer))[:, 0]
            loss = binary_cross_entropy_with_logits(answers, altered.float(), reduction="none")
            right = ((answers > 0) == altered).float()
            for kind in (altered, normal):
                if kind.any():  # small pieces may cover no position of a coarse layer
                    losses.append(loss[kind].mean())
                    accuracies.append(right[kind].mean())
        return torch.stack(losses).mean(), torch.stack(accuracies).mean()


def _normalized(layer: Tensor) -> Tensor:
    """A layer of unit mean square, so that one learning rate suits the heads of all layers and networks."""
    return layer / layer.detach().square().mean().sqrt().clamp_min(1e-12)


PRETEXTS: dict[str, type[WhichImage] | type[WhichPatch]] = {task.name: task for task in (WhichPatch, WhichImage)}
"""Pretext tasks by name; the first is the default."""
