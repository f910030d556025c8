"""Fits a model of anomalib to images in memory, and scores images by it, without anomalib's engine around it."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from padim_zoo.plugin import InputError

ONE_PASS = 1


def without_geometry(pre_processor: Any, size: tuple[int, int]) -> Any:
    """A pre-processor that leaves the geometry of images as it is, and does whatever else another does."""
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import CenterCrop, Compose, Resize

    def steps(transform: Any) -> list[Any]:
        if isinstance(transform, Compose):
            return [step for part in transform.transforms for step in steps(part)]
        return [] if transform is None or isinstance(transform, (Resize, CenterCrop)) else [transform]

    # Images have this size, so the resize does nothing but tell a model that asks what size they have.
    return PreProcessor(Compose([Resize(size, antialias=True), *steps(getattr(pre_processor, "transform", None))]))


def build(model: Any, size: tuple[int, int], options: dict[str, Any]) -> Any:
    """A model without post-processor, evaluator and visualizer, for images of some size."""
    try:
        usual = model.configure_pre_processor(size)
    except (TypeError, ValueError):  # one that wants other sizes than this, or says so itself
        usual = model.configure_pre_processor()
    pre_processor = without_geometry(usual, size)
    return model(pre_processor=pre_processor, post_processor=False, evaluator=False, visualizer=False, **options)


def train(
    make: Callable[[], Any], images: Tensor, *, seed: int, batch_size: int, epochs: int | None, device: str
) -> Any:
    """Fit a model that ``make`` builds on normal images (N, 3, H, W), uint8.

    Parameters
    ----------
    make : callable
        Builds it; what is drawn in that and in the training depends on ``seed``.
    epochs : int, optional
        As many as the model itself wants by default.

    Raises
    ------
    InputError
        If the model does not say how many epochs it wants.
    """
    from lightning.pytorch import LightningDataModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    class Normal(LightningDataModule):
        """What models ask their trainer for."""

        train_batch_size = batch_size

        def train_dataloader(self) -> Any:
            """Shuffled batches."""

            def batch_of_rows(rows: list[tuple[Tensor]]) -> Any:
                return batch_of(torch.stack([image for (image,) in rows]))

            return DataLoader(TensorDataset(images), batch_size, shuffle=True, collate_fn=batch_of_rows)

    with quiet(), drawing_from(seed), tempfile.TemporaryDirectory() as folder:
        model = make()
        wanted = {key: value for key, value in model.trainer_arguments.items() if key not in ("devices", "accelerator")}
        if epochs is not None:
            wanted |= {"max_epochs": epochs, "max_steps": -1}
        if not {"max_epochs", "max_steps"} & set(wanted):
            raise InputError(
                f"anomalib/{type(model).__name__} is trained for as long as one likes: give the number of epochs, e.g. "
                f"anomalib/{type(model).__name__}(max_epochs=100)"
            )
        trainer = Trainer(
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            **wanted,
        )
        trainer.fit(model, datamodule=Normal())
    return model.eval().to(device)


@torch.no_grad()
def score(model: Any, images: Tensor, batch_size: int, device: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Raw scores (N,) and maps (N, H, W), if it makes any, of images (N, 3, H, W), uint8.

    Raises
    ------
    InputError
        If its maps do not have the size of the images.
    """
    scores: list[Tensor] = []
    maps: list[Tensor] = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].to(device).float().div_(255)
        outputs = model.model(model.pre_processor.transform(batch))
        if outputs.anomaly_map is not None:
            maps.append(outputs.anomaly_map.float().cpu().reshape(len(batch), *outputs.anomaly_map.shape[-2:]))
        own = outputs.pred_score if outputs.pred_score is not None else maps[-1].amax((1, 2))
        scores.append(own.float().cpu().reshape(len(batch)))
    if maps and maps[0].shape[1:] != images.shape[2:]:
        raise InputError(
            f"anomalib/{type(model).__name__} makes maps of {tuple(maps[0].shape[1:])} pixels for images of "
            f"{tuple(images.shape[2:])}: choose a --resize and a --crop that it can take"
        )
    return torch.cat(scores).numpy(), torch.cat(maps).numpy() if maps else None


def batch_of(images: Tensor) -> Any:
    """Normal images (N, 3, H, W), uint8, as a batch of anomalib."""
    from anomalib.data import ImageBatch

    n, _, height, width = images.shape
    return ImageBatch(
        image=images.float().div_(255),
        gt_label=torch.zeros(n, dtype=torch.bool),
        gt_mask=torch.zeros(n, height, width, dtype=torch.bool),
    )


def state_of(model: Any) -> dict[str, Tensor]:
    """Parameters and buffers that a fitted model consists of."""
    return {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}


def load_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a freshly built model the state of a fitted one, whose buffers may have grown.

    Raises
    ------
    InputError
        If it does not fit.
    """
    for name, tensor in state.items():
        parent, _, last = name.rpartition(".")
        module = model.get_submodule(parent)
        if last in module._buffers and module._buffers[last] is not None:
            module._buffers[last] = tensor.clone()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the file does not hold this model's state: {' '.join(str(error).split())[:200]}") from None


@contextlib.contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """All global generators start from a seed inside, and go on afterwards as if nothing had been drawn."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  anomalib draws from it
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What Lightning and anomalib tell of their trainers, and their progress bars, are not for a table of results."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "anomalib")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
