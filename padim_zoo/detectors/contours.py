"""Contours of parts, by which poses are settled: they lie alike from whichever side the light comes.

A camera and its lamps stay where they are when a part turns. So its bright side, its dark side and its shadow go round
on it, and gray values pull its pose towards the light. Parts that are shifted alone need none of this. A contour is the
slope of an image in even light: each pixel less the mean around it, by the spread around it. Slopes have no sign, so a
bright edge is a dark one.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from padim_zoo.core.parallel import map_blocks
from padim_zoo.detectors.mean_image import FIRST_STEPS, LAST_STEPS, MeanImage, reduced, sampled
from padim_zoo.detectors.mean_pose import REFERENCES, ROUNDS, moved_mean

FINE = 128
"""Pixels of the longer side of an image whose contours are taken, at most."""

AROUND = 4.0
"""Standard deviation, in these pixels, of the weights by which the mean and the spread around a pixel are taken."""

LEAST_CONTRAST = 0.25
"""What is added to the spread around a pixel, as a share of that of the image: flat grounds are not all noise."""

LEARNED_FROM = 256
"""Images that their mean is learned from."""


def in_fine_gray(pixels: Tensor) -> Tensor:
    """Images (n, C, H, W) as their contours are taken of them: in gray, (n, h, w), and no finer than they are."""
    return reduced(pixels, min(FINE, max(pixels.shape[2:])))


def contours(images: Tensor) -> Tensor:
    """The contours of reduced images in gray, (n, h, w) both."""
    rest = images - _around(images)
    spread = _around(rest.square()).clamp_min(0).sqrt()
    floor = LEAST_CONTRAST * images.flatten(1).std(1, correction=0)[:, None, None]
    down, across = torch.gradient(rest / (spread + floor).clamp_min(1e-6), dim=(1, 2))
    return (down.square() + across.square()).sqrt()


def _around(images: Tensor) -> Tensor:
    """The mean around each pixel, by the weights of a Gaussian; the edge goes on beyond itself."""
    reach = int(3 * AROUND)
    weights = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * AROUND**2))
    weights = weights / weights.sum()
    padded = pad(images[:, None], (reach,) * 4, mode="replicate")
    return conv2d(conv2d(padded, weights[None, None, None]), weights[None, None, :, None])[:, 0]


def settled(mean: MeanImage, images: Tensor, candidates: Tensor, tried: Tensor) -> tuple[Tensor, Tensor]:
    """Of some poses of each image the one by which its contours fit best, and the correlation.

    Parameters
    ----------
    mean : MeanImage
        Of contours.
    images : Tensor (n, h, w)
        Reduced, in gray.
    candidates : Tensor (n, k, 3)
        Poses, in pixels of these images.
    tried : Tensor (n, k), bool
        Those that are compared, one of each image at least.
    """

    def block(rows: slice) -> tuple[Tensor, Tensor]:
        lines = contours(images[rows].float())
        compared = tried[rows] & (tried[rows].sum(1, keepdim=True) > 1)
        refined, correlations = candidates[rows].clone(), tried[rows].float() - 2  # those not tried come last
        where = compared.nonzero()[:, 0]
        if len(where):
            refined[compared], correlations[compared] = mean.refine(lines[where], refined[compared], FIRST_STEPS)
        return mean.refine(lines, refined[torch.arange(len(lines)), correlations.argmax(1)], LAST_STEPS)

    found, fits = map_blocks(block, len(images), 64 * images[0].numel())
    return found, fits


def mean_contours(images: Tensor, poses: Tensor, candidates: Tensor, tried: Tensor, like: MeanImage) -> MeanImage:
    """The mean of the contours of reduced images, in poses that are settled by it, by turns.

    It starts from a single image. The mean of a part that looks nearly the same upside down may hold it both ways, and
    then tells neither from the other.

    Parameters
    ----------
    images, candidates, tried
        As of :func:`settled`.
    poses : Tensor (n, 3)
        The best by gray values.
    like : MeanImage
        What motions it is compared by.
    """
    rows = torch.from_numpy(np.unique(np.linspace(0, len(images) - 1, min(LEARNED_FROM, len(images))).astype(int)))
    images, poses, candidates, tried = (each[rows] for each in (images, poses, candidates, tried))
    lines = torch.cat([contours(images[at : at + 32].float()) for at in range(0, len(images), 32)])
    made = partial(MeanImage, steps=like.steps, disc=like.disc)
    some = np.unique(np.linspace(0, len(images) - 1, min(REFERENCES, len(images))).astype(int)).tolist()
    more = slice(None, None, max(1, len(images) // (4 * REFERENCES)))
    means = [made(sampled(lines[one : one + 1], poses[one : one + 1])[0]) for one in some]
    mean = max(means, key=lambda each: float(settled(each, images[more], candidates[more], tried[more])[1].mean()))
    for _ in range(ROUNDS):
        poses, _ = settled(mean, images, candidates, tried)
        mean = made(moved_mean(lines, poses))
    return mean
