"""The state of a training in one file, to go on from: tensors and numbers in safetensors, never pickle."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json

_HEADER = "padim_zoo_checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    numbers : dict
        Everything that is no tensor, in JSON's types.
    tensors : dict of str to (dict of str to Tensor)
        Groups of tensors by name: of a network, of an optimizer (the ``state`` of its ``state_dict``) …
    """

    numbers: dict[str, Any]
    tensors: dict[str, dict[str, Any]]


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
    arrays = dict(_flat(checkpoint.tensors))
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
            document: dict[str, Any] = read_json((file.metadata() or {})[_HEADER])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, ValueError, KeyError):
        document, arrays = {}, {}
    if document.get("kind") != kind:
        raise InputError(f"{path} is not a checkpoint of a {kind}: name another file, or remove it")
    if document["key"] != key:
        raise InputError(
            f"{path} is the checkpoint of another training (backbone, images or settings differ): name another file, "
            "or remove it"
        )
    return Checkpoint(document["numbers"], _grouped(arrays))


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take over the state that was written as a group: momenta and counts of steps, by the parameter's number."""
    states = {int(number): state for number, state in _grouped(tensors).items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _flat(groups: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Groups of values, and groups within them, under names ``group.name``."""
    for name, value in groups.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", torch.as_tensor(value).detach().cpu().contiguous()


def _grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Values by group, the part of their names before the first dot."""
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    return dict(groups)
