"""What a training script saved, taken out of its wrappings, and whether its tensors can be weights at all."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError

State = Mapping[str, Tensor]

ENTRIES = ("state_dict", "model_state_dict", "model", "teacher", "model_ema", "ema", "backbone", "encoder", "net")
"""The entries that training scripts put a state dict in. Of several in one file the first is taken."""

_PREFERRED = ("teacher.", "ema.", "encoder_q.")
"""Of several networks in one file, the one that its authors evaluate."""


def tensors_by_name(content: Any, source: object) -> dict[str, Tensor]:
    """The state dict in what a file holds; the entries that lead to it are taken off, and a warning names them.

    Raises
    ------
    InputError
        If there is none, or it holds other things than tensors by name.
    """
    entries: list[str] = []
    while isinstance(content, Mapping):
        entry = next((name for name in ENTRIES if isinstance(content.get(name), Mapping)), None)
        if entry is None:
            break
        entries.append(entry)
        content = content[entry]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{source} holds no tensors by name: expected a state dict")
    nameless = [repr(key) for key in content if not isinstance(key, str)]
    if nameless:
        raise InputError(f"{source} has keys that are not names ({first_names(nameless)}): expected a state dict")
    strangers = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise InputError(f"{source} has values that are not tensors ({first_names(strangers)}): expected a state dict")
    if entries:
        warnings.warn(f"{source}: the weights are those in {' / '.join(entries)}", stacklevel=2)
    return dict(content)


def without_prefix(state: State, names: Collection[str]) -> tuple[State, str]:
    """The tensors of a network that stands in a larger one, such as ``module.`` or ``model.backbone.``.

    Parameters
    ----------
    state : mapping
        Tensors by the names of a file.
    names : collection of str
        Those of the network's own tensors.

    Returns
    -------
    state : mapping
        As it is, unless more of the names are there after a prefix.
    prefix : str
        What was taken off; names without it were left out.
    """
    if all(name in state for name in names):
        return state, ""
    wanted = set(names)
    matches = Counter({"": sum(name in state for name in wanted)})
    for key in state:
        parts = key.split(".")
        for cut in range(1, len(parts)):
            if ".".join(parts[cut:]) in wanted:
                matches[".".join(parts[:cut]) + "."] += 1
    most = max(matches.values(), default=0)
    best = [prefix for prefix, count in matches.items() if count == most]
    if "" in best or 2 * most < len(names):  # names such as conv1.weight also stand deeper in other architectures
        return state, ""
    prefix = next((one for wish in _PREFERRED for one in best if f".{wish}" in f".{one}"), best[0])
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}, prefix


def check_values(state: State, used: State, source: str) -> None:
    """Refuse tensors that are in use and cannot be the weights of a trained network.

    Parameters
    ----------
    state : mapping
        Tensors by name, of the right shapes.
    used : mapping
        Those of the network, which they replace.
    source : str
        Where they come from, for messages.

    Raises
    ------
    InputError
        Naming the tensors and what is wrong with them, in one line.
    """
    problems: dict[str, list[str]] = {}
    for name, own in used.items():
        problem = _problem(state[name], own, is_variance=name.endswith("running_var"))
        if problem:
            problems.setdefault(problem, []).append(name)
    if problems:
        told = "; ".join(f"{len(names)} {problem} ({first_names(names)})" for problem, names in problems.items())
        raise InputError(f"{source} holds no weights of a trained network: {told}; take the float32 weights of one")
    constant = [name for name, own in used.items() if own.ndim > 1 and own.numel() > 1 and _is_constant(state[name])]
    if constant:
        warnings.warn(
            f"{source}: {len(constant)} tensors hold one value throughout ({first_names(constant)}), as of a network "
            "that was not wholly loaded when it was saved",
            stacklevel=2,
        )


def _problem(tensor: Tensor, own: Tensor, *, is_variance: bool) -> str:
    """What keeps a tensor from taking the place of the network's own, in words; empty if nothing does."""
    if tensor.is_meta:
        return "without values"
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_complex():
        return "complex"
    if not own.is_floating_point():
        return ""
    if not tensor.is_floating_point():
        return "of whole numbers, as of a quantized network"
    values = tensor.to(own.dtype)
    if not bool(values.isfinite().all()):
        return "with NaN or infinite values"
    return "with negative variances" if is_variance and bool((values < 0).any()) else ""


def _is_constant(tensor: Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all())


def first_names(keys: Sequence[str]) -> str:
    """Four of some names, for a message."""
    return ", ".join(keys[:4]) + (", …" if len(keys) > 4 else "")
