"""Where a backbone's weights come from: the library's own, a file, a saved detector, or a seed."""

from __future__ import annotations

import hashlib
import pickle
import re
import socket
import urllib.request
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from padim_zoo.backbones.discriminants import projections_in
from padim_zoo.backbones.state_dict import State, check_values, first_names, tensors_by_name, without_prefix
from padim_zoo.core.errors import InputError

# Batch norms count steps for training only, and not every file has these tensors.
_COUNTER = "num_batches_tracked"

Weights = str | Path | State
"""``"default"``, ``"none"``, the path of a file, or tensors by name."""


def find_state(
    weights: Weights, *, name: str, default: Callable[[], State], default_name: str = "default"
) -> tuple[State | None, str]:
    """The tensors that ``weights`` stands for.

    Parameters
    ----------
    weights : str, path or mapping
        ``"default"``, ``"none"``, the path of a file, or the tensors themselves.
    name : str
        The backbone, for error messages.
    default : callable
        Gives the library's weights.
    default_name : str
        Another name of these, which is then their source.

    Returns
    -------
    state : mapping or None
        Tensors by name; None for ``"none"``, when they are to be drawn.
    source : str
        ``default_name``, ``"none"``, ``"embedded"`` or the path.

    Raises
    ------
    InputError
        If they can be neither read nor downloaded.
    """
    if isinstance(weights, Mapping):
        return weights, "embedded"
    if weights == "none":
        return None, "none"
    if weights in ("default", default_name):
        try:
            return default(), default_name
        except (OSError, RuntimeError) as error:  # of the network, or of the libraries for a broken or missing file
            raise InputError(
                f"the default weights of {name} cannot be had ({_line(error)}); without a network use "
                "--weights none, --weights PATH or --backbones builtin"
            ) from error
    return read_weights(weights), str(weights)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a ``.safetensors`` file, or a ``.pth``, ``.pt`` or ``.ckpt`` file without objects in it.

    Where a training script put them into an entry such as ``state_dict``, they are taken out with a warning.

    Raises
    ------
    InputError
        If the file is missing, of another kind or broken.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"the weights file {path} {problem}: expected a file, or 'default' or 'none'")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read as safetensors: {_line(error)}") from None
    if path.suffix not in (".pth", ".pt", ".ckpt"):
        expected = ".safetensors, .pth, .pt or .ckpt"
        raise InputError(f"{path} is not a weights file: expected {expected}; convert it to .safetensors")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types of tensors that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        hint = "a file that holds more than tensors has to be converted to .safetensors"
        raise InputError(f"{path} cannot be read as tensors alone: {_line(error)}; {hint}") from None
    return tensors_by_name(content, path)


def install(
    module: nn.Module, state: State | None, *, name: str, source: str, all_names: Collection[str] = ()
) -> State:
    """Load ``state`` into a network that has been cut, and say which of its tensors are in use.

    Parameters
    ----------
    module : Module
        The network; its parameter names are those of the file.
    state : mapping or None
        Tensors by name; those of parts that were cut off are ignored. None draws them: see :func:`random_state`.
    name, source : str
        The backbone and the weights, for error messages.
    all_names : collection of str
        The names of the whole network's tensors, before it was cut, if a file may have more of them than ``module``.

    Returns
    -------
    mapping of str to Tensor
        The tensors of ``module`` after loading, without the counters of batch norms, and the projections that the file
        brings along.

    Raises
    ------
    InputError
        If a tensor is missing, has another shape, or belongs to a part in use that has no such tensor; or if its values
        are no weights.
    """
    used = _in_use(module)
    origin = "the tensors given" if source == "embedded" else source
    if state is None:
        state = random_state(used)
    state, prefix = without_prefix(state, used)
    if prefix:
        warnings.warn(f"{origin}: the weights are those whose names begin with {prefix}", stacklevel=2)
    problems = _mismatches(state, used, all_names)
    if problems:
        raise InputError(f"{origin} does not fit {name}: {problems}")
    check_values(state, used, origin)
    module.load_state_dict({key: state[key] for key in used}, strict=False)
    return {**_in_use(module), **projections_in(state)}


def covers(module: nn.Module, state: State) -> bool:
    """Whether ``state`` has a tensor for every one that ``module`` uses."""
    used = _in_use(module)
    return used.keys() <= without_prefix(state, used)[0].keys()


def _in_use(module: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in module.state_dict().items() if not key.endswith(_COUNTER)}


def _mismatches(state: State, used: State, all_names: Collection[str]) -> str:
    """What keeps ``state`` from fitting, in words; empty if it fits."""
    missing = [key for key in used if key not in state]
    reshaped = [
        f"{key}: found {_size(state[key])}, expected {_size(used[key])}"
        for key in used
        if key in state and state[key].shape != used[key].shape
    ]
    # Extra tensors are those of later layers and heads, of whatever kind; within a part in use they are a mistake.
    parts = {key.split(".")[0] for key in used}
    extra = [key for key in state if key not in used and key not in all_names and not key.endswith(_COUNTER)]
    unexpected = [key for key in extra if key.split(".")[0] in parts]
    counts = (("missing", missing), ("of another shape", reshaped), ("unexpected", unexpected))
    problems = "; ".join(f"{len(keys)} {kind} ({first_names(keys)})" for kind, keys in counts if keys)
    if missing and state and not set(used) & set(state):
        return f"{problems}: its names are those of another architecture, such as {first_names(list(state)[:2])}"
    absent = sorted(parts - {key.split(".")[0] for key in state})
    if absent and set(absent) < parts and missing == [key for key in missing if key.split(".")[0] in absent]:
        problems += f": take a file that holds {', '.join(absent)} too, or leave these out by --layers"
    return problems


def random_state(used: State) -> dict[str, Tensor]:
    """Seeded random weights of these names and shapes: the same on every machine, whatever else draws numbers.

    Weights of two or more dimensions are normal with variance 2 / fan-in (He et al. 2015, equation 10), each from a
    seed that its name gives, so that a layer's weights do not depend on where the network is cut. Biases are zero;
    other vectors keep the constants of the untrained network.
    """
    state = {}
    for name, tensor in used.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            state[name] = torch.zeros_like(tensor) if name.endswith("bias") else tensor
            continue
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        fan_in = tensor[0].numel()
        values = np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(tensor.shape))
        state[name] = torch.from_numpy((values * np.sqrt(2 / fan_in)).astype(np.float32))
    return state


def require_connection(url: str) -> None:
    """Find out within seconds that there is no network: the libraries would try again for a minute.

    Raises
    ------
    OSError
        If the host of ``url`` cannot be reached. A proxy is left to the libraries.
    """
    host = urlsplit(url).hostname
    if host is not None and not urllib.request.getproxies():
        socket.create_connection((host, 443), timeout=5).close()


def _line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text if len(text) <= 120 else text[:117] + "..."


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"
