"""The constructor's arguments of a detector: what they are, which of them change, and how they are shown."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np


@cache
def parameter_names(kind: type) -> tuple[str, ...]:
    """The names of the constructor's arguments, in order."""
    return tuple(inspect.signature(kind).parameters)


def nested_parameters(own: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of arguments that have some, as ``a__b``."""
    return {
        f"{name}__{inner}": value
        for name, part in own.items()
        if hasattr(part, "get_params") and not isinstance(part, type)
        for inner, value in part.get_params().items()
    }


def set_arguments(detector: Any, parameters: Mapping[str, Any]) -> set[str]:
    """Set arguments of a detector, or of arguments that have some, and tell which have changed.

    Raises
    ------
    ValueError
        If a name is no argument of the constructor; nothing is changed then.
    """
    before = detector.get_params(deep=False)
    own = {name: value for name, value in parameters.items() if "__" not in name}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in parameters.items():
        outer, separator, inner = name.partition("__")
        part: Any = own.get(outer, before.get(outer))
        takes = hasattr(part, "set_params") and inner.partition("__")[0] in part.get_params() if separator else True
        if outer not in before or not takes:
            expected = ", ".join(detector.get_params())
            raise ValueError(f"{type(detector).__name__} has no parameter {name!r}: expected one of {expected}")
        if separator:
            nested.setdefault(outer, {})[inner] = value
    for outer, values in nested.items():  # first, for a part may refuse a value
        own.get(outer, before[outer]).set_params(**values)
    for name, value in own.items():
        setattr(detector, name, value)
    return nested.keys() | {name for name, value in own.items() if _differ(value, before[name])}


def constructor_call(detector: Any) -> str:
    """The call of the constructor, without arguments that are as by default."""
    arguments = []
    for name, parameter in inspect.signature(type(detector)).parameters.items():
        value, default = getattr(detector, name), parameter.default
        if value is not default and (type(value) is not type(default) or value != default):
            text = repr(value)
            arguments.append(f"{name}={text if chr(10) not in text else f'<{type(value).__name__}>'}")
    return f"{type(detector).__name__}({', '.join(arguments)})"


def _differ(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are not the same; masks may be arrays, whose comparison is no yes or no."""
    if one is other:
        return False
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is not type(other) or not np.array_equal(one, other)
    return bool(one != other)
