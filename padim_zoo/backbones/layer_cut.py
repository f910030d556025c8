"""A network cut after some of its layers, so that it gives their maps and computes nothing else.

As torchvision's ``create_feature_extractor`` does it, by a graph of the network without what the maps do not need. That
function traces every module that is called meanwhile, those of networks at work in other threads included, whose
results it spoils; here these are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from padim_zoo.backbones.cpu.onednn_fusion import TRACING, OwnThreadTracer


def cut_network(model: nn.Module, layers: Sequence[str]) -> fx.GraphModule:
    """A network that gives what some modules of a model give.

    Parameters
    ----------
    model : Module
        One of torchvision's; its control flow must not depend on the numbers in an image. It shares its parameters
        with the result, in which they keep their names.
    layers : sequence of str
        Names of modules; of one that is called several times, the first call counts.

    Returns
    -------
    GraphModule
        In the mode, train or eval, of the model; returns a list with one map per layer.
    """
    tracer = _LayerTracer(layers)
    with TRACING:
        graph = tracer.trace(model)
    graph.erase_node(next(node for node in reversed(graph.nodes) if node.op == "output"))
    graph.output([tracer.outputs[layer] for layer in layers])
    cut = fx.GraphModule(model, graph)
    cut.graph.eliminate_dead_code()
    cut.recompile()
    cut.delete_all_unused_submodules()
    return cut


class _LayerTracer(OwnThreadTracer):
    """Notes the nodes that layers give; operations of torchvision are not looked into.

    Buffers stay buffers under their names: as constants of the graph, no weights file would know them.
    """

    proxy_buffer_attributes = True

    def __init__(self, layers: Sequence[str]) -> None:
        import torchvision

        super().__init__(autowrap_modules=(math, torchvision.ops))
        self._layers = set(layers)
        self.outputs: dict[str, fx.Node] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torchvision.ops.") or super().is_leaf_module(m, module_qualified_name)

    def call_of_own_thread(self, module: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        output = super().call_of_own_thread(module, forward, args, kwargs)
        name = self.path_of_module(module)
        if name in self._layers and isinstance(output, fx.Proxy):
            self.outputs.setdefault(name, output.node)
        return output
