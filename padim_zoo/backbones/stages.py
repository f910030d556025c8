"""Layers of backbones: what a listing tells of them, and the choice of some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from padim_zoo import registry
from padim_zoo.core.errors import InputError


def default_layers(name: str) -> tuple[str, ...]:
    """Layers that a registered backbone gives when none are named; empty if it does not tell."""
    return _told(name, "layers")


def stages(name: str) -> tuple[str, ...]:
    """All stages of a registered backbone's trunk, in order; its default layers if it tells no more."""
    return _told(name, "stages") or default_layers(name)


def _told(name: str, what: str) -> tuple[str, ...]:
    entry = registry.backbones.entry(registry.parse_spec(name)[0])
    return tuple(entry.metadata.get(what) or ())


def chosen_layers(name: str, layers: Sequence[str] | None, stages: Iterable[str]) -> tuple[str, ...]:
    """The layers asked for, all that are known where none are named.

    Parameters
    ----------
    name : str
        What errors call the backbone.

    Raises
    ------
    InputError
        If one does not exist or is named twice, or none is left.
    """
    stages = tuple(stages)
    if layers is None:
        return stages
    if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(stages):
        asked_for = ",".join(layers) or "(none)"
        raise InputError(f"{name} has no layers {asked_for}: expected different ones of {', '.join(stages)}")
    return tuple(layers)
