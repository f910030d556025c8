"""The rows of a large image through a network, some at a time and each once, in little memory.

Every value of the network keeps the rows that the next windows of its readers reach, and nothing before them. So
nothing is computed twice, as it is in the halos of blocks, and what is at work stays in the processor's caches.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from padim_zoo.backbones.cpu.onednn_fusion import FusedConvolution

_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    operator.add: operator.add,
    operator.iadd: operator.add,
    torch.add: torch.add,
    torch.relu: torch.relu,
    torch.relu_: torch.relu,
    functional.relu: torch.relu,
}
"""Functions that look at one position, with what stands for them where nothing is changed in place."""

_MODULES = (nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardswish, nn.SiLU, nn.GELU, nn.Dropout)
"""Modules that look at one position in eval mode."""


@dataclass(frozen=True)
class Window:
    """The rows that one row of a result depends on.

    Attributes
    ----------
    size, stride, padding : int
    fill : float
        What the rows beyond the edges are.
    """

    size: int = 1
    stride: int = 1
    padding: int = 0
    fill: float = 0.0

    def results(self, rows: int) -> int:
        """How many rows a result of so many rows has."""
        return (rows + 2 * self.padding - self.size) // self.stride + 1

    def ready(self, rows: int) -> int:
        """How many rows of the result the first rows are enough for."""
        return max(0, (rows + self.padding - self.size) // self.stride + 1)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Start and stop of the rows that the rows from ``first`` to ``last`` of the result depend on."""
        return first * self.stride - self.padding, (last - 1) * self.stride - self.padding + self.size


AT_ONE_POSITION = Window()


@dataclass(frozen=True)
class Operation:
    """One operation on rows.

    Attributes
    ----------
    call : callable
        Takes the rows of each input; windows are not padded above and below.
    inputs : tuple of str
    windows : tuple of Window
        One for each input.
    """

    call: Callable[..., Tensor]
    inputs: tuple[str, ...]
    windows: tuple[Window, ...]


