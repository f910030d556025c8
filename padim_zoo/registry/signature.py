"""The parameters that registered names take, and what is said of one that they do not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from padim_zoo.core.errors import InputError


@dataclass(frozen=True)
class Signature:
    """What a factory takes.

    Attributes
    ----------
    parameters : tuple of str
        None where they cannot be told.
    makes_maps : bool
        False of a detector that scores whole images.
    """

    parameters: tuple[str, ...]
    makes_maps: bool = True

    @staticmethod
    def of(factory: Callable[..., Any]) -> Signature:
        """That of a factory."""
        try:
            parameters = tuple(inspect.signature(factory).parameters)
        except (TypeError, ValueError):
            parameters = ()
        return Signature(parameters, bool(getattr(factory, "makes_maps", True)))


def unknown_parameter(
    kind: str, spec: str, parameter: str, own: Signature, others: Mapping[str, Signature]
) -> InputError:
    """What to raise where a spec names a parameter that is none, by what others take."""
    refused = f"{kind} {spec!r} has no parameter {parameter!r}"
    having = {name: other for name, other in sorted(others.items()) if parameter in other.parameters}
    if not having:
        return InputError(f"{refused}: expected {', '.join(own.parameters) or 'none'}")
    if not own.makes_maps and all(other.makes_maps for other in having.values()):
        refused += ", for it makes no maps"
    return InputError(f"{refused}: leave it out, or take {', '.join(having)}")
