"""Reads pickles without running them: tensors, arrays and plain data come out, anything else as an inert stand-in.

A pickle is a program that names functions to call. Here only constructors of our own are ever called, which build
tensors, arrays and containers of what the file holds. Every other name, a class of anomalib's say, becomes a
:class:`Stub` object that remembers its name, what it was called with and the state it was given. So a checkpoint can be
read without the library that wrote it, and a malicious one does nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.file_type import file_type

LARGEST_CONTENT = 10_000_000
"""Items of all containers of a file, those that lie in several places counted in each."""


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


class _Constructor:
    """A function that a pickle may call. Unlike a plain function it has no attributes that a pickle could set."""

    __slots__ = ()
    made_by: ClassVar[Callable[..., Any]]

    def __call__(self, *arguments: Any) -> Any:
        return type(self).made_by(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("attributes of a function")


def _constructor(function: Any) -> _Constructor:
    made: _Constructor = type("Constructor", (_Constructor,), {"__slots__": (), "made_by": staticmethod(function)})()
    return made


class _Dictionary(dict[Any, Any]):
    """An ``OrderedDict``, whose attributes are ignored."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage:
    """The numbers of a tensor, or of several."""

    __slots__ = ("values",)

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("attributes of a storage")


class _Dtype:
    """The type of NumPy's numbers, of one of a few forms."""

    __slots__ = ("name",)

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[<>|=]?([biuf][1248]|[?])", name):
            raise pickle.UnpicklingError(f"arrays of the type {str(name)[:40]!r}")
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """``(version, byte order, …)``; all else belongs to types of other forms."""
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise pickle.UnpicklingError("arrays of another type")
        self.name = state[1] + self.name.lstrip("<>|=")

    def array(self, content: Any) -> np.ndarray:
        """The numbers in some bytes."""
        if not isinstance(content, (bytes, bytearray)):
            raise pickle.UnpicklingError("an array of objects")
        return np.asarray(np.frombuffer(bytes(content), np.dtype(self.name)))


class _Array:
    """An array of NumPy's, until it is known what it holds."""

    __slots__ = ("values",)

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        """``(version, shape, dtype, Fortran order, bytes)``."""
        _, shape, dtype, fortran, content = state
        self.values = dtype.array(content).reshape(shape, order="F" if fortran else "C")


def _array_of_buffer(content: Any, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
    return np.asarray(dtype.array(content).reshape(shape, order="F" if order == "F" else "C"))


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, set, frozenset, dict)):
            raise pickle.UnpicklingError(f"a container of a {type(items).__name__}")
        return kind(items)

    return make


