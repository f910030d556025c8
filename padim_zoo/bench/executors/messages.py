"""What goes to a worker of a cluster and comes back: JSON and bytes, made of suites and runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from padim_zoo.bench.run import Run, RunConfig
from padim_zoo.bench.settings import settings_of
from padim_zoo.bench.suite import Suite

DATA_ROOT = "PADIM_ZOO_DATA_ROOT"
"""The environment variable by which a worker has its data elsewhere than the client."""

_OF_CLIENT = {"output", "jobs", "cluster", "insecure", "shard", "plugin"}
"""Settings that are no business of a worker."""

Files = dict[str, bytes]
"""The files of one run, as :func:`padim_zoo.bench.store.encode_run` gives them."""


@dataclass(frozen=True)
class Reply:
    """What a worker says of a group.

    Attributes
    ----------
    refusal : str or None
        Why it did nothing.
    manifest : list or None
        The files of its copy of the data, where that is another than the client's.
    recorded : list of (str, Files)
        The runs that it did, by their ids.
    """

    refusal: str | None = None
    manifest: list[list[Any]] | None = None
    recorded: list[tuple[str, Files]] = field(default_factory=list)

    def to_message(self) -> tuple[str, list[tuple[str, Files]]]:
        """The reply as plain values."""
        return json.dumps({"refusal": self.refusal, "manifest": self.manifest}), self.recorded

    @classmethod
    def from_message(cls, message: Sequence[Any]) -> Reply:
        """The reply that gave a message."""
        told, recorded = message
        return cls(**json.loads(told), recorded=[(str(run_id), dict(files)) for run_id, files in recorded])


def suite_to_json(suite: Suite) -> dict[str, Any]:
    """The settings of a suite that a worker needs, with absolute paths."""
    rows = [row for row in settings_of("bench") if row.name not in _OF_CLIENT]
    return {row.name: _plain(getattr(suite, row.name)) for row in rows}


def runs_to_json(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Runs as JSON holds them."""
    return [
        {
            "config": run.config.to_dict(),
            "weights": absolute_weights(run.weights),
            "weights_label": run.weights_label,
            "members": runs_to_json(run.members),
            "draws": list(run.draws),
            "asked_resize": run.asked_resize,
        }
        for run in runs
    ]


def runs_from_json(values: Iterable[Mapping[str, Any]]) -> list[Run]:
    """The runs that :func:`runs_to_json` was given."""
    return [
        Run(
            RunConfig(**{name: _frozen(setting) for name, setting in value["config"].items()}),
            value["weights"],
            value["weights_label"],
            tuple(runs_from_json(value["members"])),
            tuple(value["draws"]),
            value["asked_resize"],
        )
        for value in values
    ]


def absolute_weights(weights: str) -> str:
    """Weights of a file by its whole path, where they lie on all machines; others by their name."""
    return str(Path(weights).absolute()) if Path(weights).is_file() else weights


def plugins_to_json(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Name and text of plugin files."""
    return [(path.name, path.read_bytes().decode("utf-8")) for path in paths]


def hash_of_text(text: str) -> str:
    """What tells one version of a plugin from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def first_difference(own: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> str:
    """The first file in which two manifests of :meth:`padim_zoo.data.sample.Category.manifest` differ, in words."""
    for mine, theirs in zip(own, other, strict=False):
        if list(mine) != list(theirs):
            same_name = mine[2] == theirs[2]
            return f"{mine[2]} has other content or another label there" if same_name else f"{mine[2]} is {theirs[2]}"
    longer, where = (own, "is missing there") if len(own) > len(other) else (other, "is there alone")
    return f"{longer[min(len(own), len(other))][2]} {where}"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def _frozen(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    if isinstance(value, dict):
        return {name: _frozen(part) for name, part in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
