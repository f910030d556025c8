"""What the package itself registers, read from a file: to list names and to refuse wrong ones takes no torch.

``catalog.json`` is written by ``tools/write_catalog.py``, and a test compares it with the registries. It stands for
them only where no plugin is installed or loaded, which may have more.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from padim_zoo.registry.signature import Signature

KINDS = ("backbone", "dataset", "detector", "estimator")


@dataclass(frozen=True)
class Catalog:
    """The names of one kind.

    Attributes
    ----------
    records : mapping of str to dict
        What a listing says of each name.
    families : mapping of str to str
        Prefixes, and what a listing says of each.
    signatures : mapping of str to Signature
        The parameters of names that take specs with arguments; of none where there are no such names.
    """

    records: Mapping[str, Mapping[str, Any]]
    families: Mapping[str, str]
    signatures: Mapping[str, Signature]

    def may_have(self, name: str) -> bool:
        """Whether a name or a shell wildcard is here, or may be in a family."""
        in_family = any(name.startswith(prefix) for prefix in self.families)
        return in_family or bool(fnmatch.filter(self.records, name)) or name in self.records


@functools.cache
def read_catalog(kind: str) -> Catalog:
    """The catalog of a kind."""
    content = json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))[kind]
    for record in content["records"].values():
        if isinstance(record.get("weights_offline"), str):
            record["weights_offline"] = _hub_checkpoint(record["weights_offline"]).exists()
    told = content["signatures"].items()
    signatures = {name: Signature(tuple(one["parameters"]), one["makes_maps"]) for name, one in told}
    return Catalog(content["records"], content["families"], signatures)


@functools.cache
def plugin_names(kind: str) -> tuple[str, ...]:
    """The names of entry points of installed plugins, which are not loaded for it."""
    return tuple(sorted(entry_points(group=f"padim_zoo.{kind}s").names))


def are_plugins_installed() -> bool:
    """Whether any distribution has an entry point for this package."""
    return any(plugin_names(kind) for kind in KINDS)


def _hub_checkpoint(file: str) -> Path:
    """Where torch.hub keeps a file, by the rules of ``torch.hub.get_dir``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub" / "checkpoints" / file
