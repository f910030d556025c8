"""Names to factories: the registries of backbones, estimators, detectors and datasets, and their plugins."""

from padim_zoo.registry.registry import REGISTRIES as REGISTRIES
from padim_zoo.registry.registry import Entry as Entry
from padim_zoo.registry.registry import Family as Family
from padim_zoo.registry.registry import PluginWarning as PluginWarning
from padim_zoo.registry.registry import Registry as Registry
from padim_zoo.registry.registry import backbones as backbones
from padim_zoo.registry.registry import datasets as datasets
from padim_zoo.registry.registry import detectors as detectors
from padim_zoo.registry.registry import estimators as estimators
from padim_zoo.registry.registry import load_plugin as load_plugin
from padim_zoo.registry.spec import parse_spec as parse_spec
from padim_zoo.registry.spec import write_spec as write_spec
