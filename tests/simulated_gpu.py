"""A GPU that is not there: tensors say that they lie on it, and compute in main memory.

What would fail on a GPU fails here too: operations on tensors of two devices, and ``numpy()`` of one that is elsewhere.
What would make the processor wait for a GPU is counted: copies to main memory, and values that are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)

aten = torch.ops.aten
MAY_DIFFER = {aten.copy_, aten._to_copy, aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}
"""Operations whose tensors may lie on two devices: copies, and numbers of rows in main memory."""
READS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.equal,
    aten.masked_select,
    aten._unique2,
    aten.bincount,
    aten.linalg_cholesky_ex,  # with check_errors alone, which linalg.cholesky is
    aten._linalg_check_errors,
}
"""Operations whose shapes or values the processor waits for."""


@dataclass
class Traffic:
    """What passed between the devices.

    Attributes
    ----------
    to_host : list of (operation, shape, bytes)
        Copies to main memory.
    to_device : list of (operation, shape, bytes)
        Copies the other way, and numbers of rows in main memory that an operation brings along.
    reads : list of str
        Operations whose values or shapes were waited for.
    """

    to_host: list[tuple[str, tuple[int, ...], int]] = field(default_factory=list)
    to_device: list[tuple[str, tuple[int, ...], int]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)

    def clear(self) -> None:
        for each in (self.to_host, self.to_device, self.reads):
            each.clear()


class OnGPU(torch.Tensor):
    """A tensor that says it lies on the GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        made: OnGPU = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=GPU
        )
        made.held = held
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.clone()
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(_CURRENT[-1], func, args, kwargs or {})


_CURRENT: list[Traffic] = [Traffic()]


class SimulatedGPU(TorchDispatchMode):
    """Within it, the device ``cuda`` is simulated."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._can_decompose():  # in inference mode, what torch composes of other operations comes as it is
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return _run(self.traffic, func, args, kwargs)


def _run(traffic: Traffic, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    on_gpu = [each for each in given if isinstance(each, OnGPU)]
    wanted = kwargs.get("device")
    wanted = None if wanted is None else torch.device(wanted)
    name, packet = func._schema.name, func._overloadpacket
    to_gpu = (wanted is not None and wanted.type == "cuda") or (wanted is None and bool(on_gpu))
    if packet is aten.copy_:
        to_gpu = isinstance(args[0], OnGPU)
        _count(traffic, name, args[1], to_gpu)
    elif packet is aten._to_copy:
        _count(traffic, name, args[0], to_gpu)
    elif on_gpu and len(on_gpu) < len(given):
        others = [each for each in given if not isinstance(each, OnGPU)]
        if packet in MAY_DIFFER and isinstance(args[0], OnGPU):
            for each in others:
                _count(traffic, name, each, True)
        elif any(each.ndim for each in others):
            shapes = [(str(each.device), tuple(each.shape)) for each in given]
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {shapes}")
    masks = packet in MAY_DIFFER and any(each.dtype == torch.bool for each in given[1:]) and "index" in name
    if on_gpu and (packet in READS or masks):
        traffic.reads.append(name)
    held = {id(each): each for each in on_gpu}

    def unwrap(each: Any) -> Any:
        return each.held if isinstance(each, OnGPU) else each

    owners = {id(each.held): each for each in held.values()}
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    result = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if packet is aten._local_scalar_dense or not to_gpu:
        if packet is aten._to_copy and any(result is each.held for each in on_gpu):
            result = result.clone()
        return result

    def wrap(each: Any) -> Any:
        if not isinstance(each, Tensor) or isinstance(each, OnGPU):
            return each
        return owners[id(each)] if id(each) in owners else OnGPU(each)

    return tree_map(wrap, result)


def _count(traffic: Traffic, name: str, tensor: Tensor, to_gpu: bool) -> None:
    if isinstance(tensor, OnGPU) != to_gpu:
        entries = traffic.to_device if to_gpu else traffic.to_host
        entries.append((name, tuple(tensor.shape), tensor.numel() * tensor.element_size()))


@contextmanager
def simulated_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    """Make ``device="cuda"`` work, and count what passes between the devices."""
    mode = SimulatedGPU()
    _CURRENT.append(mode.traffic)
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    if not torch.cuda.is_available():
        torch._C._ensureCUDADeviceGuardSet()
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    try:
        with mode:
            yield mode.traffic
    finally:
        _CURRENT.pop()
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
