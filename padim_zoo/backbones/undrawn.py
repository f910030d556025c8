"""Networks are made without the random weights that a constructor draws: all of them are replaced right afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWING: frozenset[Any] = frozenset([nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_])
# These call `Tensor.normal_`, once. Others do so in a loop: `trunc_normal_` draws anew until every value lies within
# its bounds, which memory as it happens to be would never do.
_DRAWING_ONCE = frozenset([nn.init.kaiming_normal_.__code__])


class Undrawn(TorchFunctionMode):
    """Within it, matrices and larger tensors that would be filled at random stay as memory happens to be.

    To draw the 69 million weights of a wide_resnet50_2 takes half of the time to make one. Vectors are drawn as ever:
    those that no file holds keep the constructor's values.
    """

    @staticmethod
    def untouched(tensor: Tensor) -> Tensor:
        """What to do instead of drawing."""
        return tensor

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWING or (func is Tensor.normal_ and sys._getframe(1).f_code in _DRAWING_ONCE):
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.ndim > 1:
                return self.untouched(tensor)
        return func(*args, **kwargs)
