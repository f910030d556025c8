"""Which programs a client and its workers run: results compare only between equal ones."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

import torch

import padim_zoo
from padim_zoo.registry import REGISTRIES


@cache
def describe_versions() -> str:
    """JSON of what must be equal: Python, torch, padim-zoo and the installed plugins; looked up once."""
    groups = [f"padim_zoo.{kind}" for kind in REGISTRIES]
    plugins = {point.dist for group in groups for point in entry_points(group=group) if point.dist is not None}
    return json.dumps(
        {
            "padim-zoo": padim_zoo.__version__,
            "torch": torch.__version__,
            platform.python_implementation(): f"{sys.version_info.major}.{sys.version_info.minor}",
            **{plugin.name: plugin.version for plugin in sorted(plugins, key=lambda plugin: plugin.name)},
        }
    )


def difference(own: str, other: str) -> str | None:
    """In which versions two such texts differ, in words; None if in none."""
    mine, theirs = _read(own), _read(other)
    parts = [
        f"{name} {theirs.get(name, 'none')} there and {mine.get(name, 'none')} here"
        for name in sorted({*mine, *theirs})
        if mine.get(name) != theirs.get(name)
    ]
    return ", ".join(parts) or None


def _read(text: str) -> Mapping[str, str]:
    values: Mapping[str, str] = json.loads(text)
    return values
