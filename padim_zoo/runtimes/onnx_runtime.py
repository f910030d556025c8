"""ONNX Runtime, on a processor, in float32."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from padim_zoo.core.errors import needs_extra
from padim_zoo.runtimes.runtime import Session

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

INPUT = "images"

SPIN_MICROSECONDS = "20"
"""How long a thread waits awake for the next operation: they come at once, and then the other program wants the
processor. docs/performance.md has the figures."""
_SPINS_BRIEFLY = (1, 26)
"""The first version that can be told so."""


def convert(network: nn.Module, example: Tensor) -> tuple[bytes, ...]:
    """One ONNX file.

    By the exporter that traces: it takes 0.2 s for a resnet18, the one that compiles 4.5 s and one package more.
    """
    import torch

    axes = {INPUT: {0: "n", 2: "height", 3: "width"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        torch.onnx.export(network, (example,), path, input_names=[INPUT], dynamic_axes=axes, dynamo=False)
        return (path.read_bytes(),)


def cpu_session(content: bytes, purpose: str, threads: int | None = None) -> Any:
    """An ONNX file on the processor; numbers in other files are refused.

    Parameters
    ----------
    content : bytes
    purpose : str
        What the package is wanted for, if it is not there.
    threads : int, optional
        So many; by default as many as there are processors.
    """
    with needs_extra("onnx", purpose):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised too
    if threads is not None:
        options.intra_op_num_threads = threads
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= _SPINS_BRIEFLY:
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{os.devnull}/none")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def open_session(files: Sequence[bytes], precision: str, threads: int) -> Session:
    """A session in so many threads."""
    session = cpu_session(files[0], "the runtime onnx", threads)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        maps: Sequence[np.ndarray] = session.run(None, {INPUT: images})
        return maps

    return run
