"""Detector files: safetensors whose header holds one JSON document. Nothing is ever unpickled.

See :mod:`padim_zoo.detectors.model_header` for the document.

A file is opened once, so that one that is replaced meanwhile is read as it was. Small files are read into memory, and
their hashes are compared then; a large one stays a memory map, of which only what is used is read, and is compared by
:meth:`DetectorFile.verify`.
"""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo.backbones.backbone import hash_of
from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import FieldError, Fields, is_whole, read_json
from padim_zoo.detectors.model_header import KEY, read_header, to_metadata

VERIFIED_AT_ONCE = 256 * 2**20
"""Bytes up to which a file is read, and its hashes compared, when it is opened: a third of a second, or less."""
_LARGEST_HEADER = 100_000_000
_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U8": torch.uint8, "BOOL": torch.bool},
}


@dataclass(frozen=True)
class DetectorFile:
    """A detector file that was opened for reading.

    Attributes
    ----------
    path : Path
    header : dict
        The content: detector, parameters and so on.
    within : str
        What the names of all arrays start with, in a file that holds several detectors.
    tensors : dict of str to Tensor
        All arrays by name; in memory, or mapped.
    provenance : dict of str to str
        What wrote the file, when, by which command and from which images.
    """

    path: Path
    header: dict[str, Any]
    within: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def arrays(self, prefix: str) -> dict[str, Tensor]:
        """The arrays whose names start with ``prefix``, by the rest of their names."""
        prefix = self.within + prefix
        return {name.removeprefix(prefix): array for name, array in self.tensors.items() if name.startswith(prefix)}

    def part(self, header: dict[str, Any], within: str) -> DetectorFile:
        """One of several detectors in this file, by its own header and what the names of its arrays start with."""
        return replace(self, header=header, within=self.within + within)

    def verify(self) -> None:
        """Compare every array with its hash in the header; reads the whole file.

        Raises
        ------
        InputError
            If one differs.
        """
        for name, array in self.tensors.items():
            if hash_of({"": array}) != self.header["arrays"][name][2]:
                raise InputError(f"{self.path} is damaged: its array {name} is not what was saved; fit it again")


class DetectorInMemory(DetectorFile):
    """Header and arrays of a detector in memory, as :meth:`BackboneDetector.to_state` gives them.

    ``path`` is what errors call it.
    """


def _form(array: Tensor) -> list[Any]:
    return [str(array.dtype), list(array.shape)]


def write_detector(
    path: str | Path, header: dict[str, Any], arrays: dict[str, Tensor], before: Mapping[str, str] | None = None
) -> None:
    """Write a detector file, whole or not at all; ``before`` is the provenance of the file that it was made of."""
    contiguous = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    listed = {name: [*_form(array), hash_of({"": array})] for name, array in contiguous.items()}
    metadata = to_metadata(header, listed, before)
    write_whole(path, lambda temporary: save_file(contiguous, temporary, metadata=metadata))


def open_detector(path: str | Path) -> DetectorFile:
    """Read the header of a detector file, and the arrays of a small one.

    Raises
    ------
    InputError
        If there is no such file, or it is not a detector file, or damaged, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the model {path} is not a file: expected one that padim-zoo fit wrote")
    buffer = _read(path)
    try:
        arrays, metadata = _parse(buffer)
    except (FieldError, ValueError):
        raise InputError(f"{path} is not a whole safetensors file: expected a model that padim-zoo fit wrote") from None
    if KEY not in metadata:
        raise InputError(f"{path} is a safetensors file but no padim-zoo model: expected one that padim-zoo fit wrote")
    content, provenance = read_header(path, metadata)
    file = DetectorFile(path, content, "", arrays, provenance)
    listed = file.header["arrays"]
    for name in sorted({*arrays, *listed}):
        entry = listed.get(name)
        if name not in arrays or not isinstance(entry, list) or len(entry) != 3 or _form(arrays[name]) != entry[:2]:
            raise InputError(f"{path} is damaged: its array {name} is not as its header says; fit it again")
    if isinstance(buffer, mmap.mmap):
        warnings.warn(
            f"{path} is too large to be read at once, and lies mapped on the disk: leave the file as it is while it is "
            "used",
            stacklevel=3,
        )
    else:
        file.verify()
    return file


def _read(path: Path) -> bytearray | mmap.mmap:
    """The bytes of a file, of one and the same however it is replaced meanwhile."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > VERIFIED_AT_ONCE:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        content = bytearray(size)
        del content[file.readinto(content) :]  # shorter than it was said to be, but no copy
        return content


def _parse(buffer: bytearray | mmap.mmap) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Arrays and metadata of a safetensors file; the arrays lie one after the other, without gaps.

    Raises
    ------
    FieldError, ValueError
        If it is none.
    """
    length = int.from_bytes(buffer[:8], "little")
    start = 8 + length
    if length > _LARGEST_HEADER or start > len(buffer):
        raise FieldError("the header is longer than the file")
    entries = Fields(read_json(buffer[8:start].decode())).values
    metadata = entries.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FieldError("the metadata are not text")
    arrays, spans = {}, []
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        fields = Fields(entry, f"{name}.")
        dtype = _DTYPES[fields.text("dtype", tuple(_DTYPES))]
        shape, offsets = fields.array("shape"), fields.array("data_offsets")
        if not all(is_whole(number, 0, len(buffer)) for number in (*shape, *offsets)) or len(offsets) != 2:
            raise FieldError(f"{name} has an impossible shape")
        count = 1
        for n in shape:
            count *= n
        first = start + offsets[0]
        if offsets[1] - offsets[0] != count * dtype.itemsize or start + offsets[1] > len(buffer):
            raise FieldError(f"{name} is not within the file")
        if count and first % dtype.itemsize:
            raise FieldError(f"{name} begins within a number")
        flat = (
            torch.frombuffer(buffer, dtype=dtype, count=count, offset=first) if count else torch.empty(0, dtype=dtype)
        )
        arrays[name] = flat.view(shape)
        spans.append(tuple(offsets))
    stops = [0, *(stop for _, stop in sorted(spans))]
    if [begin for begin, _ in sorted(spans)] != stops[:-1] or start + stops[-1] != len(buffer):
        raise FieldError("there are gaps between arrays")
    return arrays, metadata
