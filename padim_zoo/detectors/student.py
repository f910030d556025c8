"""Training of a student that gives the teacher's features of normal images (Wang et al. 2021, arXiv 2103.04257)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from padim_zoo.backbones.backbone import Backbone, hash_of
from padim_zoo.backbones.trainable import frozen, trainable_network
from padim_zoo.core.checkpoint import (
    Checkpoint,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from padim_zoo.core.errors import InputError
from padim_zoo.features.features import rows_of
from padim_zoo.features.patch_embeddings import valid_patches

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
LEARNING_RATE = 0.4
"""The paper's, for students with batch norms."""
LEARNING_RATE_WITHOUT_NORMS = 0.05
"""A larger one makes students without batch norms diverge."""
LEARNT = 0.9
"""A student has collapsed whose held-out loss is more than this share of that before the training."""


@dataclass
class Recipe:
    """How a student is trained; the defaults are those of :class:`~padim_zoo.detectors.stfpm.STFPM`."""

    epochs: int
    learning_rate: float | None
    batch_size: int
    held_out: float
    patience: int
    seed: int
    checkpoint: str | None = None
    report: Callable[[int, int, float], None] | None = None
    passes: int = 1


@dataclass
class _Progress:
    """Where a training is: all that it takes to go on."""

    epoch: int = 0
    initial: float = math.inf
    best: float = math.inf
    best_epoch: int = 0
    losses: list[float] = field(default_factory=list)
    best_state: dict[str, Tensor] = field(default_factory=dict)


def matching_loss(teacher: Sequence[Tensor], student: Sequence[Tensor], roi_masks: Tensor | None = None) -> Tensor:
    """Sum over the layers of the mean over images and positions of ‖t/‖t‖ − s/‖s‖‖²; twice the paper's equation 3.

    Where there are regions of interest, of the mean over the positions that count.

    The authors' code leaves the factor ½ of the paper out, and their learning rate goes with that.
    """
    total = torch.zeros((), device=teacher[0].device)
    for t, s in zip(teacher, student, strict=True):
        squares = (normalize(t, dim=1) - normalize(s, dim=1)).square().sum(1)
        if roi_masks is None:
            total = total + squares.mean()
        else:
            counted = valid_patches(roi_masks, (int(t.shape[2]), int(t.shape[3]))).T.reshape(squares.shape)
            total = total + squares[counted.to(squares.device)].mean()
    return total


