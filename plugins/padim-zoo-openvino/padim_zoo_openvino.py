"""Backbones through OpenVINO Runtime on the CPU: ``openvino/NAME`` computes what ``NAME`` computes.

``openvino/resnet18`` is in float32, or in bfloat16 with ``--precision bfloat16``; by
``openvino/resnet18(calibration='images/train/good')`` it is in int8, its scales set by those normal images.
"""

from __future__ import annotations

import io
import logging
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from torch import Tensor, nn

from padim_zoo.plugin import Backbone, InputError, Transform, backbones, batches

PREFIX = "openvino/"
HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""What OpenVINO calls the types that padim-zoo hands a network images in."""
XML, NUMBERS = "openvino.xml", "openvino.bin"
"""Names under which a model file keeps a network in int8."""
MOST_IMAGES = 100
"""Normal images that set the scales of int8."""


class OpenVinoNetwork(nn.Module):
    """Normalized images (N, 3, H, W) to feature maps, by OpenVINO Runtime.

    Parameters
    ----------
    model : openvino.Model
        In float32 or int8. It is compiled once for every type and size of images, for any number of them.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._requests: dict[tuple[torch.dtype, int, int], Any] = {}
        self._lock = threading.Lock()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps, float32 whatever the type of the images."""
        pixels = images.detach().float().cpu().contiguous().numpy()
        with self._lock:  # a request answers one question at a time
            maps = self._request(images.dtype, *images.shape[-2:]).infer({0: pixels}, share_inputs=True)
        return [torch.from_numpy(layer).to(images.device) for layer in maps.to_tuple()]

    def _request(self, dtype: torch.dtype, height: int, width: int) -> Any:
        """What infers images of one type and size."""
        key = dtype, height, width
        if key not in self._requests:
            sized = self.model.clone()
            sized.reshape([-1, 3, height, width])
            hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[dtype]}
            threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
            compiled = openvino.Core().compile_model(sized, "CPU", {**hints, **threads})
            self._requests[key] = compiled.create_infer_request()
        return self._requests[key]

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenVinoNetwork:
        # Compiled networks cannot be copied, and need not be: nothing changes them.
        return self


def create(
    name: str,
    layers: Sequence[str] | None = None,
    weights: Any = "default",
    *,
    calibration: str | None = None,
    resize: int | tuple[int, int] | None = (256, 256),
    crop: int | tuple[int, int] | None = None,
) -> Backbone:
    """The backbone ``name``, computed by OpenVINO.

    Parameters
    ----------
    name : str
        A registered backbone.
    layers : sequence of str, optional
        As that backbone takes them.
    weights : str, path or mapping
        As that backbone takes them; of a model in int8, also what its file holds.
    calibration : str, optional
        Normal images (file, folder or glob), by which the network is brought to int8.
    resize, crop : int, (int, int) or None
        Of these images; by default all of each is looked at.

    Raises
    ------
    InputError
        If OpenVINO does not know what the network does, or there are no images to calibrate on.
    """
    saved = isinstance(weights, Mapping) and XML in weights
    # A network in int8 says nothing of its layers: a random twin does.
    twin = backbones.create(name, layers=layers, weights="none" if saved else weights)
    size = _example_size(twin)
    if saved:
        model, state = _read(weights), dict(weights)
    else:
        model, state = _converted(twin, name, size), twin.state_in_use()
        if calibration is not None:
            model = _quantized(model, twin, calibration, Transform(resize, crop))
            state = _written(model)
    return Backbone(
        OpenVinoNetwork(model),
        name=PREFIX + name,
        layers=twin.layers,
        strides=twin.strides,
        state=state,
        weights_source=twin.weights_source if not saved else "embedded",
        mean=twin.mean,
        std=twin.std,
        example_size=size,
        ordered_channels=twin.default_reduction == "leading",
    )


def _example_size(backbone: Backbone) -> tuple[int, int]:
    """Height and width of an image that the backbone takes."""
    for side in (64, 224):
        try:
            backbone(torch.zeros(1, 3, side, side))
        except InputError:
            continue
        return side, side
    raise InputError(f"{backbone.name} takes images of neither 64 nor 224 pixels: it cannot be brought to OpenVINO")


class _Maps(nn.Module):
    """Several maps as a tuple, which a converter follows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(images))


def _converted(backbone: Backbone, name: str, size: tuple[int, int]) -> Any:
    example = torch.zeros(1, 3, *size)
    try:
        with torch.no_grad():
            # A converter expects weights in the plain memory layout.
            plain = _Maps(backbone.network).to(memory_format=torch.contiguous_format)
            model = openvino.convert_model(plain, example_input=example)
            model.reshape([-1, 3, -1, -1])
    except Exception as error:  # whatever the converter makes of a network
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"OpenVINO cannot take the network of {name} ({reason}): use {name} itself") from error
    return model


def _quantized(model: Any, backbone: Backbone, images: str, transform: Transform) -> Any:
    """The network in int8, its scales set by normal images."""
    try:
        import nncf
    except ImportError:
        raise InputError(
            "int8 needs the package nncf, which is not installed: pip install 'padim-zoo-openvino[int8]'"
        ) from None
    nncf.set_log_level(logging.ERROR)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))

    def normalized() -> Iterator[np.ndarray]:
        for count, batch in enumerate(batches(images, transform, 1)):
            if count == MOST_IMAGES:
                return
            yield ((batch.float() / 255 - mean) / std).numpy()

    pixels = list(normalized())
    with redirect_stdout(io.StringIO()):  # its progress bars are not among what a command prints
        return nncf.quantize(model, nncf.Dataset(pixels), subset_size=len(pixels))


def _written(model: Any) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        files = {XML: path, NUMBERS: path.with_suffix(".bin")}
        return {name: torch.from_numpy(np.fromfile(file, np.uint8)) for name, file in files.items()}


def _read(state: Mapping[str, Tensor]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.xml")
        path.write_bytes(state[XML].numpy().tobytes())
        path.with_suffix(".bin").write_bytes(state[NUMBERS].numpy().tobytes())
        model = openvino.Core().read_model(path)
        # A clone holds its numbers, where the model itself may be a map of the file.
        return model.clone()


def _names() -> list[str]:
    return [name for name in backbones.names() if not name.startswith(PREFIX)]


def _knows(name: str) -> bool:
    if name.startswith(PREFIX):
        return False
    try:
        backbones.entry(name)
    except InputError:
        return False
    return True


def _describe(name: str) -> Mapping[str, Any]:
    return backbones.entry(name).metadata


backbones.register_family(
    PREFIX,
    create,
    names=_names,
    knows=_knows,
    describe=_describe,
    summary="any backbone through OpenVINO Runtime; int8 by openvino/NAME(calibration='normal images')",
)
