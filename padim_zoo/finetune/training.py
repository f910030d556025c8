"""Train a backbone on pasted pieces in normal images, until images that are held out say stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from padim_zoo.backbones.backbone import Backbone, hash_of
from padim_zoo.backbones.device import PRECISIONS
from padim_zoo.backbones.trainable import trainable_copy
from padim_zoo.core.checkpoint import Checkpoint, read_checkpoint, restore_optimizer, write_checkpoint
from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.detectors.config import LARGEST_SEED, check_share, check_whole_number
from padim_zoo.finetune.adaptation import Adaptation, hold_out
from padim_zoo.finetune.cutpaste import CHANCE, ThreeWay

HEAD_LEARNING_RATE = 1e-3
"""Of the head, which starts from random weights, where that of the network is not larger."""
WEIGHT_DECAY = 1e-4
LEARNED = 0.1
"""A network has learned nothing whose accuracy on held-out images is not better than chance by this."""
HELD_OUT_ROUNDS = 4
"""How many examples are made of each held-out image."""


@dataclass
class TrainingRecipe:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        At most; the learning rate falls to zero along half a cosine over all of them.
    learning_rate : float
        Of AdamW, at the start.
    train_batch : int
        Normal images of a step.
    held_out : float
        Share of the images that is not trained on, but chooses the epoch.
    patience : int
        Epochs without a lower held-out loss after which the training ends.
    freeze : tuple of str
        Parts of the network that keep their weights: prefixes of the names of tensors in a weights file.
    seed : int
    precision : str
        Type that the network computes in; weights and their updates are float32.
    checkpoint : str, optional
        File that the state of the training is written to after every epoch, and taken up from.
    report : callable, optional
        Told the epoch, of how many, the held-out loss and the held-out accuracy.
    """

    epochs: int = 10
    learning_rate: float = 1e-5
    train_batch: int = 8
    held_out: float = 0.2
    patience: int = 5
    freeze: tuple[str, ...] = ()
    seed: int = 0
    precision: str = "float32"
    checkpoint: str | None = None
    report: Callable[[int, int, float, float], None] | None = None

    def check(self) -> None:
        """Refuse what nothing can be made of.

        Raises
        ------
        InputError
            Naming the setting, what was found and what was expected.
        """
        for name in ("epochs", "patience", "train_batch"):
            check_whole_number(name, getattr(self, name), 1)
        check_whole_number("seed", self.seed, 0, LARGEST_SEED)
        check_share("held_out", self.held_out)
        if not 0 < self.learning_rate <= 1:
            raise InputError(f"learning_rate is {self.learning_rate!r}: expected above 0 and up to 1, e.g. 1e-5")
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}: expected {' or '.join(PRECISIONS)}")

    def settings(self) -> dict[str, object]:
        """What decides the result, in JSON's types."""
        others = ("checkpoint", "report")
        return {name: value for name, value in vars(self).items() if name not in others} | {"freeze": list(self.freeze)}


@dataclass
class Progress:
    """Where a training is, and what came of it.

    Attributes
    ----------
    epoch, best_epoch : int
        Epochs done, and after which of them the loss on held-out images was lowest.
    losses, accuracies : list of float
        On the held-out images, before the training and after each epoch.
    """

    epoch: int = 0
    best_epoch: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def train(backbone: Backbone, images: Tensor, recipe: TrainingRecipe) -> Adaptation:
    """Train a copy of a backbone to find pasted pieces; keep the epoch with the lowest held-out loss.

    The same seed gives the same weights on the same machine, whether the training was cut off and taken up or not.

    Parameters
    ----------
    backbone : Backbone
        It is left as it is, and gives the device.
    images : Tensor (n, 3, H, W), uint8
    recipe : TrainingRecipe

    Raises
    ------
    InputError
        If the settings make no sense, there are too few images, the backbone cannot be trained, or nothing was learned.
    """
    recipe.check()
    training = _Training(backbone, images, recipe)
    training.run()
    return training.result()


