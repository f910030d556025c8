"""Contours of parts, by which poses are settled: they lie alike from whichever side the light comes.

A camera and its lamps stay where they are when a part turns. So its bright side, its dark side and its shadow go round
on it, and gray values pull its pose towards the light. Parts that are shifted alone need none of this. A contour is the
slope of an image in even light: each pixel less the mean around it, by the spread around it. Slopes have no sign, so a
bright edge is a dark one.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from padim_zoo.core.parallel import map_blocks
from padim_zoo.detectors.mean_image import FIRST_STEPS, LAST_STEPS, MeanImage, reduced, sampled
from padim_zoo.detectors.mean_pose import ROUNDS, moved_mean

FINE = 128
"""Pixels of the longer side of an image whose contours are taken, at most."""

AROUND = 4.0
"""Standard deviation, in these pixels, of the weights by which the mean and the spread around a pixel are taken."""

LEAST_CONTRAST = 0.25
"""What is added to the spread around a pixel, as a share of that of the image: flat grounds are not all noise."""

LEARNED_FROM = 256
"""Images that their mean is learned from."""

RESTARTS, RESTARTED_ON = 8, 48
"""Images that the mean starts from, and that it is then found on: the best of these means is taken."""


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

    Coarse and fine contours together say which pose it is: gleams, which stay with the light, are fine. Fine ones say
    where exactly.

    Parameters
    ----------
    mean : MeanImage
        Of contours.
    images : Tensor (n, h, w)
        In gray, in the pixels that contours are taken of.
    candidates : Tensor (n, k, 3)
        Poses, in pixels of reduced images, as are those that are found.
    tried : Tensor (n, k), bool
        Those that are compared, one of each image at least.
    """
    coarse = replace(mean, image=reduced(mean.image[None, None])[0])
    times = _times(coarse.size, mean.size)

    def block(rows: slice) -> tuple[Tensor, Tensor]:
        lines = contours(images[rows].float())
        several = tried[rows].sum(1, keepdim=True) > 1
        refined, fits = _compared(coarse, reduced(lines[:, None]), candidates[rows], tried[rows] & several)
        refined, finer_fits = _compared(mean, lines, refined * times, tried[rows] & several)
        which = (fits + finer_fits).where(several, tried[rows].float()).argmax(1)
        poses, best = mean.refine(lines, refined[torch.arange(len(lines)), which], LAST_STEPS)
        return poses / times, best

    found, fits = map_blocks(block, len(images), 64 * images[0].numel())
    return found, fits


def _compared(mean: MeanImage, lines: Tensor, candidates: Tensor, tried: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates (n, k, 3) that are refined a little where they are tried, and their correlations (n, k), -1 of others.

    Contours (n, h, w) and poses are in the pixels of their mean.
    """
    refined, fits = candidates.clone(), torch.full(tried.shape, -1.0)
    images = tried.nonzero()[:, 0]
    if len(images):
        refined[tried], fits[tried] = mean.refine(lines[images], candidates[tried], FIRST_STEPS)
    return refined, fits


def _times(size: tuple[int, int], finer: tuple[int, int]) -> Tensor:
    """What poses in pixels of images of a size are multiplied by for those of finer ones, (3,)."""
    return torch.tensor([1, finer[1] / size[1], finer[0] / size[0]])


def mean_contours(images: Tensor, poses: Tensor, candidates: Tensor, tried: Tensor, like: MeanImage) -> MeanImage:
    """The mean of the contours of reduced images, in poses that are settled by it, by turns.

    A part that looks nearly the same upside down may lie both ways in a mean, which then tells neither from the other.
    So it starts from several single images, on coarse contours, and the mean that all fit best is taken.

    Parameters
    ----------
    images, candidates, tried
        As of :func:`settled`.
    poses : Tensor (n, 3)
        The best by gray values.
    like : MeanImage
        What motions it is compared by.
    """
    rows = _evenly(len(images), LEARNED_FROM)
    images, poses, candidates, tried = (each[rows] for each in (images, poses, candidates, tried))
    lines = torch.cat([contours(images[at : at + 32].float()) for at in range(0, len(images), 32)])
    times = _times(like.size, (int(lines.shape[1]), int(lines.shape[2])))
    few = _evenly(len(images), RESTARTED_ON)
    first = _settled_jointly(reduced(lines[few][:, None]), poses[few], candidates[few], tried[few], like)
    mean = replace(like, image=moved_mean(lines[few], first * times))
    for _ in range(ROUNDS):
        poses, _ = settled(mean, images, candidates, tried)
        mean = replace(mean, image=moved_mean(lines, poses * times))
    return mean


def _settled_jointly(lines: Tensor, poses: Tensor, candidates: Tensor, tried: Tensor, like: MeanImage) -> Tensor:
    """Poses (n, 3) by which coarse contours fit their mean best, of those that start from each of some images."""
    starts = _evenly(len(lines), RESTARTS if (tried.sum(1) > 1).any() else 1).tolist()
    best, most, every = poses, -math.inf, torch.arange(len(lines))
    for start in starts:
        image, before = sampled(lines[start : start + 1], poses[start : start + 1])[0], None
        for _ in range(ROUNDS):
            mean = replace(like, image=image)
            refined, fits = _compared(mean, lines, candidates, tried)
            which = fits.argmax(1)
            found, fit = mean.refine(lines, refined[every, which], LAST_STEPS)
            image = moved_mean(lines, found)
            if before is not None and torch.equal(which, before):
                break
            before = which
        if float(fit.mean()) > most:
            best, most = found, float(fit.mean())
    return best


def _evenly(count: int, most: int) -> Tensor:
    """Indices of so many at most, evenly drawn."""
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)))
