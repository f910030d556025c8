"""The contract of every backbone: a batch of images in, feature maps of some of its layers out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from padim_zoo.backbones.cpu.batch_norm_folding import fold_batch_norm
from padim_zoo.backbones.cpu.onednn_fusion import fuse_activations, is_traced
from padim_zoo.backbones.device import PRECISIONS, resolve_precision
from padim_zoo.backbones.discriminants import Discriminants, drop_unused_projections, projections_of
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.core.parallel import one_thread_for
from padim_zoo.core.whole_float32 import whole_float32
from padim_zoo.runtimes.choice import Choice
from padim_zoo.runtimes.converted_network import ConvertedNetwork
from padim_zoo.runtimes.runtime import TORCH

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

AT_ONCE_PIXELS = 2**18
"""Pixels of the images that pass through a network on a processor together. Activations of more leave its caches, and
memory for them comes from the system anew each time: 32 images of 256 × 256 together took resnet18 1.3 times as long in
float32, and 1.7 times in bfloat16, as four at a time."""

# How many of the concatenated channels the paper keeps, by how many there are: resnet18 and wide_resnet50_2.
_PAPER_COMPONENTS = {448: 100, 1792: 550}


def default_n_components(channels: Sequence[int]) -> int:
    """How many channels a detector keeps of layers with these channels, unless told otherwise.

    The paper (Defard et al. 2020, section 3.2) keeps 100 of the 448 channels of resnet18 and 550 of the 1792 of
    wide_resnet50_2; those totals keep the paper's figures. Any other total keeps a quarter, at least 64 (or all) and at
    most 550.
    """
    total = sum(channels)
    return _PAPER_COMPONENTS.get(total, min(total, max(64, min(total // 4, 550))))


def describe_layers(
    layers: Sequence[str], channels: Sequence[int], strides: Sequence[int], *, weights_offline: bool
) -> dict[str, Any]:
    """What a listing says of a backbone; without layers, of one that gives no maps."""
    return {
        "layers": tuple(layers),
        "channels": tuple(channels),
        "strides": tuple(strides),
        "default_n_components": default_n_components(channels) if channels else None,
        "weights_offline": weights_offline,
    }


def hash_of(state: Mapping[str, Tensor]) -> str:
    """Identity of a set of named tensors: sha256 of names, types, shapes and bytes; first 16 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{array.dtype}\0{tuple(array.shape)}\0".encode())
        if array.numel():  # an empty tensor has no strides to view it by
            digest.update(array.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


class Backbone(nn.Module):
    """A frozen network, cut after its last used layer.

    Parameters
    ----------
    network : Module
        Takes normalized images (N, 3, H, W) and returns one map (N, C_l, H_l, W_l) per layer. It is taken over: its
        batch norms are folded into its convolutions.
    name : str
        The name in the registry.
    layers : sequence of str
        The names of the layers whose maps are returned, in the order of the maps.
    strides : sequence of int
        Pixels of the image per step of each layer's grid.
    state : mapping of str to Tensor
        The tensors in use, under the names that a weights file gives them. Projections among them
        (:mod:`~padim_zoo.backbones.discriminants`) are put behind the network.
    weights_source : str
        ``"default"``, ``"none"``, ``"builtin"``, ``"embedded"`` or the path of a file.
    mean, std : sequence of float
        Normalization of red, green and blue in [0, 1].
    example_size : tuple of int
        Height and width of an image that the network can take.
    ordered_channels : bool
        Whether the channels of each layer are decorrelated and come most informative first, so that the leading ones
        are a better choice than random ones.

    Attributes
    ----------
    channels : tuple of int
        Channels of each layer.
    weights_hash : str
        16 hex digits that change with any tensor of ``state``, and with nothing else.
    example_size : tuple of int
        Height and width of an image that the network can take.
    default_n_components : int
        How many channels a detector keeps unless told otherwise: see :func:`default_n_components`.
    default_reduction : str
        How it comes to these, unless told otherwise: ``"leading"`` channels if they are ordered, else ``"random"``.
    response : str
        How the layers answer to a fixed image, to four digits: changes with the code of the network, which
        :attr:`weights_hash` does not see.
    precision : str
        ``"float32"``, or what :meth:`in_precision` made of it.
    converted : ConvertedNetwork or None
        The network as another runtime runs it: see :func:`~padim_zoo.backbones.conversion.in_runtime`.
    choice : Choice or None
        By which measurement the runtime was chosen, if it was.
    """

    _scale: Tensor
    _shift: Tensor
    converted: ConvertedNetwork | None = None
    choice: Choice | None = None

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        layers: Sequence[str],
        strides: Sequence[int],
        state: Mapping[str, Tensor],
        weights_source: str,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        example_size: tuple[int, int] = (64, 64),
        ordered_channels: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = tuple(layers)
        self.strides = tuple(strides)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.weights_source = weights_source
        self.example_size = example_size
        projections = projections_of(state, self.layers)
        # Out of reach of what follows, which replaces tensors but does not write to them.
        self._state = drop_unused_projections(state, self.layers)
        self.weights_hash = hash_of(self._state)
        example = torch.linspace(-2, 2, 3 * example_size[0] * example_size[1]).reshape(1, 3, *example_size)
        network.eval().requires_grad_(False)
        # Folding and channels_last take a third off a forward of resnet18 on a CPU.
        fold_batch_norm(network, example)
        if projections:
            network = _projected(network, projections, example, name)
        self.network = fuse_activations(network.to(memory_format=torch.channels_last), example, self.weights_hash)
        with torch.no_grad():
            maps = self.network(example)
        if not all(bool(layer.isfinite().all()) for layer in maps):
            raise InputError(f"{name} gives NaN or infinite values with the weights {weights_source}: take others")
        self.channels = tuple(int(layer.shape[1]) for layer in maps)
        self.response = " ".join(f"{_weighted_mean(layer):.4g}" for layer in maps)
        self.precision = "float32"
        self._batch_exact: dict[tuple[int, ...], bool] = {}
        self.default_n_components = default_n_components(self.channels)
        self.default_reduction = "leading" if ordered_channels or projections else "random"
        self.register_buffer("_scale", 1 / torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_shift", torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._scale.device

    @property
    def runtime(self) -> str:
        """What runs the network: ``"torch"``, ``"onnx"`` or ``"openvino"``."""
        return TORCH if self.converted is None else self.converted.runtime.name

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images that the network takes without a copy."""
        return torch.channels_last if self.converted is None else torch.contiguous_format

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of each layer.

        On a processor, images pass through the network :meth:`images_at_once` at a time, and in 16 bits one by one
        where the network's products round otherwise for several: what is found in an image depends on it alone.

        Parameters
        ----------
        images : Tensor (N, 3, H, W)
            float32, RGB in [0, 1].

        Returns
        -------
        list of Tensor (N, C_l, H_l, W_l)
            float32, in the order of :attr:`layers`; the memory layout is the network's own.

        Raises
        ------
        InputError
            If the network cannot take images of this size.
        """
        return [layer.float() for layer in self._maps(images)]

    @torch.no_grad()
    def forward_native_dtype(self, images: Tensor) -> list[Tensor]:
        """The maps of :meth:`forward` in the type of the network, for callers that keep few channels.

        Of a subclass with a forward of its own they are what that returns.
        """
        return self._maps(images) if type(self).forward is Backbone.forward else self(images)

    def _maps(self, images: Tensor) -> list[Tensor]:
        at_once = self.images_at_once(*images.shape[-2:])
        with self.blaming_size_of(images):
            if at_once is None or is_traced():
                return self.compute(images)
            return _concatenate(map(self._compute_batch, torch.split(images, at_once)))

    @contextmanager
    def blaming_size_of(self, images: Tensor) -> Iterator[None]:
        """Errors of a network that works otherwise say that it cannot take images of this size.

        Raises
        ------
        InputError
            In place of these.
        """
        try:
            yield
        except (AssertionError, RuntimeError) as error:
            if is_out_of_memory(error) or not self._takes_example_size(images.device):
                raise
            height, width = images.shape[-2:]
            reason = " ".join(str(error).split()) or "no reason given"
            raise InputError(
                f"{self.name} cannot take images of {height}×{width} pixels ({reason}): choose others by --resize and "
                "--crop"
            ) from error

    def images_at_once(self, height: int, width: int) -> int | None:
        """How many images of a size pass through the network together at the best speed; None for any number."""
        return max(1, AT_ONCE_PIXELS // (height * width)) if self.device.type == "cpu" else None

    def _compute_batch(self, images: Tensor) -> list[Tensor]:
        """The maps of images that may pass through the network together, as each of them has them alone.

        Which product a library takes depends on shapes, and in 16 bits the difference can be of the size of the maps
        when many layers have passed it on: so it is looked for once in every shape, and so of other runtimes.
        """
        if len(images) == 1 or (self.precision == "float32" and self.converted is None):
            return self._run(images)
        shape = tuple(images.shape)
        if self._batch_exact.get(shape, True):
            maps = self._run(images)
            if shape not in self._batch_exact:
                alone = self._run(images[-1:])
                self._batch_exact[shape] = all(
                    torch.equal(whole[-1:], one) for whole, one in zip(maps, alone, strict=True)
                )
            if self._batch_exact[shape]:
                return maps
        return _concatenate(map(self._run, torch.split(images, 1)))

    def _run(self, images: Tensor) -> list[Tensor]:
        """The maps of :meth:`compute`, by the runtime that the network is converted for."""
        if self.converted is None or self.device.type != "cpu" or not self.converted.takes(images):
            return self.compute(images)
        maps = self.converted(images)
        with one_thread_for(sum(layer.numel() for layer in maps)):
            return [layer.to(PRECISIONS[self.precision]) for layer in maps]

    def compute(self, images: Tensor) -> list[Tensor]:
        """The maps of images that pass through the network together in torch, in its type."""
        with whole_float32():
            return list(self.network(self.network_input(images)))

    def network_input(self, images: Tensor) -> Tensor:
        """Images as the network takes them: normalized, in its type and layout."""
        return self._normalized(images).to(PRECISIONS[self.precision], memory_format=torch.channels_last)

    def _normalized(self, images: Tensor) -> Tensor:
        """Images of mean 0 and deviation 1 in each channel, as the images of ImageNet have them."""
        if is_traced() or not images.is_contiguous(memory_format=torch.channels_last):
            return (images - self._shift) * self._scale
        # With the colors innermost in memory, a row of pixels is one long vector, and three numbers are a short one.
        n, colors, height, width = images.shape
        shift, scale = (each.flatten().repeat(width) for each in (self._shift, self._scale))
        rows = images.permute(0, 2, 3, 1).reshape(n * height, width * colors)
        return rows.sub(shift).mul_(scale).view(n, height, width, colors).permute(0, 3, 1, 2)

    def _takes_example_size(self, device: torch.device) -> bool:
        """Whether the network works at all: then the size of the images is to blame."""
        try:
            self.compute(torch.zeros(1, 3, *self.example_size, device=device))
        except (AssertionError, RuntimeError):
            return False
        return True

    def in_precision(self, precision: str) -> Backbone:
        """A backbone whose network computes in another type; this one is left as it is.

        Images are normalized, and maps returned, in float32. :meth:`state_in_use` and :attr:`weights_hash` stay those
        of the float32 weights.

        Parameters
        ----------
        precision : str
            A key of :data:`~padim_zoo.backbones.device.PRECISIONS`; or ``"auto"``, the fastest where this backbone is
            (:func:`~padim_zoo.backbones.device.resolve_precision`), float32 for a network that knows no other, and
            what a backbone is in that has left float32 already.

        Raises
        ------
        InputError
            If there is no such type, this backbone is not in float32 any more, or the network cannot compute in it.
        """
        automatic = precision == "auto"
        precision = resolve_precision(precision, self.device)
        if precision == self.precision or (automatic and self.precision != "float32"):
            return self
        if self.precision != "float32":
            raise InputError(f"{self.name} is in {self.precision} and cannot get back its bits: make a new one")
        try:
            other = copy.deepcopy(self.run_by(None), {id(self._state): self._state})
            other.network.to(PRECISIONS[precision])
            other.precision = precision
            other.compute(torch.zeros(1, 3, *self.example_size, device=self.device))
        except Exception as error:  # whatever it is that the network's own code cannot do
            if automatic:
                return self
            raise InputError(f"{self.name} cannot compute in {precision}: use --precision float32") from error
        return other

    def run_by(self, converted: ConvertedNetwork | None) -> Backbone:
        """A backbone that shares all but the runtime of its network, which is torch for None."""
        other = copy.copy(self)
        other.converted, other.choice = converted, None
        other._batch_exact = {}
        return other

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode whatever is asked: a backbone is frozen."""
        return super().train(False)

    def state_in_use(self) -> dict[str, Tensor]:
        """The tensors in use under the names of a weights file, as they were before batch norms were folded.

        ``backbones.create(name, layers=backbone.layers, weights=backbone.state_in_use())`` gives this backbone again.
        """
        return dict(self._state)


def _projected(
    network: nn.Module, projections: Sequence[tuple[Tensor, Tensor]], example: Tensor, name: str
) -> Discriminants:
    """The network with projections behind it, if they are of as many channels as it gives."""
    with torch.no_grad():
        channels = [layer.shape[1] for layer in network(example)]
    projected = [weight.shape[1] for weight, _ in projections]
    if channels != projected:
        raise InputError(f"the weights have projections of {projected} channels, but {name} gives {channels}")
    return Discriminants(network, projections).requires_grad_(False).eval()


def _concatenate(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """The maps of all images of several parts."""
    first, *others = parts
    return [torch.cat(maps) for maps in zip(first, *others, strict=True)] if others else first


def _weighted_mean(layer: Tensor) -> float:
    values = layer.abs().flatten().double()
    return float(values @ torch.linspace(0, 1, len(values), dtype=torch.float64) / len(values))
