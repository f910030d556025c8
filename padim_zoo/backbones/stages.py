"""What the listing of a backbone tells of its layers, without building it."""

from __future__ import annotations

from padim_zoo import registry


def default_layers(name: str) -> tuple[str, ...]:
    """Layers that a registered backbone gives when none are named; empty if it does not tell."""
    return _told(name, "layers")


def stages(name: str) -> tuple[str, ...]:
    """All stages of a registered backbone's trunk, in order; its default layers if it tells no more."""
    return _told(name, "stages") or default_layers(name)


def _told(name: str, what: str) -> tuple[str, ...]:
    entry = registry.backbones.entry(registry.parse_spec(name)[0])
    return tuple(entry.metadata.get(what) or ())
