"""OpenVINO, on a processor, in float32 or bfloat16."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from padim_zoo.core.errors import needs_extra
from padim_zoo.runtimes.runtime import Session

if TYPE_CHECKING:
    import numpy as np
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


def compile_on_cpu(files: Sequence[bytes], purpose: str, precision: str, threads: int | None = None) -> tuple[Any, Any]:
    """The model in an XML and its numbers, and the same compiled for the processor.

    It is told its precision: by its own default OpenVINO computes in bfloat16 where the processor has that.
    """
    core = import_openvino(purpose).Core()
    hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _TYPES[precision]}
    model = core.read_model(*files)
    return model, core.compile_model(
        model, "CPU", hints if threads is None else hints | {"INFERENCE_NUM_THREADS": threads}
    )


def open_session(files: Sequence[bytes], precision: str, threads: int) -> Session:
    """A compiled network in so many threads."""
    _, compiled = compile_on_cpu(files, "the runtime openvino", precision, threads)
    own = threading.local()  # a request serves one caller at a time

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        maps: Sequence[np.ndarray] = own.request.infer({0: images}, share_inputs=True).to_tuple()
        return maps

    return run
