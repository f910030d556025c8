"""Layers of backbones: what a listing tells of them, and the choice of some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from padim_zoo import registry
from padim_zoo.core.errors import InputError


def default_layers(name: str) -> tuple[str, ...]:
    """Layers that a registered backbone gives when none are named; empty if it does not tell."""
    return _metadata(name, "layers")


def stages(name: str) -> tuple[str, ...]:
    """All stages of a registered backbone's trunk, in order; its default layers if it tells no more."""
    return _metadata(name, "stages") or default_layers(name)


def _metadata(name: str, what: str) -> tuple[str, ...]:
    entry = registry.backbones.entry(registry.parse_spec(name)[0])
    return tuple(entry.metadata.get(what) or ())


def check_layers(
    name: str, layers: Sequence[str] | None, available: Iterable[str], stages: Iterable[str] | None = None
) -> tuple[str, ...]:
    """The layers asked for, all that there are where none are named.

    Parameters
    ----------
    name : str
        What errors call the backbone.
    layers : sequence of str, optional
    available : iterable of str
        All layers that it has.
    stages : iterable of str, optional
        Those of them that errors list; all by default.

    Raises
    ------
    InputError
        If one does not exist or is named twice, or none is left.
    """
    if layers is None:
        return tuple(available)
    if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(available):
        expected = ", ".join(stages or available)
        given = ",".join(layers) or "(none)"
        raise InputError(f"{name} cannot take the layers {given}: expected one or more of {expected}, each once")
    return tuple(layers)