class _Training:
    """Everything that a training needs at each step."""

    def __init__(self, backbone: Backbone, images: Tensor, recipe: TrainingRecipe) -> None:
        self.backbone, self.images, self.recipe = backbone, images, recipe
        self.used, self.held_out = hold_out(len(images), recipe.held_out, recipe.seed)
        network, self.named = trainable_copy(backbone)
        self.network = network.to(backbone.device).to(memory_format=torch.channels_last)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.task = ThreeWay(backbone.channels).to(backbone.device)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": _trained(self.named, recipe.freeze), "lr": recipe.learning_rate},
                {"params": list(self.task.parameters()), "lr": max(recipe.learning_rate, HEAD_LEARNING_RATE)},
            ],
            weight_decay=WEIGHT_DECAY,
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.mean, self.std = (
            torch.tensor(values, device=backbone.device).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std)
        )
        self.key = (
            f"{backbone.name} {backbone.weights_hash} {','.join(backbone.layers)} {recipe.settings()} "
            f"{hash_of({'': images})}"
        )
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}

    def run(self) -> None:
        """Train until all epochs are done, or no more is gained."""
        recipe, progress = self.recipe, self.progress
        if not self._resume():
            self._measure_held_out()
        while progress.epoch < recipe.epochs and progress.epoch - progress.best_epoch < recipe.patience:
            self._train_epoch()
            progress.epoch += 1
            loss = self._measure_held_out()
            if recipe.report is not None:
                recipe.report(progress.epoch, recipe.epochs, loss, progress.accuracies[-1])
            if recipe.checkpoint is not None:
                self._write_checkpoint(recipe.checkpoint)
            if not math.isfinite(loss):
                break

    def result(self) -> Adaptation:
        """The best network.

        Raises
        ------
        InputError
            If it is not better than chance on the held-out images.
        """
        progress = self.progress
        loss, accuracy = progress.losses[progress.best_epoch], progress.accuracies[progress.best_epoch]
        if progress.best_epoch == 0 or not accuracy > CHANCE + LEARNED:
            lost = "diverged" if not math.isfinite(progress.losses[-1]) else "not learned"
            raise InputError(
                f"the training has {lost}: on {len(self.held_out)} held-out images the accuracy is {accuracy:.2f} at "
                f"best (chance {CHANCE:.2f}) and the loss {loss:.3g}, {progress.losses[0]:.3g} before; nothing is "
                "written; try another learning rate, more epochs or more images"
            )
        report = {
            "method": "3-way",
            "settings": self.recipe.settings(),
            "best_epoch": progress.best_epoch,
            "losses": progress.losses,
            "accuracies": progress.accuracies,
            "chance": CHANCE,
        }
        return Adaptation(self.best, self.used, self.held_out, report)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        recipe, epoch = self.recipe, self.progress.epoch
        rng = np.random.default_rng((recipe.seed, epoch))
        order = rng.permutation(self.used)
        batches = _batches(order, recipe.train_batch)
        for step, indices in enumerate(told(batches, f"epoch {epoch + 1} of {recipe.epochs}", len(batches), "steps")):
            done = (epoch + step / len(batches)) / recipe.epochs
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * done)) / 2
            loss, _ = self._loss_and_accuracy(indices, rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    @torch.no_grad()
    def _measure_held_out(self) -> float:
        """Note loss and accuracy on the held-out images, on the same examples every time; keep the best network."""
        rng = np.random.default_rng((self.recipe.seed, LARGEST_SEED))
        batches = _batches(np.tile(self.held_out, HELD_OUT_ROUNDS), self.recipe.train_batch)
        results = [[float(value) for value in self._loss_and_accuracy(indices, rng)] for indices in batches]
        loss, accuracy = np.average(results, axis=0, weights=list(map(len, batches))).tolist()
        progress = self.progress
        progress.losses.append(loss)
        progress.accuracies.append(accuracy)
        if progress.epoch and loss < progress.losses[progress.best_epoch]:
            progress.best_epoch = progress.epoch
            self.best = self._state()
        return float(loss)

    def _loss_and_accuracy(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Loss and accuracy on examples made of some images."""
        made = [self.task.examples(self.images[int(index)], rng) for index in indices]
        pixels = torch.cat([images for images, _ in made]).to(self.backbone.device).float().div_(255)
        classes = torch.cat([classes for _, classes in made]).to(self.backbone.device)
        normalized = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        kind, dtype = self.backbone.device.type, PRECISIONS[self.recipe.precision]
        with torch.autocast(kind, dtype, enabled=dtype is not torch.float32):
            maps = self.network(normalized)
        return self.task.loss_and_accuracy([layer.float() for layer in maps], classes)

    # -- state -------------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        names = self.backbone.state_in_use()
        return {
            name: tensor.detach().cpu().clone().contiguous()
            for name, tensor in self.named.state_dict().items()
            if name in names
        }

    def _write_checkpoint(self, path: str) -> None:
        tensors = {
            "network": self._state(),
            "head": dict(self.task.state_dict()),
            "best": self.best,
            "optimizer": self.optimizer.state_dict()["state"],
        }
        write_checkpoint(path, "fine-tuning", self.key, Checkpoint(dict(vars(self.progress)), tensors))

    def _resume(self) -> bool:
        """Take up a training from its checkpoint, if there is one."""
        checkpoint = read_checkpoint(self.recipe.checkpoint, "fine-tuning", self.key)
        if checkpoint is None:
            return False
        self.named.load_state_dict(checkpoint.tensors["network"], strict=False)
        self.task.load_state_dict(checkpoint.tensors["head"])
        restore_optimizer(self.optimizer, checkpoint.tensors["optimizer"])
        self.best = checkpoint.tensors.get("best", {})
        for name, value in checkpoint.numbers.items():
            setattr(self.progress, name, value)
        return True


def _trained(named: nn.Module, freeze: Sequence[str]) -> list[nn.Parameter]:
    """The parameters that are trained: all but those of batch norms, and of the parts to freeze."""
    norms = [name for name, module in named.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    names = [name for name, _ in named.named_parameters()]
    for part in freeze:
        if not any(_within(name, part) for name in names):
            parts = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))
            raise InputError(f"nothing to freeze is called {part!r}: expected some of {parts}, or the start of a name")
    for name, parameter in named.named_parameters():
        parameter.requires_grad_(not any(_within(name, part) for part in (*norms, *freeze)))
    trained = [parameter for parameter in named.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("every part of the network is frozen: leave one to train")
    return trained


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _batches(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return np.split(indices, range(size, len(indices), size))
