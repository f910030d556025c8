"""The mean image of normal images, and the poses of images against it, turned and shifted.

Images are reduced to :data:`SIZE` pixels. The normalized cross-correlation with the mean image, turned in steps, is
taken at all shifts at once by Fourier transforms on half of that size. The best of these poses are refined to parts of
a pixel by Gauss-Newton steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from padim_zoo.core.parallel import map_blocks
from padim_zoo.features.poses import inverse, multiply

SIZE = 64
"""Pixels of the longer side of a reduced image."""

STEPS = 48
"""Angles at which the mean image is tried."""

CANDIDATES = 4
"""Poses that are refined."""

FIRST_STEPS, LAST_STEPS = 2, 5
"""Gauss-Newton steps of each of them, and of the best of them."""

LEAST_GAIN = 0.9
"""What an unlikely motion leaves unexplained, at most, as a share of what a likelier one leaves."""

COARSE_ERROR = 0.1
"""What refinement may add to a correlation, about."""

ANOTHER_WAY = 0.25
"""How much less a pose may correlate that contours are compared in: a mean of gray values may hold a part both ways."""

LARGEST_SHIFT = 0.25
"""Of a part, as a share of the image."""


def reduced(pixels: Tensor, side: int = SIZE) -> Tensor:
    """Images (n, C, H, W) in gray, (n, h, w) float32, of so many pixels along the longer side."""
    height, width = int(pixels.shape[2]), int(pixels.shape[3])
    factor = max(height, width) / side
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
    reach : float or None
        How far normal parts are shifted along an axis; None where that is not known yet. A pose beyond has to fit
        better by :data:`LEAST_GAIN`: many a part fits nearly as well upside down and far away.
    """

    image: Tensor
    steps: Tensor
    disc: bool
    reach: float | None = None

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
        turned = sampled(image[0].expand(len(angles), -1, -1), inverse(_poses(angles)))
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
        return self._peaks(self._surface(images))

    def _surface(self, images: Tensor) -> Tensor:
        """Correlations (n, angles, shifts, shifts) at all angles and shifts."""
        size, (margin, _), _, templates, window, weight = self._coarse
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
        correlations: Tensor = products / energy.sqrt()[:, None]
        return correlations

    def _peaks(self, surface: Tensor, reach: float = math.inf) -> tuple[Tensor, Tensor]:
        """The best shift at each angle, of those within reach, as :meth:`search` gives them."""
        size, (margin, _), angles, *_ = self._coarse
        scale, shifts = self.size[1] / size[1], int(surface.shape[2])
        near = (torch.arange(shifts) - margin).abs() * scale <= max(reach, 0)
        surface = surface.where(near[:, None] & near, -1)
        correlations, places = surface.flatten(2).max(2)
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
        points = _points(self.size, poses)
        moved = _read(images, *points).flatten(1)
        weights = self.window.flatten() * _within(self.size, *points)
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
        return self.candidates(images)[:2]

    def candidates(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best pose of each image, and others that a finer look may prefer.

        Parameters
        ----------
        images : Tensor (n, h, w)

        Returns
        -------
        poses : Tensor (n, 3)
        correlations : Tensor (n,)
        candidates : Tensor (n, k, 3)
            Of the best pose and of the other peaks over the angles.
        near : Tensor (n, k), bool
            Those that fit about as well as the best.
        """

        def block(rows: slice) -> tuple[Tensor, ...]:
            part, reach = images[rows], math.inf if self.reach is None else self.reach
            surface = self._surface(part)
            near, (highest, places) = self._peaks(surface, reach), self._peaks(surface)
            result = refined_best(part, *near)
            outside = highest.where(highest > near[0], -1)
            beyond = (outside.amax(1) > near[0].amax(1) - COARSE_ERROR).nonzero().flatten()
            if len(beyond):
                far = refined_best(part[beyond], outside[beyond], places[beyond])
                better = 1 - far[1].square() < LEAST_GAIN * (1 - result[1][beyond].square())
                for found, of_far in zip(result, far, strict=True):
                    found[beyond[better]] = of_far[better]
            return result

        def refined_best(part: Tensor, correlations: Tensor, poses: Tensor) -> tuple[Tensor, ...]:
            count = min(CANDIDATES, correlations.shape[1])
            # Peaks over the angles, which go round.
            around = torch.full((len(part), STEPS), -1.0)
            around[:, self.steps] = correlations
            peaks = (around >= around.roll(1, 1)) & (around >= around.roll(-1, 1))
            heights, chosen = around.where(peaks, around - 2)[:, self.steps].topk(count, 1)
            starts = poses.gather(1, chosen[:, :, None].expand(-1, -1, 3)).flatten(0, 1)
            refined, values = (
                each.view(len(part), count, *each.shape[1:])
                for each in self.refine(part.repeat_interleave(count, 0), starts, FIRST_STEPS)
            )
            which, every = values.argmax(1), torch.arange(len(part))
            best, fits = self.refine(part, refined[every, which], LAST_STEPS)
            near = (values > values.amax(1, keepdim=True) - ANOTHER_WAY) & (heights > -1)
            near[every, which] = True
            return best, fits, refined, near

        poses, correlations, candidates, near = map_blocks(
            block, len(images), 8 * (len(self.steps) + 8) * self.image.numel()
        )
        return poses, correlations, candidates, near


def _window(size: tuple[int, int], disc: bool) -> Tensor:
    """Weights (h, w) of the pixels: a disc with a soft edge, or a rectangle with one."""
    x, y = _coordinates(size)
    if disc:
        radius = min(size) / 2
        return ((radius - (x.square() + y.square()).sqrt()) / (0.1 * radius)).clamp(0, 1)
    edges = [((side / 2 - at.abs()) / (0.1 * side)).clamp(0, 1) for at, side in ((x, size[1]), (y, size[0]))]
    return edges[0] * edges[1]


@lru_cache(maxsize=8)
def _coordinates(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of pixel centers, from the center; those of a size are made once, since every comparison takes them."""
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 - side / 2 for side in size), indexing="ij")
    return x, y


def _poses(angles: Tensor) -> Tensor:
    return torch.stack([angles, torch.zeros_like(angles), torch.zeros_like(angles)], 1)


def _points(size: tuple[int, int], poses: Tensor) -> tuple[Tensor, Tensor]:
    x, y = _coordinates(size)
    angle, dx, dy = poses[:, :, None, None].unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return cos * x - sin * y + dx, sin * x + cos * y + dy


def sampled(images: Tensor, poses: Tensor) -> Tensor:
    """Reduced images (n, h, w) in the mean pose, by poses (n, 3)."""
    return _read(images, *_points((int(images.shape[1]), int(images.shape[2])), poses))


def _read(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    height, width = int(images.shape[1]), int(images.shape[2])
    grid = torch.stack([x / (width / 2), y / (height / 2)], 3)
    return grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def inside(size: tuple[int, int], poses: Tensor) -> Tensor:
    """Which points (n, h·w) of the mean pose lie within the image."""
    return _within(size, *_points(size, poses))


def _within(size: tuple[int, int], x: Tensor, y: Tensor) -> Tensor:
    return ((x.abs() <= size[1] / 2) & (y.abs() <= size[0] / 2)).flatten(1).float()
