"""A backbone whose network another runtime runs."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from padim_zoo import registry
from padim_zoo.backbones.backbone import AT_ONCE_PIXELS, Backbone
from padim_zoo.core.errors import InputError
from padim_zoo.runtimes.choice import Choice, Run, choose
from padim_zoo.runtimes.converted_network import ConvertedNetwork, NotConvertible
from padim_zoo.runtimes.runtime import RUNTIMES, TORCH


def in_runtime(backbone: Backbone, runtime: str) -> Backbone:
    """A backbone whose network a runtime runs; torch, which a warning says, where that cannot.

    The one that is given is left as it is. Weights, layers, hash and precision stay.

    Parameters
    ----------
    backbone : Backbone
    runtime : str
        ``"torch"``, or a key of :data:`~padim_zoo.runtimes.runtime.RUNTIMES`.

    Raises
    ------
    MissingExtraError
        If the runtime is not installed.
    """
    if backbone.runtime == runtime:
        return backbone
    if runtime == TORCH:
        return backbone.run_by(None)
    RUNTIMES[runtime].version()  # which is missing is told first
    try:
        return backbone.run_by(convert(backbone, runtime))
    except NotConvertible as error:
        warnings.warn(f"{backbone.name} stays in torch, not {runtime}: {error}", stacklevel=3)
        return backbone.run_by(None)


def why_torch(backbone: Backbone, image_size: tuple[int, int]) -> str:
    """Why ``"auto"`` has torch run a backbone whatever the number of images, or an empty string.

    Parameters
    ----------
    backbone : Backbone
    image_size : (int, int)
        Height and width after the transform.
    """
    if backbone.device.type != "cpu":
        return f"the backbone is on {backbone.device.type}"
    if math.prod(image_size) > AT_ONCE_PIXELS:
        side = math.isqrt(AT_ONCE_PIXELS)
        return f"images of more than {side}x{side} pixels take less memory there"
    return ""


def decide_runtime(backbone: Backbone, images: int, image_size: tuple[int, int], *, alone: bool) -> Choice | None:
    """The measured choice of a runtime for some images, or None where torch is to stay.

    It stays for large images, which it takes some rows at a time in less memory.

    Parameters
    ----------
    backbone : Backbone
        In torch.
    images : int
        How many there are.
    image_size : (int, int)
        Height and width after the transform.
    alone : bool
        Whether they pass through the network one by one.
    """
    at_once = backbone.images_at_once(*image_size)
    if at_once is None or why_torch(backbone, image_size):
        return None
    in_torch = backbone.run_by(None)

    def other(runtime: str) -> Run | None:
        try:
            converted = convert(in_torch, runtime)
        except Exception:  # it cannot, or a runtime is broken: torch can
            return None
        return in_torch.run_by(converted).forward_native_dtype

    identity = f"{_identity(backbone)} {backbone.precision}"
    try:
        return choose(identity, (1 if alone else at_once, 3, *image_size), images, in_torch.forward_native_dtype, other)
    except InputError:  # images of this size, which is told better where they are
        return None


def convert(backbone: Backbone, runtime: str) -> ConvertedNetwork:
    """The network of a backbone as a runtime takes it.

    Raises
    ------
    NotConvertible
        If the runtime cannot take it, here or in this precision.
    """
    target = RUNTIMES[runtime]
    if backbone.device.type != "cpu":
        raise NotConvertible(f"it is on {backbone.device.type}")
    if backbone.precision not in target.precisions:
        raise NotConvertible(f"{target.title} computes in {' or '.join(target.precisions)}, not {backbone.precision}")
    if type(backbone).forward is not Backbone.forward:
        raise NotConvertible("it has a forward of its own")
    source = _in_float32(backbone)
    # Noise, where every layer answers.
    example = torch.rand(1, 3, *source.example_size, generator=torch.Generator().manual_seed(0))
    network = _PixelsToMaps(source.run_by(None))
    return ConvertedNetwork.of(target, network, _identity(source), example, backbone.precision)


def _identity(backbone: Backbone) -> str:
    """All that decides what the network computes in float32."""
    layers = ",".join(backbone.layers)
    return f"{backbone.name} {backbone.weights_hash} {layers} {backbone.response} {backbone.mean} {backbone.std}"


def _in_float32(backbone: Backbone) -> Backbone:
    """The backbone before it left float32: runtimes round the weights themselves."""
    if backbone.precision == "float32":
        return backbone
    try:
        made = registry.backbones.create(backbone.name, layers=backbone.layers, weights=backbone.state_in_use())
    except InputError as error:
        raise NotConvertible(f"its float32 weights are not at hand ({error})") from None
    assert isinstance(made, Backbone)
    return made


class _PixelsToMaps(nn.Module):
    """What is converted: normalization and network, without what chooses between runtimes."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of images (n, 3, H, W) in [0, 1]."""
        return tuple(self.backbone.compute(images))
