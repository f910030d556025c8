"""Reads pickles without running them: tensors, arrays and plain data come out, anything else as an inert stand-in.

A pickle is a program that names functions to call. Here only the few that build tensors, arrays and containers are
ever called; every other name, a class of anomalib's say, becomes a :class:`Stub` object that remembers its name,
what it was called with and the state it was given. So a checkpoint can be read without the library that wrote it, and
a malicious one does nothing.
"""

from __future__ import annotations

import collections
import io
import pickle
import textwrap
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from padim_zoo.core.errors import InputError
from padim_zoo.core.file_type import file_type


class Stub:
    """What stands in for an object of a class that is not loaded.

    Attributes
    ----------
    global_name : str
        Module and name of its class, or of the function that made it.
    arguments : tuple
        What that was called with.
    state
        What the object was told of itself: for most, its attributes by name.
    """

    global_name = ""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Stub:
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = {}
        return made

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state

    # What the opcodes for lists, sets and dictionaries do to instances of their subclasses.
    def append(self, item: Any) -> None:
        """Ignore an item."""

    def extend(self, items: Any) -> None:
        """Ignore items."""

    def add(self, item: Any) -> None:
        """Ignore an item."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(self.state, dict):
            self.state[key] = value

    def __hash__(self) -> int:
        return id(self)


class StubUnpickler(pickle.Unpickler):
    """An unpickler that calls nothing but what builds tensors, arrays and containers."""

    def find_class(self, module: str, name: str) -> Any:
        """The function or class of that name if it is harmless, else a new kind of :class:`Stub`."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return _HARMLESS.get((module, name)) or type("Stub", (Stub,), {"global_name": f"{module}.{name}"})


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    made: np.ndarray = np.ndarray.__new__(np.ndarray, shape, dtype)
    return made


def _scalar(dtype: np.dtype, data: bytes = b"") -> Any:
    if dtype.hasobject:
        raise pickle.UnpicklingError("an array of objects")
    return np.frombuffer(data, dtype)[0]


_PLAIN = (set, frozenset, dict, list, tuple, int, float, complex, bool, str, bytes, bytearray)
_HARMLESS: dict[tuple[str, str], Any] = {
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in _PLAIN},
    **{(module, "_reconstruct"): _reconstruct for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{(module, "scalar"): _scalar for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{
        ("torch._utils", name): getattr(torch._utils, name)
        for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
    },
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""What a pickle may call, by module and name: what builds tensors, arrays and containers."""


def read_torch_file(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors on the CPU.

    Raises
    ------
    InputError
        If the file is missing or is no such file.
    """
    _expect_file(path)
    _refuse_torchscript(path)
    reader: Any = types.SimpleNamespace(
        Unpickler=StubUnpickler, load=lambda file, **_: StubUnpickler(file).load(), __name__="inert"
    )
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    except Exception as error:  # whatever a damaged or hostile file makes of the readers
        raise _refusal(path, "a file of torch.save (.ckpt or .pt)", ("a zip archive", "a pickle"), error) from None


def _refuse_torchscript(path: Path) -> None:
    """Refuse what torch.load would hand on to torch.jit.load: a program, which no unpickler of ours gets to see."""
    try:
        names = torch._C.PyTorchFileReader(str(path)).get_all_records()
    except RuntimeError:  # no zip archive
        return
    if "constants.pkl" in names:
        raise InputError(f"{path} is a TorchScript program, which would be run: expected tensors saved by torch.save")


def read_pickle(path: Path) -> Any:
    """What ``pickle.dump`` wrote, as far as it is arrays and plain data.

    Raises
    ------
    InputError
        If the file is missing or is no pickle.
    """
    _expect_file(path)
    try:
        return StubUnpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:
        raise _refusal(path, "a pickle", ("a pickle",), error) from None


def _expect_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: expected a file")


def _refusal(path: Path, wanted: str, kinds: tuple[str, ...], error: Exception) -> InputError:
    kind = file_type(path)
    if kind not in kinds:
        return InputError(f"{path} is {kind}: expected {wanted}")
    reason = textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" …")
    return InputError(f"{path} cannot be read as {wanted}; it is cut off, damaged or something else: {reason}")
