"""The state of a training in one file, to go on from: tensors and numbers in safetensors, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.errors import InputError

_HEADER = "padim_zoo_checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    numbers : dict
        Everything that is no tensor, in JSON's types.
    tensors : dict of str to (dict of str to Tensor)
        Groups of tensors by name: of a network, of an optimizer (:func:`optimizer_tensors`) …
    """

    numbers: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def write_checkpoint(path: str | Path, kind: str, key: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : path
    kind : str
        What is trained, in a word.
    key : str
        All that a training must agree in to be gone on with.
    checkpoint : Checkpoint
    """
    arrays = {
        f"{group}.{name}": tensor.detach().cpu().contiguous()
        for group, tensors in checkpoint.tensors.items()
        for name, tensor in tensors.items()
    }
    metadata = {_HEADER: json.dumps({"kind": kind, "key": key, "numbers": checkpoint.numbers})}
    write_whole(path, lambda temporary: save_file(arrays, temporary, metadata=metadata))


def read_checkpoint(path: str | Path | None, kind: str, key: str) -> Checkpoint | None:
    """The checkpoint in a file; None without a path, or where there is no file yet.

    Raises
    ------
    InputError
        If the file is no checkpoint of this kind, or that of another training.
    """
    if path is None or not Path(path).exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            document: dict[str, Any] = json.loads((file.metadata() or {})[_HEADER])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, ValueError, KeyError):
        document, arrays = {}, {}
    if document.get("kind") != kind:
        raise InputError(f"{path} is no checkpoint of a {kind}: name another file, or remove it")
    if document["key"] != key:
        raise InputError(
            f"{path} is the checkpoint of another training (backbone, images or settings differ): name another file, "
            "or remove it"
        )
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, array in arrays.items():
        group, _, rest = name.partition(".")
        tensors.setdefault(group, {})[rest] = array
    return Checkpoint(document["numbers"], tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer: momenta and counts of steps, by the parameter's number."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take over what :func:`optimizer_tensors` gave."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        states.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
