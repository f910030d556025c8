"""Detector files: safetensors whose header holds one JSON document. Nothing is ever unpickled.

The document lists every array with its type, shape and hash. Names, types and shapes are compared when a file is
opened. Hashes are compared then too where the file is small; a large one stays a memory map, of which only what is used
is read, and is compared by :meth:`DetectorFile.verify`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo.backbones.backbone import hash_of
from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.errors import InputError

FORMAT = 3
VERIFIED_AT_ONCE = 256 * 2**20
"""Bytes up to which a file's hashes are compared when it is opened: a third of a second, or less."""
_KEY = "padim_zoo"


@dataclass(frozen=True)
class DetectorFile:
    """A detector file that is open for reading.

    Attributes
    ----------
    path : Path
    header : dict
        The JSON document: detector, parameters and so on.
    within : str
        What the names of all arrays start with, in a file that holds several detectors.
    """

    path: Path
    header: dict[str, Any]
    within: str = ""

    def arrays(self, prefix: str) -> dict[str, Tensor]:
        """The arrays whose names start with ``prefix``, by the rest of their names; memory-mapped."""
        prefix = self.within + prefix
        with safe_open(self.path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118  not a mapping
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def verify(self) -> None:
        """Compare every array with its hash in the header; reads the whole file.

        Raises
        ------
        InputError
            If one differs.
        """
        for name, array in self.arrays("").items():
            if hash_of({"": array}) != self.header["arrays"][name][2]:
                raise InputError(f"{self.path} is damaged: its array {name} is not what was saved; fit it again")


@dataclass(frozen=True)
class DetectorInMemory(DetectorFile):
    """Header and arrays of a detector that are in memory, as :meth:`BackboneDetector.to_state` gives them.

    Attributes
    ----------
    path : Path
        What errors call it.
    tensors : dict of str to Tensor
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def arrays(self, prefix: str) -> dict[str, Tensor]:
        """The arrays whose names start with ``prefix``, by the rest of their names."""
        prefix = self.within + prefix
        return {name.removeprefix(prefix): array for name, array in self.tensors.items() if name.startswith(prefix)}


def _form(array: Tensor) -> list[Any]:
    return [str(array.dtype), list(array.shape)]


def _plain(number: Any) -> Any:
    """A parameter that is a number of NumPy's, as JSON knows it."""
    return number.item()


def write_detector(path: str | Path, header: dict[str, Any], arrays: dict[str, Tensor]) -> None:
    """Write a detector file, whole or not at all."""
    contiguous = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    listed = {name: [*_form(array), hash_of({"": array})] for name, array in contiguous.items()}
    document = json.dumps({"format": FORMAT, "arrays": listed, **header}, sort_keys=True, default=_plain)
    write_whole(path, lambda temporary: save_file(contiguous, temporary, metadata={_KEY: document}))


def open_detector(path: str | Path) -> DetectorFile:
    """Read the header of a detector file.

    Raises
    ------
    InputError
        If there is no such file, or it is not a detector file, or damaged, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the model {path} is not a file: expected one that padim-zoo fit wrote")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            forms = {name: _form(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118  mapped, not read
        header = json.loads(metadata[_KEY])
    except (SafetensorError, OSError, ValueError):
        raise InputError(f"{path} is not a whole safetensors file: expected a model that padim-zoo fit wrote") from None
    except KeyError:
        raise InputError(
            f"{path} is a safetensors file but no padim-zoo model: expected one that padim-zoo fit wrote"
        ) from None
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise InputError(f"{path} has a header without a format: expected a model that padim-zoo fit wrote")
    if header["format"] > FORMAT:
        raise InputError(f"{path} has format {header['format']}, this version reads up to {FORMAT}: upgrade padim-zoo")
    if header["format"] < FORMAT:
        raise InputError(f"{path} has format {header['format']}, of an older version of padim-zoo: fit it again")
    if not isinstance(header.get("detector"), str) or not isinstance(header.get("arrays"), dict):
        raise InputError(f"{path} does not say what it holds: it is of another version of padim-zoo; fit it again")
    listed = header["arrays"]
    for name in sorted({*forms, *listed}):
        if name not in forms or name not in listed or forms[name] != listed[name][:2]:
            raise InputError(f"{path} is damaged: its array {name} is not as its header says; fit it again")
    file = DetectorFile(path, header)
    if path.stat().st_size <= VERIFIED_AT_ONCE:
        file.verify()
    return file
