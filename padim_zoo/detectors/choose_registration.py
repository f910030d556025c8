"""Which motion of a part is undone: as asked, or what makes held-out normal images likeliest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from padim_zoo.data.augmentation import AS_IT_IS
from padim_zoo.data.grid import known_sizes
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.aligning_extractor import AligningExtractor
from padim_zoo.detectors.contours import in_fine_gray
from padim_zoo.detectors.registration import KINDS, Registration, register
from padim_zoo.estimators.estimator import EPSILON
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.features.poses import Mover, Poses, framed

MOST_IMAGES = 64
"""Normal images that motions are compared on."""

MOST_PATCHES = 512
"""Patches that they are compared at."""

FOLDS = 4
"""Parts of these images, each of which is compared with Gaussians of the others."""

FINER = 2
"""Pixels along a side that an image is moved in, for each one that is left of it."""

STANDARD_ERRORS = 2.0
"""By how many of them images have to be likelier for a motion to be undone."""


@dataclass(frozen=True)
class HalfPixel:
    """Shifts images by half a finer pixel: they are as blurred as by any motion, and none is undone."""

    finer: int = 1
    margin: int = 0

    def poses(self, pixels: Tensor) -> Poses:
        """The same pose for all."""
        return Poses(torch.tensor([0.0, 0.5 / self.finer, 0.5 / self.finer]).expand(len(pixels), 3), self)


def choose_registration(
    extractor: AligningExtractor, images: Any, embed: Callable[[Features], PatchEmbeddings]
) -> tuple[Registration | None, str]:
    """What normal images say of poses, and in words, why they are not moved as ``register`` asks.

    ``"auto"`` compares the log-likelihood of held-out images under Gaussians of the others, without any label. Moved
    images are a little blurred, which makes them likelier, so those that stay are blurred as well.

    Parameters
    ----------
    extractor : AligningExtractor
    images
        Normal ones, which can be gone through more than once.
    embed : callable
        Features to embeddings.
    """
    config = extractor.config
    unmoved = HalfPixel(pixels_wanted(images, extractor.transform))
    small, size = [], (1, 1)
    for batch, _ in extractor.moving_by(unmoved).image_batches(images, config.batch_size, AS_IT_IS, None):
        small.append(in_fine_gray(batch).half())
        size = (int(batch.shape[2]) // unmoved.finer, int(batch.shape[3]) // unmoved.finer)
    if not small:
        return None, ""
    learn = partial(register, torch.cat(small), size, seed=config.seed, stride=extractor.stride, finer=unmoved.finer)
    if config.register != "auto":
        return _with_margin_allowed(extractor, size, *learn(kind=str(config.register)))

    def log_likelihoods(mover: Mover) -> Tensor:
        moving = extractor.moving_by(mover)
        at_once = max(1, MOST_IMAGES // config.batch_size)
        parts = [embed(features) for features in islice(moving.features(images, fit=True), at_once)]
        return held_out_log_likelihoods(PatchEmbeddings.concatenate(parts))

    found: dict[str, Registration] = {}
    for kind in KINDS:
        registration, _ = learn(kind=kind)
        if registration is not None:  # a rigid one without turns is the translation
            found.setdefault(registration.kind, registration)
        if "translation" in found:
            break
    chosen, still = None, log_likelihoods(unmoved) if found else torch.zeros(0)
    best = 0.0
    for registration in found.values() if len(still) >= 2 * FOLDS else ():
        gains = log_likelihoods(replace(registration, margin=0)) - still
        gain = float(gains.mean())
        if gain > max(best, STANDARD_ERRORS * float(gains.std()) / len(gains) ** 0.5):
            chosen, best = registration, gain
    if chosen is None:
        return None, "no motion that is undone makes normal images likelier: they stay"
    return _with_margin_allowed(extractor, size, chosen, "")


def _with_margin_allowed(
    extractor: AligningExtractor, size: tuple[int, int], registration: Registration | None, reason: str
) -> tuple[Registration | None, str]:
    """Without its margin if the network takes no images of that size, as one with fixed positions; and a note of it."""
    if registration is None or not registration.margin or extractor.takes(framed(size, registration.margin)):
        return registration, reason
    height, width = framed(size, registration.margin)
    note = f"the network takes no images of {height}x{width}: what lies beyond the frame of the mean pose is not seen"
    return replace(registration, margin=0), f"{reason}; {note}" if reason else note


def pixels_wanted(images: Any, transform: Transform) -> int:
    """How much finer images are read before they are moved: twice where most have finer pixels."""
    having = [transform.has_finer(*size) for size in known_sizes(images)]
    return FINER if 2 * sum(having) > len(having) else 1


def held_out_log_likelihoods(embeddings: PatchEmbeddings) -> Tensor:
    """The log-likelihood of each image (n,) under the Gaussians of the images of other folds, mean over some patches.

    Less a constant. Covariances are S + εI.
    """
    patches = torch.arange(0, embeddings.P, -(-embeddings.P // MOST_PATCHES))
    samples = embeddings.at(patches).double()  # (p, n, D)
    n = samples.shape[1]
    result = torch.empty(n, dtype=torch.float64)
    for fold in range(FOLDS):
        held_out = torch.arange(n) % FOLDS == fold
        rest = samples[:, ~held_out]
        mean = rest.mean(1, keepdim=True)
        covariance = (rest - mean).mT @ (rest - mean) / max(rest.shape[1] - 1, 1)
        covariance.diagonal(dim1=1, dim2=2).add_(EPSILON)
        factor = torch.linalg.cholesky(covariance)
        whitened = torch.linalg.solve_triangular(factor, (samples[:, held_out] - mean).mT, upper=False)
        log_determinant = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        result[held_out] = -0.5 * (whitened.square().sum(1) + log_determinant[:, None]).mean(0)
    return result
