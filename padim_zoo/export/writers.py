"""Writes a network in the format of a runtime, its metadata within."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError, needs_extra
from padim_zoo.export.metadata import KEY, records_of, seal
from padim_zoo.export.networks import ExportableNetwork
from padim_zoo.runtimes.openvino_runtime import import_openvino
from padim_zoo.runtimes.quiet import quiet_exporters

INPUT = "images"
_ORIGIN = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")
LARGEST_ONNX = 2**31 - 1
"""Bytes of a protobuf message, and so of an ONNX file that is one file."""


def write_onnx(network: ExportableNetwork, example: Tensor, metadata: str, path: Path) -> None:
    """One file ``path``."""
    with needs_extra("onnx", "writing ONNX"):
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    size = sum(array.numel() * array.element_size() for array in network.state_dict().values())
    if size > LARGEST_ONNX:
        raise InputError(
            f"the network has {size / 1e9:.1f} GB, an ONNX file at most 2.1 GB: choose --format openvino or torch"
        )
    program = torch.onnx.export(
        network,
        (example,),
        input_names=[INPUT],
        output_names=list(network(example)),
        dynamic_shapes={INPUT: {0: "n"}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {KEY: metadata})
    model.doc_string, model.producer_name = "An image anomaly detector of padim-zoo", "padim-zoo"
    path.write_bytes(seal(model.SerializeToString()))


def write_openvino(network: ExportableNetwork, example: Tensor, metadata: str, path: Path) -> None:
    """``path``, which is XML, and beside it the numbers in a file ``.bin``."""
    openvino = import_openvino("writing OpenVINO files")
    model = openvino.convert_model(network, example_input=example)
    model.reshape([-1, *example.shape[1:]])
    model.inputs[0].get_tensor().set_names({INPUT})
    model.set_rt_info(metadata, [KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
    path.write_bytes(seal(path.read_bytes(), [path.with_suffix(".bin").read_bytes()]))


def write_torch(network: ExportableNetwork, example: Tensor, metadata: str, path: Path) -> None:
    """One archive ``path`` of ``torch.export``."""
    shapes = {INPUT: {0: torch.export.Dim("n", min=1)}}
    program = torch.export.export(network, (example,), dynamic_shapes=shapes)
    for node in program.graph.nodes:  # where in our code each comes from, which is what a reader would not accept
        for name in _ORIGIN:
            node.meta.pop(name, None)
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={KEY: metadata})
    with zipfile.ZipFile(archive) as unsealed, zipfile.ZipFile(path, "w") as sealed:
        own, others = records_of(unsealed)
        text = seal(own, others)
        for name in unsealed.namelist():
            sealed.writestr(name, text if name.endswith(f"/{KEY}") else unsealed.read(name))


WRITERS: Mapping[str, Callable[[ExportableNetwork, Tensor, str, Path], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torch": write_torch,
}
"""By the names of the formats."""


def write(form: str, network: ExportableNetwork, image_size: tuple[int, int], metadata: str, path: Path) -> None:
    """Write a network that takes images of one size, any number at once.

    Raises
    ------
    InputError
        If what the format needs is not installed, or its exporter does not know what the network does.
    """
    example = torch.zeros(2, *image_size, 3, dtype=torch.uint8)
    try:
        with quiet_exporters(), torch.no_grad():
            WRITERS[form](network, example, metadata, path)
    except (InputError, OSError):
        raise
    except Exception as error:  # exporters raise whatever they like
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the network cannot be written as {form} ({type(error).__name__}: {reason}): choose another format, or "
            "another backbone"
        ) from error
