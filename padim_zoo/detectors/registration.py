"""What normal images say of the poses of a part, and which part of the pose of an image is undone.

The pose of an image is found against the mean image, see :mod:`padim_zoo.detectors.mean_image`, and settled by the
:mod:`padim_zoo.detectors.contours` of the part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from padim_zoo.detectors.contours import mean_contours, settled
from padim_zoo.detectors.mean_image import LEAST_GAIN, STEPS, MeanImage, reduced
from padim_zoo.detectors.mean_pose import left_out_correlations, mean_pose
from padim_zoo.detectors.normal_poses import NormalPoses, distances_between
from padim_zoo.features.poses import Poses, wrapped

SCRAMBLED = 50
"""Images without shapes that say what chance does."""

ENOUGH_SHOWN, TRUST_POWER = 0.5, 0.25
"""The share of normal images that have to show a place, and how the trust in it falls where fewer do."""

LARGEST_FRAME = 4 / 3
"""Pixels that are looked at in the mean pose, as a share of those of an image."""

ENOUGH_IMAGES, WIDE_TURN = 60, math.pi / 4
"""Normal images from which on parts in any pose are well known; and the turn beyond which that matters."""

KINDS = ("rigid", "translation")
"""Motions that can be undone."""


@dataclass(frozen=True)
class Registration:
    """What the normal images of a fit say of poses; all in pixels of the images.

    Attributes
    ----------
    mean : MeanImage
    contours : MeanImage or None
        The mean of their contours, in finer pixels; None where parts are shifted alone.
    normal : Tensor (n, 3)
        Poses of the normal images.
    scale : Tensor (2,)
        Pixels of the images to one of a reduced image, in a row and in a column.
    chance : float
        The correlation that images without shapes have; one that has no more stays as it is.
    margin : int
        Pixels at each side of the mean pose that are looked at too, for what turned parts show there.
    finer : int
        Pixels along a side that images to be moved have for each one of theirs.
    """

    mean: MeanImage
    contours: MeanImage | None
    normal: Tensor
    scale: Tensor
    chance: float
    margin: int = 0
    finer: int = 1

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        return KINDS[0] if self.mean.turns else KINDS[1]

    def describe(self) -> str:
        """The motion that is undone, in words."""
        angle, x, y = (float(each) for each in self.normal.abs().amax(0))
        turned = f"turned by up to {math.degrees(angle):.1f}° and " if self.mean.turns else ""
        return f"{self.kind}: normal parts are {turned}shifted by up to {x:.1f} and {y:.1f} pixels"

    def note_on_images(self) -> str:
        """That the normal images are few for how far their parts are turned; empty where they are not."""
        n, turn = len(self.normal), float(self.normal[:, 0].abs().amax())
        if not self.mean.turns or n >= ENOUGH_IMAGES or turn <= WIDE_TURN:
            return ""
        return (
            f"{n} images are few for parts that are turned by up to {math.degrees(turn):.0f}°: use {ENOUGH_IMAGES} or "
            "more, with which defects are found better"
        )

    @cached_property
    def _gaps(self) -> tuple[Tensor, Tensor]:
        """How far the angle and the shift of each normal pose are from the nearest of the others, ascending."""
        angles, shifts = _differences(self.normal, self.normal)
        own = torch.eye(len(self.normal), dtype=torch.bool)
        nearest = (each.masked_fill(own, math.inf).amin(1).sort().values for each in (angles, shifts))
        first, second = (gaps if len(self.normal) > 1 else torch.zeros(1) for gaps in nearest)
        return first, second

    @cached_property
    def normal_poses(self) -> NormalPoses:
        """What poses are compared with where no calibration is: each normal one was compared with all others."""
        poses, images = self.normal.numpy(), np.arange(len(self.normal))
        return NormalPoses(poses, distances_between(poses, [(images[i : i + 1], np.delete(images, i)) for i in images]))

    def trust(self, grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
        """What distances at the patches of the mean pose are multiplied by, (h, w), up to 1.

        Where few normal images show a place, the others were mirrored there, and what is normal looks odd.
        Of places that none shows nothing is known: they get 0.
        """
        if grid not in self._trust:
            shown = self.of(self.normal).seen(grid, image_size).float().mean(0)
            self._trust[grid] = (shown / ENOUGH_SHOWN).clamp_max(1) ** TRUST_POWER
        return self._trust[grid]

    @cached_property
    def _trust(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def estimate(self, pixels: Tensor) -> Tensor:
        """The poses (n, 3) of images (n, 3, H, W), float32; zero where nothing fits better than chance."""
        if self.contours is None:
            poses, correlations = self.mean.best(reduced(pixels))
        else:
            images = reduced(pixels, max(self.contours.size))
            _, correlations, candidates, near = self.mean.candidates(reduced(images[:, None]))
            poses = settled(self.contours, images, candidates, near)[0]
        poses = poses * torch.cat([torch.ones(1), self.scale])
        return torch.where((correlations > self.chance)[:, None], poses, 0)

    def poses(self, pixels: Tensor) -> Poses:
        """The poses that are undone, of images (n, 3, H, W)."""
        return self.of(self.estimate(pixels))

    def of(self, found: Tensor) -> Poses:
        """What is undone of poses (n, 3) that were found."""
        return Poses(self.undone(found), self, found, self.margin)

    def near_normal_poses(self) -> Registration:
        """The same, but the mean image is tried at angles near the normal ones alone, and at normal shifts first."""
        step = 2 * math.pi / STEPS
        away = wrapped(self.mean.steps[:, None] * step - self.normal[None, :, 0]).abs().amin(1)
        near = away <= float(self._gaps[0][-1]) + step
        shifts = (self.normal[:, 1:].abs().amax(0) + self._gaps[1][-1]) / self.scale
        mean = replace(self.mean, steps=self.mean.steps[near], reach=float(shifts.max()) + 2)  # a coarse pixel
        return replace(self, mean=mean)

    def undone(self, poses: Tensor) -> Tensor:
        """The part of poses (n, 3) that normal parts have too: a part that is misplaced stays so.

        An angle or a shift that is farther from all normal ones than any of these from its nearest is cut there.
        """
        angles, shifts = _differences(poses, self.normal)
        largest_angle, largest_shift = (gaps[-1] for gaps in self._gaps)
        nearest = self.normal[angles.argmin(1), 0]
        share = (largest_angle / angles.amin(1).clamp_min(1e-12)).clamp_max(1)
        cut_angle = wrapped(nearest + share * wrapped(poses[:, 0] - nearest))
        place = self.normal[shifts.argmin(1), 1:]
        share = (largest_shift / shifts.amin(1).clamp_min(1e-12)).clamp_max(1)
        cut_shift = place + share[:, None] * (poses[:, 1:] - place)
        far_angle, far_shift = self._beyond(poses)
        angle = cut_angle.where(far_angle, poses[:, 0])  # what is not cut stays to the last bit
        shift = cut_shift.where(far_shift[:, None], poses[:, 1:])
        return torch.cat([angle[:, None], shift], 1).where((poses != 0).any(1, keepdim=True), poses)

    def _beyond(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Whether angle and shift of poses (n, 3) are farther from all normal ones than any of these from its next."""
        pairs = zip(_differences(poses, self.normal), self._gaps, strict=True)
        far_angle, far_shift = (differences.amin(1) > gaps[-1] for differences, gaps in pairs)
        return far_angle, far_shift