def _encode(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Bytes, as old protocols write them."""
    if isinstance(text, (bytes, bytearray)):
        return bytes(text)
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes of something else than text")
    return text.encode("latin1")


def _complex(real: Any = 0, imaginary: Any = 0) -> complex:
    if not all(isinstance(part, (int, float)) for part in (real, imaginary)):
        raise pickle.UnpicklingError("a number of something else than numbers")
    return complex(real, imaginary)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor that lies wholly within its storage, and is no larger."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without numbers")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    held = len(storage.values)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > held or (math.prod(size) and last >= held):
        raise pickle.UnpicklingError("a tensor larger than its numbers")
    return torch.as_strided(storage.values, size, stride, offset)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _scalar(dtype: _Dtype, content: Any = b"") -> Any:
    return dtype.array(content)[0]


_NUMPY_CORE = ("numpy.core", "numpy._core")
_CONSTRUCTORS: Mapping[tuple[str, str], Any] = {
    name: _constructor(function)
    for name, function in {
        **{
            (m, kind.__name__): _container(kind) for m in ("builtins", "__builtin__") for kind in (set, frozenset, list)
        },
        **{(m, kind.__name__): _container(kind) for m in ("builtins", "__builtin__") for kind in (dict, tuple)},
        **{(m, name): _encode for m in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
        **{(m, "complex"): _complex for m in ("builtins", "__builtin__")},
        **{(f"{core}.multiarray", "_reconstruct"): _Array for core in _NUMPY_CORE},
        **{(f"{core}.multiarray", "scalar"): _scalar for core in _NUMPY_CORE},
        **{(f"{core}.numeric", "_frombuffer"): _array_of_buffer for core in _NUMPY_CORE},
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): lambda items=(): _Dictionary(items),
        ("numpy", "dtype"): _Dtype,
        ("torch", "Size"): _container(tuple),
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
    }.items()
}
"""What a pickle may call, by module and name: what builds tensors, arrays and containers."""

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Types of numbers by the classes of torch that hold them."""


class StubUnpickler(pickle._Unpickler):
    """An unpickler that calls nothing but :data:`_CONSTRUCTORS`.

    It is the one in Python, whose memo takes no more memory than it has entries.
    """

    def __init__(self, content: bytes, storage: Callable[[str], bytes] | None = None) -> None:
        super().__init__(io.BytesIO(content))
        self._storage = storage
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The constructor of that name if there is one, else a new kind of :class:`Stub`."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        known = _CONSTRUCTORS.get((module, name))
        return known if known is not None else type("Stub", (Stub,), {"global_name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        """The numbers that a tensor refers to: ``("storage", class, record, device, how many)``."""
        _, kind, key, _, count = pid
        dtype = _STORAGES.get(getattr(kind, "global_name", "").rpartition(".")[2])
        if self._storage is None or dtype is None or not isinstance(key, str):
            raise pickle.UnpicklingError("numbers of an unknown type")
        if key not in self._storages:
            content = self._storage(key)
            if type(count) is not int or len(content) != count * dtype.itemsize:
                raise pickle.UnpicklingError("fewer or more numbers than it says")
            values = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self._storages[key] = _Storage(values)
        if self._storages[key].values.dtype != dtype:
            raise pickle.UnpicklingError("numbers of two types")
        return self._storages[key]

    def _load_bytearray(self) -> None:
        """Not as the parent, which makes room for as many bytes as the pickle says before it reads them."""
        read: Callable[[int], bytes] = self.read  # type: ignore[attr-defined]
        self.append(bytearray(read(int.from_bytes(read(8), "little"))))  # type: ignore[attr-defined]

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _load_bytearray}  # type: ignore[dict-item]  # noqa: RUF012


def _plain(content: Any) -> Any:
    """What was read, with arrays in place of their makers.

    Raises
    ------
    pickle.UnpicklingError
        If it holds itself, or the same things in so many places that a walk through it would not end.
    """
    sizes: dict[int, int] = {}
    made: dict[int, Any] = {}
    open_now: set[int] = set()

    def walk(part: Any) -> Any:
        if isinstance(part, _Array):
            return part.values
        if not isinstance(part, (list, tuple, set, frozenset, dict, Stub)):
            return part
        if id(part) in made:
            return made[id(part)]
        if id(part) in open_now:
            if isinstance(part, Stub):  # a module and its parts may know each other
                return part
            raise pickle.UnpicklingError("a container of itself")
        open_now.add(id(part))
        if isinstance(part, Stub):
            part.state = walk(part.state)
            made[id(part)], sizes[id(part)] = part, 1
        else:
            items = [*part, *part.values()] if isinstance(part, dict) else list(part)
            walked = [walk(item) for item in items]
            size = 1 + sum(sizes.get(id(item), 1) for item in items)
            if size > LARGEST_CONTENT:
                raise pickle.UnpicklingError("more than can be read")
            sizes[id(part)] = size
            if isinstance(part, dict):
                half = len(part)
                made[id(part)] = dict(zip(walked[:half], walked[half:], strict=True))
            else:
                made[id(part)] = type(part)(walked)
        open_now.discard(id(part))
        return made[id(part)]

    return walk(content)


def read_torch_file(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors on the CPU.

    Raises
    ------
    InputError
        If the file is missing or is no such file, or has the format of torch before 1.6, or is a program.
    """
    _expect_file(path)
    wanted, kinds = "a file of torch.save (.ckpt or .pt)", ("a zip archive", "a pickle")
    if file_type(path) == "a pickle":
        raise InputError(f"{path} has the format of torch before 1.6: load and save it with a later version")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes of the readers
        raise _refusal(path, wanted, kinds, error) from None


def _read_archive(archive: zipfile.ZipFile, path: Path) -> Any:
    records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if "constants.pkl" in records:
        raise InputError(f"{path} is a TorchScript program, which would be run: expected tensors saved by torch.save")
    infos = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise ValueError("its records are compressed")
    if len(records) != len(infos) or sum(info.file_size for info in infos) > path.stat().st_size:
        raise ValueError("its records overlap")
    if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
        raise ValueError("its numbers have another byte order")
    pickled = archive.read(records["data.pkl"])
    return _plain(StubUnpickler(pickled, lambda key: archive.read(records[f"data/{key}"])).load())


def read_pickle(path: Path) -> Any:
    """What ``pickle.dump`` wrote, as far as it is arrays and plain data.

    Raises
    ------
    InputError
        If the file is missing or is no pickle.
    """
    _expect_file(path)
    try:
        return _plain(StubUnpickler(path.read_bytes()).load())
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
