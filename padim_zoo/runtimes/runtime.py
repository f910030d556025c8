"""What a runtime is, which there are, and which of them is asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from padim_zoo.core.errors import InputError, needs_extra

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

AUTO, TORCH = "auto", "torch"
VARIABLE = "PADIM_ZOO_RUNTIME"

Session: TypeAlias = "Callable[[np.ndarray], Sequence[np.ndarray]]"
"""Images (n, 3, H, W), float32, to one map (n, C_l, H_l, W_l) of each layer."""


class Runtime(NamedTuple):
    """A runtime beside torch.

    Attributes
    ----------
    name : str
    title : str
        As its makers call it.
    package : str
        What runs it, which the extra ``name`` brings.
    module : str
        Where it is converted to and opened: imported when it is wanted.
    precisions : tuple of str
        What it can compute in.
    """

    name: str
    title: str
    package: str
    module: str
    precisions: tuple[str, ...]

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        found = find_spec(self.package)
        return found is not None and found.origin is not None  # a folder of that name is no package

    @property
    def installed_version(self) -> str:
        """Of the package, which is not imported for it; ``"unknown"`` of one that pip knows by another name."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return "unknown"

    def version(self) -> str:
        """Of the package.

        Raises
        ------
        MissingExtraError
            If it is not installed.
        """
        with needs_extra(self.name, f"the runtime {self.name}"):
            return str(getattr(importlib.import_module(self.package), "__version__", "unknown"))

    def convert(self, network: nn.Module, example: Tensor) -> tuple[bytes, ...]:
        """The files of a network that takes images like ``example``, of any number and size."""
        converted: tuple[bytes, ...] = self._functions.convert(network, example)
        return converted

    def open(self, files: Sequence[bytes], precision: str, threads: int) -> Session:
        """What runs a converted network, in so many threads."""
        session: Session = self._functions.open_session(files, precision, threads)
        return session

    @property
    def _functions(self) -> Any:
        return importlib.import_module(self.module)


_HERE = __name__.rpartition(".")[0]

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnx", "ONNX Runtime", "onnxruntime", f"{_HERE}.onnx_runtime", ("float32",)),
        Runtime("openvino", "OpenVINO", "openvino", f"{_HERE}.openvino_runtime", ("float32", "bfloat16")),
    )
}
"""Those beside torch, by name."""

NAMES = (AUTO, TORCH, *RUNTIMES)
"""What may be asked for."""


def resolve_runtime(asked: str | None, otherwise: str = AUTO) -> str:
    """The runtime that is asked for, else the one in the environment variable ``PADIM_ZOO_RUNTIME``.

    Parameters
    ----------
    asked : str or None
    otherwise : str
        Where the variable says nothing either.

    Raises
    ------
    InputError
        If there is no such runtime.
    """
    problem = f"unknown runtime {asked!r}"
    if asked is None:
        asked = os.environ.get(VARIABLE) or otherwise
        problem = f"the environment variable {VARIABLE} is {asked!r}"
    if asked not in NAMES:
        raise InputError(f"{problem}: expected {AUTO}, {TORCH}, {' or '.join(RUNTIMES)}")
    return asked
