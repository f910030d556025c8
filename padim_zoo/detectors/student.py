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
from padim_zoo.core.checkpoint import Checkpoint, read_checkpoint, restore_optimizer, write_checkpoint
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import STFPMConfig
from padim_zoo.features.features import rows_of
from padim_zoo.features.patch_embeddings import valid_patches

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
LEARNING_RATE = 0.4
"""The paper's, for students with batch norms."""
LEARNING_RATE_WITHOUT_NORMS = 0.05
"""A larger one makes students without batch norms diverge."""
LEARNED = 0.9
"""A student has collapsed whose held-out loss is more than this share of that before the training."""


@dataclass(frozen=True)
class TrainedStudent:
    """A trained student.

    Attributes
    ----------
    network : Backbone
    held_out : Tensor (m,), int64
        Indices of the normal images that it was not trained on.
    losses : list of float
        Loss of these after each epoch.
    """

    network: Backbone
    held_out: Tensor
    losses: list[float]


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
    teacher: Backbone,
    images: Tensor,
    roi_masks: Tensor | None,
    config: STFPMConfig,
    groups: np.ndarray,
    report: Callable[[int, int, float], None] | None,
) -> TrainedStudent:
    """Train a student on normal images, and keep the one that matches held-out images best.

    Parameters
    ----------
    teacher : Backbone
    images : Tensor (n·passes, 3, H, W), uint8
        In all passes, those of one image next to each other. A student learns from all of them, and is held out whole
        images, which it has to match as they are.
    roi_masks : Tensor (n·passes, H, W), bool, or None
        The pixels that count. The losses are over these; the networks see whole images all the same, and the student's
        batch norms their statistics.
    config : STFPMConfig
    groups : ndarray (n,), int
        Equal for images that show one thing. A share ``held_out`` of the groups is held out, each as a whole.
    report : callable or None
        Told the epoch, of how many, and its held-out loss.

    Raises
    ------
    InputError
        If there are fewer than two groups, or the student has not learned to match the held-out ones.
    """
    passes = len(images) // len(groups)
    held_out = torch.from_numpy(_draw_held_out(groups, config))
    used = np.setdiff1d(np.arange(len(groups)), held_out.numpy())
    first, all_views = held_out * passes, torch.from_numpy(rows_of(used, passes))
    network = trainable_network(teacher, config.seed).to(teacher.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=_learning_rate(network, config), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    to_train_on = images[all_views], None if roi_masks is None else roi_masks[all_views]
    to_match = images[first], None if roi_masks is None else roi_masks[first]
    key = _key(teacher, images, held_out, config, roi_masks)
    progress = _resume(config.checkpoint, key, network, optimizer) or _Progress(
        initial=_held_out_loss(teacher, network, *to_match, config.train_batch)
    )
    while progress.epoch < config.epochs and progress.epoch - progress.best_epoch < config.patience:
        _epoch(teacher, network, optimizer, *to_train_on, config, progress.epoch)
        progress.epoch += 1
        loss = _held_out_loss(teacher, network, *to_match, config.train_batch)
        progress.losses.append(loss)
        if loss < progress.best:
            progress.best, progress.best_epoch = loss, progress.epoch
            progress.best_state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        if report is not None:
            report(progress.epoch, config.epochs, loss)
        if config.checkpoint is not None:
            _write_checkpoint(config.checkpoint, key, network, optimizer, progress)
        if not math.isfinite(loss):
            break
    if not progress.best <= LEARNED * progress.initial:
        raise InputError(
            f"the student has collapsed: its loss on {len(held_out)} held-out images is {progress.best:.3g} at best, "
            f"and was {progress.initial:.3g} before the training; try a lower learning_rate, more epochs or another "
            "seed"
        )
    network.load_state_dict(progress.best_state)
    student = frozen(copy.deepcopy(network).cpu(), teacher).to(teacher.device)
    return TrainedStudent(student, held_out, progress.losses)


def _draw_held_out(groups: np.ndarray, config: STFPMConfig) -> np.ndarray:
    """Indices of the images to hold out, ascending: whole groups, drawn by the seed."""
    names, group_of = np.unique(groups, return_inverse=True)
    m = len(names)
    if m < 2:
        copies = "" if m == len(groups) else f" among {len(groups)}"
        raise InputError(f"a student needs 2 or more different normal images, one to hold out; found {m}{copies}")
    order = np.random.default_rng(config.seed).permutation(m)
    return np.flatnonzero(np.isin(group_of, order[: min(m - 1, max(1, round(config.held_out * m)))]))


def _learning_rate(network: nn.Module, config: STFPMConfig) -> float:
    if config.learning_rate is not None:
        return config.learning_rate
    has_norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return LEARNING_RATE if has_norms else LEARNING_RATE_WITHOUT_NORMS


def _losses(
    teacher: Backbone, network: nn.Module, images: Tensor, roi_masks: Tensor | None, size: int
) -> Iterator[tuple[Tensor, int]]:
    """The loss of each batch, and how many images it has."""
    mean, std = (torch.tensor(values, device=teacher.device).view(1, 3, 1, 1) for values in (teacher.mean, teacher.std))
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        pixels = images[rows].to(teacher.device).float().div_(255)
        normalized = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
        masks = None if roi_masks is None else roi_masks[rows]
        yield matching_loss(teacher(pixels), network(normalized), masks), len(pixels)


def _epoch(
    teacher: Backbone,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    roi_masks: Tensor | None,
    config: STFPMConfig,
    epoch: int,
) -> None:
    """One pass over the images, in an order by the seed and the number of the epoch: a resumed one is the same."""
    network.train()
    order = torch.from_numpy(np.random.default_rng((config.seed, epoch)).permutation(len(images)))
    shuffled = None if roi_masks is None else roi_masks[order]
    for loss, _ in _losses(teacher, network, images[order], shuffled, config.train_batch):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def _held_out_loss(teacher: Backbone, network: nn.Module, images: Tensor, roi_masks: Tensor | None, size: int) -> float:
    network.eval()
    return sum(float(loss) * n for loss, n in _losses(teacher, network, images, roi_masks, size)) / len(images)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def _key(teacher: Backbone, images: Tensor, held_out: Tensor, config: STFPMConfig, roi_masks: Tensor | None) -> str:
    """What a training must agree in to be gone on with; not the number of epochs, which may be raised."""
    settings = [config.learning_rate, config.train_batch, config.held_out, config.seed]
    seen = hash_of({"": images, "held_out": held_out} | ({} if roi_masks is None else {"regions": roi_masks}))
    return f"{teacher.name} {teacher.weights_hash} {','.join(teacher.layers)} {settings} {seen}"


def _write_checkpoint(
    path: str, key: str, network: nn.Module, optimizer: torch.optim.Optimizer, progress: _Progress
) -> None:
    numbers = {name: value for name, value in vars(progress).items() if name != "best_state"}
    tensors = {
        "network": dict(network.state_dict()),
        "best": progress.best_state,
        "optimizer": optimizer.state_dict()["state"],
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
