"""The pose of a part: an image against the mean of normal images, turned and shifted.

Images are reduced to :data:`SIZE` pixels. The normalized cross-correlation with the mean image, turned in steps, is
taken at all shifts at once by Fourier transforms on half of that size. The best of these poses are refined to parts of
a pixel by Gauss-Newton steps. The mean image is that of the normal images in their poses, by turns (generalized
Procrustes analysis).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from padim_zoo.core.parallel import map_blocks
from padim_zoo.features.poses import Poses, inverse, multiply, wrapped

SIZE = 64
"""Pixels of the longer side of a reduced image."""

STEPS = 48
"""Angles at which the mean image is tried."""

CANDIDATES = 4
"""Poses that are refined."""

FIRST_STEPS, LAST_STEPS = 2, 5
"""Gauss-Newton steps of each of them, and of the best of them."""

LARGEST_SHIFT = 0.25
"""Of a part, as a share of the image."""

ROUNDS = 4
"""How often the mean image and the poses are found by turns."""

REFERENCES = 5
"""Images that are tried as the first mean image."""

LEAST_GAIN = 0.9
"""Of what a shift leaves unexplained, a turn has to leave no more than this share."""

SCRAMBLED = 50
"""Images without shapes that say what chance does."""

KINDS = ("rigid", "translation")
"""Motions that can be undone."""


def reduced(pixels: Tensor) -> Tensor:
    """Images (n, 3, H, W) in gray, (n, h, w) float32, the longer side :data:`SIZE`."""
    height, width = int(pixels.shape[2]), int(pixels.shape[3])
    factor = max(height, width) / SIZE
    size = (max(8, round(height / factor)), max(8, round(width / factor)))
    return interpolate(pixels.float().mean(1, keepdim=True), size, mode="area")[:, 0]


@dataclass(frozen=True)
class MeanImage:
    """A mean image, and the poses of others against it, in pixels of the reduced image.

    Attributes
    ----------
    image : Tensor (h, w)
    steps : Tensor (a,), int64
        The angles at which it is tried, in parts of :data:`STEPS`; zero alone where parts are shifted alone.
    disc : bool
        Whether a disc of it is compared, which stays itself when it is turned, or all of it.
    """

    image: Tensor
    steps: Tensor
    disc: bool

    @classmethod
    def of(cls, image: Tensor, turns: bool, disc: bool) -> MeanImage:
        """One that is tried at all angles, or at none."""
        return cls(image, torch.arange(STEPS if turns else 1), disc)

    @property
    def turns(self) -> bool:
        """Whether parts are turned, and not shifted alone."""
        return bool((self.steps != 0).any())

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.image.shape[0]), int(self.image.shape[1])

    @cached_property
    def window(self) -> Tensor:
        """Weights of the pixels that are compared, (h, w)."""
        return _window(self.size, self.disc)

    # -- all angles and shifts ---------------------------------------------------------------------------------------

    @cached_property
    def _coarse(self) -> tuple[tuple[int, int], tuple[int, int], Tensor, Tensor, Tensor, Tensor]:
        """What a search needs that images have no part in: sizes, angles, and transforms of windows and templates."""
        height, width = (max(4, side // 2) for side in self.size)
        margin = math.ceil(LARGEST_SHIFT * max(height, width))
        padded = (height + 2 * margin, width + 2 * margin)
        image = interpolate(self.image[None, None], (height, width), mode="area")
        angles = self.steps * (2 * math.pi / STEPS)
        window = _window((height, width), self.disc)
        turned = _sample(image[0].expand(len(angles), -1, -1), inverse(_poses(angles)))
        weight = window.sum()
        mean = (turned * window).sum((1, 2), keepdim=True) / weight
        centered = (turned - mean) * window
        norm = ((turned - mean).square() * window).sum((1, 2), keepdim=True).clamp_min(1e-12).sqrt()
        templates = torch.fft.rfft2(centered / norm, s=padded).conj()
        return (height, width), (margin, padded[1]), angles, templates, torch.fft.rfft2(window, s=padded).conj(), weight

    def search(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The best shift at each angle.

        Parameters
        ----------
        images : Tensor (n, h, w)

        Returns
        -------
        correlations : Tensor (n, angles)
        poses : Tensor (n, angles, 3)
        """
        size, (margin, _), angles, templates, window, weight = self._coarse
        small = interpolate(images[:, None], size, mode="area")
        extended = pad(small, (margin,) * 4, mode="replicate")[:, 0]
        extended = extended - extended.mean((1, 2), keepdim=True)
        padded = (int(extended.shape[1]), int(extended.shape[2]))
        shifts = 2 * margin + 1
        # Sums under the window at every shift: of the image, and of its squares.
        of_window = torch.fft.rfft2(torch.stack([extended, extended.square()], 1)) * window
        sums, squares = torch.fft.irfft2(of_window, s=padded)[..., :shifts, :shifts].unbind(1)
        energy = (squares - sums.square() / weight).clamp_min(1e-6 * float(weight))
        products = torch.fft.irfft2(torch.fft.rfft2(extended)[:, None] * templates, s=padded)[..., :shifts, :shifts]
        surface = (products / energy.sqrt()[:, None]).flatten(2)
        correlations, places = surface.max(2)
        scale = self.size[1] / size[1]
        y, x = (places // shifts - margin) * scale, (places % shifts - margin) * scale
        return correlations, torch.stack([angles.expand_as(x), x.float(), y.float()], 2)

    # -- one pose ----------------------------------------------------------------------------------------------------

    @cached_property
    def _slopes(self) -> tuple[Tensor, Tensor]:
        """The mean image at mean 0 and norm 1 under the window (h·w,), and how it changes with a pose (h·w, 3)."""
        image, window = self.image, self.window
        mean = (image * window).sum() / window.sum()
        norm = ((image - mean).square() * window).sum().clamp_min(1e-12).sqrt()
        template = (image - mean) / norm
        dy, dx = torch.gradient(template)
        x, y = _coordinates(self.size)
        slopes = torch.stack([dy * x - dx * y, dx, dy], 2) if self.turns else torch.stack([0 * dx, dx, dy], 2)
        return template.flatten(), slopes.flatten(0, 1)

    def correlations(self, images: Tensor, poses: Tensor) -> Tensor:
        """Correlations (n,) of images (n, h, w) in poses (n, 3) with the mean image."""
        return self._compare(images, poses)[0]

    def _compare(self, images: Tensor, poses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Correlations (n,), images in the mean pose at mean 0 and norm 1 (n, h·w), and their weights."""
        template, _ = self._slopes
        moved = _sample(images, poses).flatten(1)
        weights = self.window.flatten() * _inside(self.size, poses)
        total = weights.sum(1, keepdim=True).clamp_min(1e-6)
        moved = moved - (weights * moved).sum(1, keepdim=True) / total
        moved = moved / (weights * moved.square()).sum(1, keepdim=True).clamp_min(1e-12).sqrt()
        expected = template - (weights * template).sum(1, keepdim=True) / total
        norms = (weights * expected.square()).sum(1).clamp_min(1e-12).sqrt()
        return (weights * moved * expected).sum(1) / norms, moved, weights

    def refine(self, images: Tensor, poses: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Poses (n, 3) to parts of a pixel, and their correlations; a step that makes it worse is not taken."""
        template, slopes = self._slopes
        best, moved, weights = self._compare(images, poses)
        free = [0, 1, 2] if self.turns else [1, 2]
        slopes = slopes[:, free]
        products = (slopes[:, :, None] * slopes[:, None]).flatten(1)
        ridge = 1e-6 * torch.eye(len(free))
        for _ in range(count):
            differences = weights * (moved * best[:, None].clamp_min(0.1) ** -1 - template)
            normal = (weights @ products).view(-1, len(free), len(free))
            scale = normal.diagonal(dim1=1, dim2=2).amax(1)[:, None, None].clamp_min(1e-12)
            steps = torch.cholesky_solve(
                (differences @ slopes)[:, :, None], torch.linalg.cholesky(normal + ridge * scale)
            )[:, :, 0]
            step = torch.zeros_like(poses)
            step[:, free] = steps
            tried = multiply(poses, inverse(step))
            correlations, again, their_weights = self._compare(images, tried)
            better = correlations > best
            if not better.any():
                break
            poses = torch.where(better[:, None], tried, poses)
            best = torch.where(better, correlations, best)
            moved = torch.where(better[:, None], again, moved)
            weights = torch.where(better[:, None], their_weights, weights)
        return poses, best

    def best(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The best pose (n, 3) of each image (n, h, w), and its correlation (n,)."""

        def block(rows: slice) -> tuple[Tensor, Tensor]:
            part = images[rows]
            correlations, poses = self.search(part)
            count = min(CANDIDATES, correlations.shape[1])
            # Peaks over the angles, which go round.
            around = torch.full((len(part), STEPS), -1.0)
            around[:, self.steps] = correlations
            peaks = (around >= around.roll(1, 1)) & (around >= around.roll(-1, 1))
            chosen = around.where(peaks, around - 2)[:, self.steps].topk(count, 1).indices
            starts = poses.gather(1, chosen[:, :, None].expand(-1, -1, 3)).flatten(0, 1)
            refined, values = self.refine(part.repeat_interleave(count, 0), starts, FIRST_STEPS)
            which = values.view(-1, count).argmax(1)
            return self.refine(part, refined.view(-1, count, 3)[torch.arange(len(part)), which], LAST_STEPS)

        poses, correlations = map_blocks(block, len(images), 8 * (len(self.steps) + 8) * self.image.numel())
        return poses, correlations


def _window(size: tuple[int, int], disc: bool) -> Tensor:
    """Weights (h, w) of the pixels: a disc with a soft edge, or a rectangle with one."""
    x, y = _coordinates(size)
    if disc:
        radius = min(size) / 2
        return ((radius - (x.square() + y.square()).sqrt()) / (0.1 * radius)).clamp(0, 1)
    edges = [((side / 2 - at.abs()) / (0.1 * side)).clamp(0, 1) for at, side in ((x, size[1]), (y, size[0]))]
    return edges[0] * edges[1]


def _coordinates(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 - side / 2 for side in size), indexing="ij")
    return x, y


def _poses(angles: Tensor) -> Tensor:
    return torch.stack([angles, torch.zeros_like(angles), torch.zeros_like(angles)], 1)


def _points(size: tuple[int, int], poses: Tensor) -> tuple[Tensor, Tensor]:
    x, y = _coordinates(size)
    angle, dx, dy = poses[:, :, None, None].unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return cos * x - sin * y + dx, sin * x + cos * y + dy


def _sample(images: Tensor, poses: Tensor) -> Tensor:
    """Reduced images (n, h, w) in the mean pose."""
    height, width = int(images.shape[1]), int(images.shape[2])
    x, y = _points((height, width), poses)
    grid = torch.stack([x / (width / 2), y / (height / 2)], 3)
    return grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _inside(size: tuple[int, int], poses: Tensor) -> Tensor:
    """Which points (n, h·w) of the mean pose lie within the image."""
    x, y = _points(size, poses)
    return ((x.abs() <= size[1] / 2) & (y.abs() <= size[0] / 2)).flatten(1).float()


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
        weights = _inside(mean.size, poses).view(n, *mean.size)
        total = (weights * _sample(images, poses)).sum(0) / weights.sum(0).clamp_min(1)
        mean = MeanImage.of(torch.where(weights.sum(0) > 0, total, images.mean()), turns, disc)
    return mean, *mean.best(images)


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
    moved = _sample(images, poses)
    others = (moved.sum(0) - moved) / max(len(moved) - 1, 1)
    window = mean.window
    first, second = (each - (window * each).sum((1, 2), keepdim=True) / window.sum() for each in (moved, others))
    products = (window * first * second).sum((1, 2))
    norms = (window * first.square()).sum((1, 2)) * (window * second.square()).sum((1, 2))
    return products / norms.clamp_min(1e-12).sqrt()


def scrambled(images: Tensor, seed: int) -> Tensor:
    """Images (n, h, w) with the spectrum of others and random phases: nothing of their shapes is left."""
    spectrum = np.fft.rfft2(images.numpy() - images.numpy().mean((1, 2), keepdims=True))
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal(tuple(images.shape)))
    mixed = np.abs(spectrum) * noise / np.abs(noise).clip(1e-12)
    return torch.from_numpy(np.fft.irfft2(mixed, s=images.shape[1:])).float()


@dataclass(frozen=True)
class Registration:
    """What the normal images of a fit say of poses; all in pixels of the images.

    Attributes
    ----------
    mean : MeanImage
    normal : Tensor (n, 3)
        Poses of the normal images.
    scale : Tensor (2,)
        Pixels of the images to one of a reduced image, in a row and in a column.
    chance : float
        The correlation that images without shapes have; one that has no more stays as it is.
    """

    mean: MeanImage
    normal: Tensor
    scale: Tensor
    chance: float

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        return KINDS[0] if self.mean.turns else KINDS[1]

    def describe(self) -> str:
        """The motion that is undone, in words."""
        angle, x, y = (float(each) for each in self.normal.abs().amax(0))
        turned = f"turned by up to {math.degrees(angle):.1f}° and " if self.mean.turns else ""
        return f"{self.kind}: normal parts are {turned}shifted by up to {x:.1f} and {y:.1f} pixels"

    @cached_property
    def _gaps(self) -> tuple[Tensor, Tensor]:
        """How far the angle and the shift of each normal pose are from the nearest of the others, ascending."""
        angles, shifts = _differences(self.normal, self.normal)
        own = torch.eye(len(self.normal), dtype=torch.bool)
        nearest = (each.masked_fill(own, math.inf).amin(1).sort().values for each in (angles, shifts))
        first, second = (gaps if len(self.normal) > 1 else torch.zeros(1) for gaps in nearest)
        return first, second

    def p_values(self, poses: Tensor) -> Tensor:
        """How usual poses (n, 3) are, (n,): the share of normal poses that are as far from all others.

        Angle and shift each have one, and the smaller counts twice.
        """
        p = torch.stack(
            [
                (1 + (gaps >= distances.amin(1, keepdim=True)).sum(1)) / (len(gaps) + 1)
                for gaps, distances in zip(self._gaps, _differences(poses, self.normal), strict=True)
            ]
        )
        return (2 * p.amin(0)).clamp_max(1)

    def estimate(self, pixels: Tensor) -> Tensor:
        """The poses (n, 3) of images (n, 3, H, W), float32; zero where nothing fits better than chance."""
        poses, correlations = self.mean.best(reduced(pixels))
        poses = poses * torch.cat([torch.ones(1), self.scale])
        return torch.where((correlations > self.chance)[:, None], poses, 0)

    def poses(self, pixels: Tensor) -> Poses:
        """The poses that are undone, of images (n, 3, H, W)."""
        return Poses(self.undone(self.estimate(pixels)), self)

    def near_normal_angles(self) -> Registration:
        """The same, but the mean image is tried only at angles near those of normal images."""
        step = 2 * math.pi / STEPS
        away = wrapped(self.mean.steps[:, None] * step - self.normal[None, :, 0]).abs().amin(1)
        near = away <= float(self._gaps[0][-1]) + step
        return replace(self, mean=replace(self.mean, steps=self.mean.steps[near]))

    def undone(self, poses: Tensor) -> Tensor:
        """The part of poses (n, 3) that normal parts have too: a part that is misplaced stays so.

        An angle or a shift that is farther from all normal ones than any of these from its nearest is cut there.
        """
        angles, shifts = _differences(poses, self.normal)
        largest_angle, largest_shift = (gaps[-1] for gaps in self._gaps)
        nearest = self.normal[angles.argmin(1), 0]
        share = (largest_angle / angles.amin(1).clamp_min(1e-12)).clamp_max(1)
        angle = wrapped(nearest + share * wrapped(poses[:, 0] - nearest))
        place = self.normal[shifts.argmin(1), 1:]
        share = (largest_shift / shifts.amin(1).clamp_min(1e-12)).clamp_max(1)
        shift = place + share[:, None] * (poses[:, 1:] - place)
        return torch.cat([angle[:, None], shift], 1).where((poses != 0).any(1, keepdim=True), poses)


def register(images: Tensor, size: tuple[int, int], kind: str, seed: int) -> tuple[Registration | None, str]:
    """Learn the mean pose of normal images; and in words, why not.

    Parameters
    ----------
    images : Tensor (n, h, w)
        Reduced.
    size : tuple of int
        Their height and width before.
    kind : str
        One of :data:`KINDS`. Where a turn explains no more than a shift, images are shifted alone.
    """
    height, width = size
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
    scale = torch.tensor([width / mean.size[1], height / mean.size[0]])
    normal = poses * torch.cat([torch.ones(1), scale])
    registration = Registration(mean, normal, scale, float(by_chance.median()))
    return registration.near_normal_angles(), reason


def _differences(poses: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Angles and shifts (n, m) between poses (n, 3) and (m, 3)."""
    angles = wrapped(poses[:, None, 0] - others[None, :, 0]).abs()
    return angles, torch.linalg.vector_norm(poses[:, None, 1:] - others[None, :, 1:], dim=2)