def register(
    images: Tensor, size: tuple[int, int], kind: str, seed: int, *, stride: int = 1, finer: int = 1
) -> tuple[Registration | None, str]:
    """Learn the mean pose of normal images; and in words, why not.

    Parameters
    ----------
    images : Tensor (n, h, w)
        Reduced, in the pixels that contours are taken of.
    size : tuple of int
        Their height and width before.
    kind : str
        One of :data:`KINDS`. Where a turn explains no more than a shift, images are shifted alone.
    stride : int
        Of the coarsest layer, in pixels: margins keep a size a multiple of it.
    finer : int
        How much finer the pixels are in which images will be moved.
    """
    height, width = size
    fine, images = images, torch.cat([reduced(images[at : at + 256, None]) for at in range(0, len(images), 256)])
    reason = ""
    if kind == "rigid":
        turned, shifted = (mean_pose(images, turns, disc=True) for turns in (True, False))
        left, left_shifted = (float((1 - found[2].square()).median()) for found in (turned, shifted))
        if left > LEAST_GAIN * left_shifted:
            kind, reason = "translation", "a turn explains no more of the images than a shift: they are shifted alone"
    mean, poses, _ = turned if kind == "rigid" else mean_pose(images, turns=False, disc=False)
    by_chance = mean.best(scrambled(images[:SCRAMBLED], seed))[1]
    if float(left_out_correlations(mean, images, poses).median()) <= float(by_chance.quantile(0.95)):
        return None, "the images fit their mean no better than chance: they stay as they are"
    contours = None
    if kind == "rigid":
        _, _, candidates, near = mean.candidates(images)
        contours = mean_contours(fine, poses, candidates, near, mean)
        poses = settled(contours, fine, candidates, near)[0]
    scale = torch.tensor([width / mean.size[1], height / mean.size[0]])
    normal = poses * torch.cat([torch.ones(1), scale])
    margin = margin_for(normal, size, stride)
    registration = Registration(mean, contours, normal, scale, float(by_chance.median()), margin, finer)
    return registration.near_normal_poses(), reason


def margin_for(poses: Tensor, size: tuple[int, int], stride: int) -> int:
    """Pixels at each side of the mean pose that hold the corners of images in poses (n, 3), so far as they may.

    All of it has at most :data:`LARGEST_FRAME` times the pixels of an image, of a height and width. Both margins
    together are a multiple of the stride. What hangs over by less than a pixel is worth no margin.
    """
    height, width = size
    corners = torch.tensor([[x * width / 2, y * height / 2] for x in (-1, 1) for y in (-1, 1)])
    x, y = corners.T[:, None] - poses[:, 1:].T[:, :, None]
    cos, sin = poses[:, :1].cos(), poses[:, :1].sin()
    across = (cos * x + sin * y).abs().amax() - width / 2
    down = (cos * y - sin * x).abs().amax() - height / 2
    step = stride // 2 if stride % 2 == 0 else stride
    margin = step * math.ceil(max(0.0, float(across) - 1, float(down) - 1) / step)
    while (height + 2 * margin) * (width + 2 * margin) > LARGEST_FRAME * height * width:
        margin -= step
    return max(0, margin)


def scrambled(images: Tensor, seed: int) -> Tensor:
    """Images (n, h, w) with the spectrum of others and random phases: nothing of their shapes is left."""
    spectrum = np.fft.rfft2(images.numpy() - images.numpy().mean((1, 2), keepdims=True))
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal(tuple(images.shape)))
    mixed = np.abs(spectrum) * noise / np.abs(noise).clip(1e-12)
    return torch.from_numpy(np.fft.irfft2(mixed, s=images.shape[1:])).float()


def _differences(poses: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Angles and shifts (n, m) between poses (n, 3) and (m, 3)."""
    angles = wrapped(poses[:, None, 0] - others[None, :, 0]).abs()
    return angles, torch.linalg.vector_norm(poses[:, None, 1:] - others[None, :, 1:], dim=2)
