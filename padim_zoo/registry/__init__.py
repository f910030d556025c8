"""Names to factories: the registries of backbones, estimators, detectors and datasets, and their plugins."""

from padim_zoo.registry.registry import (
    REGISTRIES,
    Entry,
    Family,
    PluginWarning,
    Registry,
    backbones,
    datasets,
    detectors,
    estimators,
    load_plugin,
)
from padim_zoo.registry.spec import parse_spec

__all__ = [
    "REGISTRIES",
    "Entry",
    "Family",
    "PluginWarning",
    "Registry",
    "backbones",
    "datasets",
    "detectors",
    "estimators",
    "load_plugin",
    "parse_spec",
]