class _Rows:
    """The rows of one value that are still wanted: those from ``first`` to ``made`` of ``total``."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.first = self.made = 0
        self._rows: Tensor | None = None

    def append(self, rows: Tensor, wanted: int) -> None:
        """Add rows, and drop those before ``wanted``."""
        made = self.made + rows.shape[2]
        if self._rows is not None and wanted < self.made:
            rows = torch.cat([self._rows[:, :, wanted - self.first :], rows], 2)
        self._rows, self.first, self.made = rows, made - rows.shape[2], made

    def between(self, start: int, stop: int, fill: float) -> Tensor:
        """Some rows, and ``fill`` beyond the edges."""
        assert self._rows is not None
        inside = self._rows[:, :, max(start, 0) - self.first : min(stop, self.total) - self.first]
        above, below = max(0, -start), max(0, stop - self.total)
        if not above and not below:
            return inside
        padded = functional.pad(inside, (0, 0, above, below), value=fill)
        return padded.contiguous(memory_format=torch.channels_last)


class RollingNetwork:
    """A network whose operations are done row by row.

    Parameters
    ----------
    image : str
        The name of its input.
    operations : dict of str to Operation
        By the names of their results, in order.
    outputs : tuple of str
    """

    def __init__(self, image: str, operations: dict[str, Operation], outputs: tuple[str, ...]) -> None:
        self.image = image
        self.operations = operations
        self.outputs = outputs
        self._readers: dict[str, list[tuple[str, Window]]] = {name: [] for name in (image, *operations)}
        for name, operation in operations.items():
            for source, window in zip(operation.inputs, operation.windows, strict=True):
                self._readers[source].append((name, window))

    @classmethod
    def of(cls, network: nn.Module) -> RollingNetwork | None:
        """The same network; None of one that was not traced, or has operations that are not known here."""
        if not isinstance(network, fx.GraphModule):
            return None
        image = ""
        outputs: tuple[str, ...] = ()
        operations: dict[str, Operation] = {}
        for node in network.graph.nodes:
            if node.op == "placeholder":
                image = node.name
            elif node.op == "output":
                outputs = tuple(each.name for each in node.args[0] if isinstance(each, fx.Node))
            else:
                operation = _operation(network, node)
                if operation is None:
                    return None
                operations[node.name] = operation
        return cls(image, operations, outputs)

    def __call__(self, parts: Iterable[Tensor], height: int) -> list[Tensor]:
        """The maps of one image.

        Parameters
        ----------
        parts : iterable of Tensor (1, C, h, W)
            The rows of the image in order, as the network takes them.
        height : int
            Rows of all parts.

        Returns
        -------
        list of Tensor (1, C_l, H_l, W_l)

        Raises
        ------
        RuntimeError
            If an image of so few rows is smaller than a window.
        """
        values = {self.image: _Rows(height)}
        for name, operation in self.operations.items():
            lengths = (
                window.results(values[source].total)
                for source, window in zip(operation.inputs, operation.windows, strict=True)
            )
            values[name] = _Rows(min(lengths))
            if values[name].total < 1:
                raise RuntimeError(f"no rows are left in {name}")
        maps: dict[str, Tensor] = {}
        for part in parts:
            self._add(values, self.image, part)
            for name, operation in self.operations.items():
                rows = self._next(values, name, operation)
                if rows is None:
                    continue
                if name in self.outputs:
                    _place(maps, name, rows, values[name])
                self._add(values, name, rows)
        return [maps[name] for name in self.outputs]

    def _next(self, values: dict[str, _Rows], name: str, operation: Operation) -> Tensor | None:
        """The next rows of a result, if there are any."""
        own = values[name]
        ready = own.total
        for source, window in zip(operation.inputs, operation.windows, strict=True):
            given = values[source]
            if given.made < given.total:
                ready = min(ready, window.ready(given.made))
        if ready <= own.made:
            return None
        rows = (
            values[source].between(*window.span(own.made, ready), window.fill)
            for source, window in zip(operation.inputs, operation.windows, strict=True)
        )
        return operation.call(*rows)

    def _add(self, values: dict[str, _Rows], name: str, rows: Tensor) -> None:
        """Add rows to a value; those that no reader reaches any more are dropped."""
        starts = [window.span(values[reader].made, 0)[0] for reader, window in self._readers[name]]
        values[name].append(rows, max(0, min(starts, default=values[name].made)))


def _place(maps: dict[str, Tensor], name: str, rows: Tensor, value: _Rows) -> None:
    """Write the next rows of a map."""
    if name not in maps:
        shape = (*rows.shape[:2], value.total, rows.shape[3])
        maps[name] = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
    maps[name][:, :, value.made : value.made + rows.shape[2]] = rows


def _operation(network: fx.GraphModule, node: fx.Node) -> Operation | None:
    """What a node does to rows; None if that is not known."""
    if node.op == "call_function":
        inputs = tuple(each.name for each in node.all_input_nodes)
        is_cat = node.target is torch.cat and (node.args[1:] == (1,) or node.kwargs.get("dim") == 1)
        function = torch.cat if is_cat else _FUNCTIONS.get(node.target)
        if function is None:
            return None
        return Operation(_on_rows(function, node), inputs, (AT_ONE_POSITION,) * len(inputs))
    inputs = tuple(each.name for each in node.args if isinstance(each, fx.Node))
    if node.op != "call_module" or node.kwargs or len(inputs) != len(node.args):
        return None
    points = (AT_ONE_POSITION,) * len(inputs)
    module = network.get_submodule(str(node.target))
    if type(module) in (nn.Conv2d, FusedConvolution):
        assert isinstance(module, nn.Conv2d)
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            return None
        size = module.dilation[0] * (module.kernel_size[0] - 1) + 1
        window = Window(size, module.stride[0], cast("tuple[int, int]", module.padding)[0])
        if window.padding >= window.size:  # some rows of the result would see no row of the image
            return None
        return Operation(RowConvolution.of(module, getattr(module, "relu", False)), inputs, (window, *points[1:]))
    if type(module) in (nn.MaxPool2d, nn.AvgPool2d):
        pool = _pool(cast("nn.MaxPool2d | nn.AvgPool2d", module))
        return None if pool is None else Operation(pool[0], inputs, (pool[1],))
    if type(module) in _MODULES:
        module = copy.copy(module)
        if hasattr(module, "inplace"):  # others may still read what it would change
            vars(module).update(inplace=False)
        return Operation(module, inputs, points)
    return None


def _on_rows(function: Callable[..., Tensor], node: fx.Node) -> Callable[..., Tensor]:
    """A function of a graph, of what its inputs are."""
    options = {name: value for name, value in node.kwargs.items() if name != "inplace"}

    def call(*rows: Tensor) -> Tensor:
        of_node = dict(zip(node.all_input_nodes, rows, strict=True))
        arguments, named = fx.map_arg((node.args, options), of_node.__getitem__)
        return function(*arguments, **named)

    return call


def _pool(module: nn.MaxPool2d | nn.AvgPool2d) -> tuple[Callable[[Tensor], Tensor], Window] | None:
    """A pooling without padding above and below, and its window."""
    size, stride, padding = (
        value if isinstance(value, tuple) else (value, value)
        for value in (module.kernel_size, module.stride, module.padding)
    )
    if module.ceil_mode:
        return None
    across = (0, padding[1])
    if isinstance(module, nn.AvgPool2d):
        if not module.count_include_pad:
            return None
        window = Window(size[0], stride[0], padding[0])
        return lambda rows: functional.avg_pool2d(
            rows, size, stride, across, divisor_override=module.divisor_override
        ), window
    gap = module.dilation if isinstance(module.dilation, tuple) else (module.dilation, module.dilation)
    if module.return_indices:
        return None
    window = Window(gap[0] * (size[0] - 1) + 1, stride[0], padding[0], -torch.inf)
    return lambda rows: functional.max_pool2d(rows, size, stride, across, gap), window


class RowConvolution(FusedConvolution):
    """A convolution that pads to the left and right alone."""

    @classmethod
    def of(cls, convolution: nn.Conv2d, relu: bool) -> RowConvolution:
        """As of the fused convolution."""
        rows = super().of(convolution, relu)
        rows.padding = (0, cast("tuple[int, int]", convolution.padding)[1])
        rows._packed = rows._call = None
        assert isinstance(rows, RowConvolution)
        return rows
