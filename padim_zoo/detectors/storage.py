"""Detector files: safetensors whose header holds one JSON document. Nothing is ever unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo.atomic import write_whole
from padim_zoo.errors import InputError

FORMAT = 1
_KEY = "padim_zoo"


@dataclass(frozen=True)
class DetectorFile:
    """A detector file that is open for reading.

    Attributes
    ----------
    path : Path
    header : dict
        The JSON document: detector, parameters and so on.
    """

    path: Path
    header: dict[str, Any]

    def arrays(self, prefix: str) -> dict[str, Tensor]:
        """The arrays whose names start with ``prefix``, by the rest of their names; memory-mapped."""
        with safe_open(self.path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118  not a mapping
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def write_detector(path: str | Path, header: dict[str, Any], arrays: dict[str, Tensor]) -> None:
    """Write a detector file, whole or not at all."""
    document = json.dumps({"format": FORMAT, **header}, sort_keys=True)
    contiguous = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    write_whole(path, lambda temporary: save_file(contiguous, temporary, metadata={_KEY: document}))


def open_detector(path: str | Path) -> DetectorFile:
    """Read the header of a detector file.

    Raises
    ------
    InputError
        If there is no such file, or it is not a detector file, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the model {path} is not a file: expected one that padim-zoo fit wrote")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata[_KEY])
    except (SafetensorError, OSError, ValueError):
        raise InputError(f"{path} is not a whole safetensors file: expected a model that padim-zoo fit wrote") from None
    except KeyError:
        raise InputError(
            f"{path} is a safetensors file but no padim-zoo model: expected one that padim-zoo fit wrote"
        ) from None
    if header["format"] > FORMAT:
        raise InputError(f"{path} has format {header['format']}, this version reads up to {FORMAT}: upgrade padim-zoo")
    return DetectorFile(path, header)
