"""Convolution, addition and ReLU in one pass over the activations, on a CPU.

A residual network reads and writes its activations three times for one convolution: to convolve, to add, to cut off
what is negative. oneDNN does all of it while the values are still in registers. torch uses that in compiled graphs;
here the same operators are called from a network that was traced but not compiled, so that no compiler is needed. They
are not a documented part of torch, so that results are held to those of the network as it was, and it stays as it is
where they differ, where it cannot be traced, or where the operators are not there.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELUS = (nn.ReLU, functional.relu, torch.relu, torch.relu_, "relu", "relu_")
_PADDING = 32
"""Pixels by which each of two further examples is larger: what a trace took for constant would differ there."""

_TOLERANCE = 1e-5
"""Of the largest value: what the order of additions may change in float32."""


TRACING = threading.RLock()
"""One trace at a time: torch.fx replaces nn.Module's own methods meanwhile, and two would restore each other's."""


class OwnThreadTracer(fx.Tracer):
    """A tracer that leaves the networks at work in other threads alone, whose modules call it too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return self.call_of_own_thread(m, forward, args, kwargs)

    def call_of_own_thread(self, module: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """What ``call_module`` is to other tracers."""
        return super().call_module(module, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class FusedConvolution(nn.Conv2d):
    """A convolution, to which another map may be added, and a ReLU if it is said to have one."""

    relu: bool
    _packed: tuple[Any, Tensor] | None = None
    _call: tuple[Any, tuple[Any, ...] | None] | None = None

    @classmethod
    def of(cls, convolution: nn.Conv2d, relu: bool) -> FusedConvolution:
        """A convolution with the same weights, under the same names, with zeros as padding.

        Parameters
        ----------
        convolution : Conv2d
        relu : bool
            Whether negative results become 0.
        """
        fused = copy.copy(convolution)
        fused._parameters = dict(convolution._parameters)
        fused.__class__ = cls
        assert isinstance(fused, FusedConvolution)
        fused.relu = relu
        return fused

    def forward(self, maps: Tensor, other: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) of maps; ``other`` has the shape of the result."""
        arguments = None
        if not torch.is_grad_enabled() and not is_traced():  # the fused operators have no gradients
            arguments = self._arguments(maps, other)
        if arguments is None:
            result: Tensor = super().forward(maps)
            result = result if other is None else result + other
            return torch.relu_(result) if self.relu else result
        result = _fused(maps, *arguments) if other is None else _fused.binary(maps, other, *arguments)
        return result

    def _arguments(self, maps: Tensor, other: Tensor | None) -> tuple[Any, ...] | None:
        """What the fused operator takes beside maps of this layout; None where it cannot be used.

        To look at all that anew at each call took 0.03 ms, a quarter of a small convolution of one image.
        """
        weight = self._parameters["weight"]  # ten times as fast as the attribute
        assert weight is not None
        version = None if weight.is_inference() else weight._version
        key = (_layout(maps), None if other is None else _layout(other), weight.data_ptr(), weight.dtype, version)
        call = self._call  # other threads may replace it
        if call is None or call[0] != key:
            call = self._call = key, self._prepare(maps, other)
        return call[1]

    def _prepare(self, maps: Tensor, other: Tensor | None) -> tuple[Any, ...] | None:
        inputs = (maps, self.weight) if other is None else (maps, self.weight, other)
        # The fused operators read beyond the end of a map that would have to be repeated.
        if not all(map(_suits_onednn, inputs)) or (other is not None and other.shape != self._shape_of_result(maps)):
            return None
        convolution = (self._packed_for(maps), self.bias, *self._geometry)
        if other is None:
            return (*convolution, "relu" if self.relu else "none", [], "")
        return (*convolution, "add", 1.0, "relu" if self.relu else None, [], None)

    @property
    def _geometry(self) -> tuple[Any, ...]:
        return self.padding, self.stride, self.dilation, self.groups

    def _packed_for(self, maps: Tensor) -> Tensor:
        """The weights as oneDNN wants them for maps of this size, which it would else work out at every call.

        That takes as long as a third of the convolutions of a resnet18 for one image in bfloat16.
        """
        if _pack is None:
            return self.weight
        version = None if self.weight.is_inference() else self.weight._version
        key = maps.shape[1:], self.weight.dtype, self.weight.data_ptr(), version
        packed = self._packed  # other threads may replace it
        if packed is None or packed[0] != key:
            packed = self._packed = key, _pack(self.weight, *self._geometry, list(maps.shape))
        return packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_packed", "_call")}

    def _shape_of_result(self, maps: Tensor) -> tuple[int, ...]:
        padding = cast("tuple[int, ...]", self.padding)
        sizes = zip(maps.shape[2:], padding, self.dilation, self.kernel_size, self.stride, strict=True)
        lengths = ((size + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for size, pad, gap, kernel, step in sizes)
        return (maps.shape[0], self.out_channels, *lengths)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _suits_onednn(tensor: Tensor) -> bool:
    """Whether a tensor is of a type that oneDNN has here, and lies as it wants it.

    Sums of others it makes by operators that know no bfloat16; and where the processor lacks bfloat16, a convolution
    does without oneDNN, but a fused one fails.
    """
    if tensor.device.type != "cpu" or not tensor.is_contiguous(memory_format=torch.channels_last):
        return False
    return tensor.dtype == torch.float32 or (tensor.dtype == torch.bfloat16 and _has_bfloat16())


@lru_cache(maxsize=1)
def _has_bfloat16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def is_traced() -> bool:
    """Whether somebody makes a graph of this call, for other devices and numbers of images."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _operator(name: str) -> Any:
    mkldnn: Any = torch.backends.mkldnn
    return getattr(torch.ops.mkldnn, name, None) if mkldnn.is_available() else None


_fused = _operator("_convolution_pointwise")
_pack = _operator("_reorder_convolution_weight")


_agreed: set[tuple[str, ...]] = set()
"""What has been compared in this process already: benchmarks make the same network again and again."""


def fuse_activations(network: nn.Module, example: Tensor, weights_hash: str) -> nn.Module:
    """The same network with additions and ReLUs done by the convolutions before them, where that can be.

    Parameters
    ----------
    network : Module
        In eval mode; returns a list of maps. It shares its convolutions with the result.
    example : Tensor (1, 3, H, W)
        An input of the network, float32.
    weights_hash : str
        Identity of the network's weights. Networks of the same modules, code and weights are compared once.
    """
    if _fused is None:
        return network
    try:
        with TRACING:
            traced = fx.GraphModule(network, OwnThreadTracer().trace(network))
        if not _fuse(traced):
            return network
        key = (weights_hash, str(traced), str(tuple(example.shape)))  # as text it is the modules and the code
        same = key in _agreed or _agree_on(example, network, traced)
    except Exception:  # tracing runs the network's own code on what is no tensor: anything may be raised
        return network
    # What a trace took for constant stands in the code, unless it is a tensor.
    if same and not any(node.op == "get_attr" for node in traced.graph.nodes):
        _agreed.add(key)
    return traced.eval() if same else network


def _fuse(traced: fx.GraphModule) -> int:
    """Fuse in place; how many convolutions now do more than convolve."""
    modules: dict[str, nn.Module] = dict(traced.named_modules())
    for node in list(traced.graph.nodes):  # what folding left of batch norms stands between convolutions and ReLUs
        if node.op == "call_module" and type(modules[node.target]) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")

    fused: set[str] = set()

    def is_convolution(node: Any) -> bool:
        """Whether a node is a plain convolution that is called once and read once, and not fused yet."""
        if not isinstance(node, fx.Node) or node.op != "call_module" or len(node.users) != 1:
            return False
        module = modules[str(node.target)]
        if str(node.target) in fused or type(module) is not nn.Conv2d or calls[str(node.target)] != 1:
            return False
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)

    def is_relu(node: fx.Node) -> bool:
        called = type(modules[str(node.target)]) if node.op == "call_module" else node.target
        return node.op.startswith("call_") and called in _RELUS

    def replace(name: str, relu: bool) -> None:
        parent, _, child = name.rpartition(".")
        setattr(traced.get_submodule(parent), child, FusedConvolution.of(cast(nn.Conv2d, modules[name]), relu))
        fused.add(name)

    for node in list(traced.graph.nodes):
        relu = is_relu(node)
        before = node.args[0] if relu and node.args else node
        if not isinstance(before, fx.Node):
            continue
        convolution, other = before, None
        if before.op == "call_function" and before.target in _ADDITIONS and not before.kwargs:
            # A sum that a ReLU follows is looked at there; one that is written to a map changes that map for others.
            users = list(before.users)
            if before is node and len(users) == 1 and is_relu(users[0]):
                continue
            first, second = before.args
            sides = [(first, second)] if before.target is operator.iadd else [(second, first), (first, second)]
            pair = next((pair for pair in sides if is_convolution(pair[0]) and isinstance(pair[1], fx.Node)), None)
            if pair is None or (relu and len(before.users) != 1):
                continue
            convolution, other = cast("tuple[fx.Node, fx.Node]", pair)
        elif not relu or not is_convolution(before):
            continue
        name = str(convolution.target)
        replace(name, relu)
        with traced.graph.inserting_before(node):
            inputs = (convolution.args[0],) if other is None else (convolution.args[0], other)
            node.replace_all_uses_with(traced.graph.call_module(name, inputs))
        traced.graph.erase_node(node)
        for replaced in dict.fromkeys((before, convolution)):
            if replaced is not node:
                traced.graph.erase_node(replaced)
    if fused:
        for node in traced.graph.nodes:  # what does nothing but convolve gains by packed weights
            if is_convolution(node):
                replace(str(node.target), relu=False)
    traced.recompile()
    return len(fused)


def _agree_on(example: Tensor, network: nn.Module, fused: nn.Module) -> bool:
    larger = functional.pad(example, (0, _PADDING, 0, _PADDING), value=0.5)
    with torch.no_grad():
        return all(_agree(network(images), fused(images)) for images in (example, torch.cat([larger, -larger])))


def _agree(expected: Sequence[Tensor], fused: Sequence[Tensor]) -> bool:
    return len(expected) == len(fused) and all(
        one.shape == other.shape and float((one - other).abs().max()) <= _TOLERANCE * float(one.abs().max())
        for one, other in zip(expected, fused, strict=True)
    )