def train_student(
    teacher: Backbone, images: Tensor, recipe: Recipe, roi_masks: Tensor | None = None
) -> tuple[Backbone, Tensor, list[float]]:
    """Train a student on normal images, and keep the one that matches held-out images best.

    Parameters
    ----------
    teacher : Backbone
    images : Tensor (n·passes, 3, H, W), uint8
        In all passes, those of one image next to each other. A student learns from all of them, and is held out whole
        images, which it has to match as they are.
    recipe : Recipe
    roi_masks : Tensor (n·passes, H, W), bool, optional
        The pixels that count. The losses are over these; the networks see whole images all the same, and the student's
        batch norms their statistics.

    Returns
    -------
    student : Backbone
    held_out : Tensor (m,), int64
        Indices of the images that were not trained on.
    losses : list of float
        Loss of the held-out images after each epoch.

    Raises
    ------
    InputError
        If there are fewer than two images, or the student has not learned to match the held-out ones.
    """
    n = len(images) // recipe.passes
    if n < 2:
        raise InputError(f"a student needs at least 2 normal images, one of them to hold out; found {n}")
    order = torch.from_numpy(np.random.default_rng(recipe.seed).permutation(n))
    count = min(n - 1, max(1, round(recipe.held_out * n)))
    held_out, used = order[:count].sort().values, order[count:].sort().values
    first, all_views = held_out * recipe.passes, torch.from_numpy(rows_of(used.numpy(), recipe.passes))
    network = trainable_network(teacher, recipe.seed).to(teacher.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=_learning_rate(network, recipe), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    held_out_regions = None if roi_masks is None else roi_masks[first]
    used_regions = None if roi_masks is None else roi_masks[all_views]
    key = _key(teacher, images, recipe, roi_masks)
    progress = _resume(recipe.checkpoint, key, network, optimizer) or _Progress(
        initial=_held_out_loss(teacher, network, images[first], recipe.batch_size, held_out_regions)
    )
    while progress.epoch < recipe.epochs and progress.epoch - progress.best_epoch < recipe.patience:
        _epoch(teacher, network, optimizer, images[all_views], recipe, progress.epoch, used_regions)
        progress.epoch += 1
        loss = _held_out_loss(teacher, network, images[first], recipe.batch_size, held_out_regions)
        progress.losses.append(loss)
        if loss < progress.best:
            progress.best, progress.best_epoch = loss, progress.epoch
            progress.best_state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        if recipe.report is not None:
            recipe.report(progress.epoch, recipe.epochs, loss)
        if recipe.checkpoint is not None:
            _write_checkpoint(recipe.checkpoint, key, network, optimizer, progress)
        if not math.isfinite(loss):
            break
    if not progress.best <= LEARNT * progress.initial:
        raise InputError(
            f"the student has collapsed: its loss on {count} held-out images is {progress.best:.3g} at best, and was "
            f"{progress.initial:.3g} before the training; try a lower learning_rate, more epochs or another seed"
        )
    network.load_state_dict(progress.best_state)
    return frozen(copy.deepcopy(network).cpu(), teacher).to(teacher.device), held_out, progress.losses


def _learning_rate(network: nn.Module, recipe: Recipe) -> float:
    if recipe.learning_rate is not None:
        return recipe.learning_rate
    has_norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return LEARNING_RATE if has_norms else LEARNING_RATE_WITHOUT_NORMS


def _normalized(teacher: Backbone, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, device=teacher.device).view(1, 3, 1, 1) for values in (teacher.mean, teacher.std))
    pixels = images.to(teacher.device).float().div_(255)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def _batches(images: Tensor, roi_masks: Tensor | None, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        yield images[rows], None if roi_masks is None else roi_masks[rows]


def _epoch(
    teacher: Backbone,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    recipe: Recipe,
    epoch: int,
    roi_masks: Tensor | None,
) -> None:
    """One pass over the images, in an order by the seed and the number of the epoch: a resumed one is the same."""
    network.train()
    order = torch.from_numpy(np.random.default_rng((recipe.seed, epoch)).permutation(len(images)))
    shuffled = None if roi_masks is None else roi_masks[order]
    for batch, counted in _batches(images[order], shuffled, recipe.batch_size):
        targets = teacher(batch.to(teacher.device).float() / 255)
        loss = matching_loss(targets, network(_normalized(teacher, batch)), counted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def _held_out_loss(
    teacher: Backbone, network: nn.Module, images: Tensor, batch_size: int, roi_masks: Tensor | None
) -> float:
    network.eval()
    total = 0.0
    for batch, counted in _batches(images, roi_masks, batch_size):
        targets = teacher(batch.to(teacher.device).float() / 255)
        loss = matching_loss(targets, network(_normalized(teacher, batch)), counted)
        total += float(loss) * len(batch)
    return total / len(images)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def _key(teacher: Backbone, images: Tensor, recipe: Recipe, roi_masks: Tensor | None) -> str:
    """What a training must agree in to be gone on with; not the number of epochs, which may be raised."""
    settings = [recipe.learning_rate, recipe.batch_size, recipe.held_out, recipe.seed]
    seen = hash_of({"": images} if roi_masks is None else {"": images, "regions": roi_masks})
    return f"{teacher.name} {teacher.weights_hash} {','.join(teacher.layers)} {settings} {seen}"


def _write_checkpoint(
    path: str, key: str, network: nn.Module, optimizer: torch.optim.Optimizer, progress: _Progress
) -> None:
    numbers = {name: value for name, value in vars(progress).items() if name != "best_state"}
    tensors = {
        "network": dict(network.state_dict()),
        "best": progress.best_state,
        "optimizer": optimizer_tensors(optimizer),
    }
    write_checkpoint(path, "student", key, Checkpoint(numbers, tensors))


def _resume(path: str | None, key: str, network: nn.Module, optimizer: torch.optim.Optimizer) -> _Progress | None:
    """Take up a training from its checkpoint; None without one."""
    checkpoint = read_checkpoint(path, "student", key)
    if checkpoint is None:
        return None
    network.load_state_dict(checkpoint.tensors["network"])
    restore_optimizer(optimizer, checkpoint.tensors["optimizer"])
    return _Progress(**checkpoint.numbers, best_state=checkpoint.tensors["best"])
