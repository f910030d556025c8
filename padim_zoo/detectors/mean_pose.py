"""The mean image of a part and the poses of normal images against it, by turns: generalized Procrustes analysis."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from padim_zoo.detectors.mean_image import MeanImage, inside, sampled
from padim_zoo.features.poses import inverse, multiply

ROUNDS = 4
"""How often the mean image and the poses are found by turns."""

REFERENCES = 5
"""Images that are tried as the first mean image."""


def mean_pose(images: Tensor, turns: bool, disc: bool) -> tuple[MeanImage, Tensor, Tensor]:
    """The mean image of reduced images (n, h, w), their poses (n, 3) and their correlations (n,)."""
    n = len(images)
    tried = np.unique(np.linspace(0, n - 1, min(REFERENCES, n)).astype(int))
    sample = images[np.unique(np.linspace(0, n - 1, min(4 * REFERENCES, n)).astype(int))]
    references = [MeanImage.of(images[index], turns, disc) for index in tried]
    mean = max(references, key=lambda each: float(each.best(sample)[1].mean()))
    for _ in range(ROUNDS):
        poses, _ = mean.best(images)
        poses = multiply(poses, inverse(_center(poses)).expand_as(poses))
        mean = MeanImage.of(moved_mean(images, poses), turns, disc)
    return mean, *mean.best(images)


def moved_mean(images: Tensor, poses: Tensor) -> Tensor:
    """The mean (h, w) of images (n, h, w) in the mean pose; each place of those that show it."""
    weights = inside((int(images.shape[1]), int(images.shape[2])), poses).view_as(images)
    total = (weights * sampled(images, poses)).sum(0) / weights.sum(0).clamp_min(1)
    return torch.where(weights.sum(0) > 0, total, images.mean())


def _center(poses: Tensor) -> Tensor:
    """The pose (1, 3) that poses (n, 3) have in the mean: a turn and a shift of the mean image."""
    angle = torch.atan2(poses[:, 0].sin().mean(), poses[:, 0].cos().mean())
    strength = (poses[:, 0].sin().mean() ** 2 + poses[:, 0].cos().mean() ** 2).sqrt()
    angle = angle if strength > 0.5 else torch.zeros(())
    cos, sin = (poses[:, 0] - angle).cos(), (poses[:, 0] - angle).sin()
    x = (cos * poses[:, 1] + sin * poses[:, 2]).mean()
    y = (cos * poses[:, 2] - sin * poses[:, 1]).mean()
    return torch.stack([angle, x, y])[None]


def left_out_correlations(mean: MeanImage, images: Tensor, poses: Tensor) -> Tensor:
    """Correlations (n,) of images (n, h, w) in their poses with the mean of the others: noise is like itself alone."""
    moved = sampled(images, poses)
    others = (moved.sum(0) - moved) / max(len(moved) - 1, 1)
    window = mean.window
    first, second = (each - (window * each).sum((1, 2), keepdim=True) / window.sum() for each in (moved, others))
    products = (window * first * second).sum((1, 2))
    norms = (window * first.square()).sum((1, 2)) * (window * second.square()).sum((1, 2))
    return products / norms.clamp_min(1e-12).sqrt()
