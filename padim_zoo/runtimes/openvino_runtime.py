"""OpenVINO, on a processor, in float32 or bfloat16."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.core.errors import needs_extra
from padim_zoo.runtimes.runtime import Session

if TYPE_CHECKING:
    from torch import Tensor, nn

_TYPES = {"float32": "f32", "bfloat16": "bf16"}


def import_openvino(purpose: str) -> Any:
    """The package, or the error that names the extra that brings it."""
    with needs_extra("openvino", purpose):
        import openvino
    return openvino


def convert(network: nn.Module, example: Tensor) -> tuple[bytes, ...]:
    """The XML of the network, and its numbers in float32."""
    openvino = import_openvino("the runtime openvino")
    model = openvino.convert_model(network, example_input=example)
    model.reshape([-1, example.shape[1], -1, -1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def open_session(files: Sequence[bytes], precision: str, threads: int) -> Session:
    """A compiled network in so many threads.

    It is told its precision: by its own default OpenVINO computes in bfloat16 where the processor has that.
    """
    core = import_openvino("the runtime openvino").Core()
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _TYPES[precision],
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = core.compile_model(core.read_model(*files), "CPU", hints)
    own = threading.local()  # a request serves one caller at a time

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        maps: Sequence[np.ndarray] = own.request.infer({0: images}, share_inputs=True).to_tuple()
        return maps

    return run
