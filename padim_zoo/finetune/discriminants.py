"""Directions of a backbone's features that tell pasted pieces from the variation of normal images.

PaDiM measures how far a patch is from the normal ones in units of how these vary at that position. So a direction of
feature space is worth the more, the more a defect changes it and the less normal images differ in it: the generalized
eigenvectors of two second moments, as in linear discriminant analysis (Fisher 1936). Both can be had from normal
images: the variation as it is, the defects by CutPaste. There is nothing to train; it takes a few forward passes.

Every change counts alike, whatever its Mahalanobis length: strong ones are found anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.discriminants import named, refuse_projections
from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.detectors.config import LARGEST_SEED, check_share, check_whole_number
from padim_zoo.finetune.adaptation import Adaptation, hold_out
from padim_zoo.finetune.cutpaste import ALTERED_SHARE, visibly_pasted

RIDGE = 0.01
"""Added to the variation in every direction, in units of its mean over all directions."""


@dataclass
class DiscriminantRecipe:
    """How the directions are found.

    Attributes
    ----------
    components : int
        How many are kept of each layer, at most; the best come first.
    pieces : int
        How many times each image gets a piece pasted.
    held_out : float
        Share of the images that nothing is learned from.
    seed : int
        Of the pieces, and of the images held out.
    """

    components: int = 48
    pieces: int = 4
    held_out: float = 0.2
    seed: int = 0

    def check(self) -> None:
        """Refuse what nothing can be made of.

        Raises
        ------
        InputError
            Naming the setting, what was found and what was expected.
        """
        check_whole_number("components", self.components, 1)
        check_whole_number("pieces", self.pieces, 1)
        check_whole_number("seed", self.seed, 0, LARGEST_SEED)
        check_share("held_out", self.held_out)

    def settings(self) -> dict[str, object]:
        """What decides the result, in JSON's types."""
        return dict(vars(self))


def fit_discriminants(backbone: Backbone, images: Tensor, recipe: DiscriminantRecipe) -> Adaptation:
    """Weights that project each layer of a backbone to its discriminants.

    Parameters
    ----------
    backbone : Backbone
        Any; it is left as it is.
    images : Tensor (n, 3, H, W), uint8
    recipe : DiscriminantRecipe

    Returns
    -------
    Adaptation
        Its state is that of the backbone and the projections; normal images vary by one in every direction of these.

    Raises
    ------
    InputError
        If the settings make no sense, there are too few images, they do not differ, no piece can be seen in them, or
        the backbone's maps are projected already.
    """
    recipe.check()
    state = backbone.state_in_use()
    refuse_projections(state, backbone.name)
    used, held_out = hold_out(len(images), recipe.held_out, recipe.seed)
    variations = [_Variation(layer) for layer in backbone.layers]
    for index in told(used, "measuring normal images", len(used)):
        for variation, normal in zip(variations, backbone(_pixels(backbone, images[int(index)][None])), strict=True):
            variation.add(normal[0].cpu().double())
    changes = [_Changes(variation) for variation in variations]
    for index in told(used, "pasting pieces", len(used)):
        image, rng = images[int(index)], np.random.default_rng((recipe.seed, int(index)))
        pasted, masks = zip(*(visibly_pasted(image, rng) for _ in range(recipe.pieces)), strict=True)
        visible = torch.stack(masks)[:, None].float()
        for change, maps in zip(changes, backbone(_pixels(backbone, torch.stack([image, *pasted]))), strict=True):
            change.add(maps.cpu().double(), visible)
    shares = {}
    for name, change in zip(backbone.layers, changes, strict=True):
        weight, bias, shares_of_changes = change.discriminants(recipe.components)
        state |= named(name, weight, bias)
        shares[name] = [round(share, 4) for share in shares_of_changes]
    report = {"method": "discriminants", "settings": recipe.settings(), "shares": shares}
    return Adaptation(state, used, held_out, report)


def _pixels(backbone: Backbone, images: Tensor) -> Tensor:
    return images.to(backbone.device).float().div_(255)


class _Variation:
    """How normal images differ from one another in a layer, in float64.

    About the mean of each position, that is: what differs between positions is no variation to PaDiM.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.total = self.square = torch.zeros((), dtype=torch.float64)

    def add(self, normal: Tensor) -> None:
        """Count in the map (C, H, W) of an image."""
        vectors = normal.flatten(1)
        self.count += 1
        self.total = self.total + vectors
        self.square = self.square + vectors @ vectors.T

    @property
    def mean(self) -> Tensor:
        """Mean over images and positions (C,)."""
        return self.total.mean(1) / self.count

    def factor(self) -> Tensor:
        """Lower L (C, C) with LLᵀ the covariance, pooled over the positions, and :data:`RIDGE` more."""
        means = self.total / self.count
        channels, positions = means.shape
        covariance = (self.square - self.count * (means @ means.T)) / (positions * (self.count - 1))
        scale = float(covariance.diagonal().mean())
        if not scale > 1e-12 * float(self.square.diagonal().mean()) / (positions * self.count):
            raise InputError(f"the normal images do not differ in the layer {self.name}: expected images that vary")
        factor: Tensor = torch.linalg.cholesky(covariance + RIDGE * scale * torch.eye(channels, dtype=torch.float64))
        return factor


class _Changes:
    """What pasted pieces change in a layer, in units of the variation."""

    def __init__(self, variation: _Variation) -> None:
        self.name, self.mean, self.factor = variation.name, variation.mean, variation.factor()
        self.count = 0
        self.square = torch.zeros_like(self.factor)

    def add(self, maps: Tensor, visible: Tensor) -> None:
        """Count in pieces.

        Parameters
        ----------
        maps : Tensor (1 + k, C, H, W)
            Of an image, and of the same with pieces.
        visible : Tensor (k, 1, h, w)
            1 where a piece visibly changed a pixel, else 0.
        """
        # How much of each position of the grid a piece visibly changed.
        altered = adaptive_avg_pool2d(visible, (maps.shape[2], maps.shape[3]))[:, 0] > ALTERED_SHARE
        changes = (maps[1:] - maps[:1]).permute(0, 2, 3, 1)[altered]
        whitened = normalize(torch.linalg.solve_triangular(self.factor, changes.T, upper=False), dim=0)
        self.count += len(changes)
        self.square += whitened @ whitened.T

    def discriminants(self, components: int) -> tuple[Tensor, Tensor, list[float]]:
        """Weight (k, C, 1, 1), bias (k,), and each direction's share of the changes, the largest first."""
        if not self.count:
            raise InputError(f"no pasted piece can be seen in layer {self.name}: the images are too uniform")
        values, vectors = torch.linalg.eigh(self.square / self.count)
        values, vectors = values[-components:].flip(0), vectors[:, -components:].flip(1)
        directions = torch.linalg.solve_triangular(self.factor.T, vectors, upper=True).T
        # The sign of an eigenvector is arbitrary: the largest entry is made positive.
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        directions = directions * largest.sign()
        bias = -(directions @ self.mean)
        return directions.float()[:, :, None, None].contiguous(), bias.float(), values.tolist()
