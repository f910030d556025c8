"""ONNX Runtime, on a processor, in float32."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from padim_zoo.runtimes.runtime import Session

INPUT = "images"


def convert(network: nn.Module, example: Tensor) -> tuple[bytes, ...]:
    """One ONNX file.

    By the exporter that traces: it takes 0.2 s for a resnet18, the one that compiles 4.5 s and one package more.
    """
    axes = {INPUT: {0: "n", 2: "height", 3: "width"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        torch.onnx.export(network, (example,), path, input_names=[INPUT], dynamic_axes=axes, dynamo=False)
        return (path.read_bytes(),)


def open_session(files: Sequence[bytes], precision: str, threads: int) -> Session:
    """A session in so many threads, which do not spin when there is nothing to do: others want the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Numbers in other files are refused.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{os.devnull}/none")
    session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        maps: Sequence[np.ndarray] = session.run(None, {INPUT: images})
        return maps

    return run
