"""Tensors from one device to another, with all that holds them."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

HOST = torch.device("cpu")
"""Main memory, and the processor that computes in it."""

_PACKAGE = __name__.partition(".")[0]


def moved(value: T, device: torch.device) -> T:
    """A value whose tensors lie on a device: a tensor, a sequence or mapping of such values, or an object of ours.

    Objects are copied with all that their attributes hold, and what two of them share is copied once. What has no
    tensor elsewhere is given back as it is, and so are objects that this package does not define.

    Parameters
    ----------
    value
        Without cycles.
    device : torch.device
    """
    copies: dict[int, Any] = {}

    def move(found: Any) -> Any:
        if id(found) not in copies:
            copies[id(found)] = _with_parts(found, move) if not isinstance(found, Tensor) else found.to(device)
        return copies[id(found)]

    result: T = move(value)
    return result


def supports_devices(value: object) -> bool:
    """Whether the class of an object says that it takes tensors on any device.

    Subclasses that this package does not define say so themselves: what they inherit was not written for their code.
    """
    kind = type(value)
    is_own = kind.__module__.partition(".")[0] == _PACKAGE or "supports_devices" in vars(kind)
    return is_own and bool(getattr(kind, "supports_devices", False))


def _with_parts(value: Any, move: Any) -> Any:
    """A value with its parts moved; itself if none of them is another then."""
    if isinstance(value, (list, tuple)):
        items = [move(each) for each in value]
        if all(item is each for item, each in zip(items, value, strict=True)):
            return value
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    if isinstance(value, dict):
        entries = {name: move(each) for name, each in value.items()}
        return value if all(entries[name] is each for name, each in value.items()) else entries
    is_ours = type(value).__module__.partition(".")[0] == _PACKAGE and hasattr(value, "__dict__")
    attributes = _with_parts(vars(value), move) if is_ours else {}
    if not is_ours or attributes is vars(value):
        return value
    copied = copy.copy(value)
    vars(copied).update(attributes)  # also of a frozen dataclass
    return copied
