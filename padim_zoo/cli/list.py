"""``padim-zoo list``: what the registries hold."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.candidates import complete_names
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_json, show_table
from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    from padim_zoo.registry import Entry


DESCRIBED = 50
"""More matches are listed by name alone: what a model of a family gives is found by building it without its numbers."""


@setting_command("list")
@click.argument("kind", type=click.Choice(["backbones", "estimators", "detectors", "datasets"]))
@click.argument("pattern", default="*", shell_complete=complete_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def show(kind: str, pattern: str, as_json: bool) -> None:
    """List backbones, estimators, detectors or datasets.

    PATTERN is a shell wildcard, e.g. "wide_*". Names with a prefix are listed by a pattern with that prefix, e.g.
    "timm/resnet*".
    """
    from padim_zoo.registry import REGISTRIES

    registry = REGISTRIES[kind]
    short = False
    catalog = registry.catalog()
    if catalog is not None and not any(pattern.startswith(prefix) for prefix in catalog.families):
        records = [dict(record) for name, record in catalog.records.items() if fnmatch.fnmatchcase(name, pattern)]
        families = dict(catalog.families)
    else:
        entries = [registry.entry(name) for name in registry.names(pattern)]
        short = len(entries) > DESCRIBED
        records = describe(entries, in_full=not short)
        families = {family.prefix: family.summary for family in registry.families()}
    if pattern == "*":
        records += [
            {"name": f"{prefix}*", "source": prefix.rstrip("/"), "summary": summary}
            for prefix, summary in families.items()
        ]
    if not records:
        raise InputError(f"no {registry.kind} matches {pattern!r}: padim-zoo list {kind} shows them all")
    if as_json:
        show_json(records)
    else:
        show_table([{key: value for key, value in record.items() if key != "stages"} for record in records])
    if short:
        click.echo(
            f"{len(records)} matches are listed by name alone: layers and channels are shown for {DESCRIBED} or fewer",
            err=True,
        )
    for plugin, reason in registry.problems.items():
        click.echo(f"not loaded: {plugin} ({reason})", err=True)


def describe(entries: Sequence[Entry[Any]], *, in_full: bool) -> list[dict[str, Any]]:
    """Registered names as records of one form: name, source, ``in_full`` all that any tells of itself, summary."""
    keys = dict.fromkeys(key for entry in entries for key in entry.metadata) if in_full else {}
    return [
        {
            "name": entry.name,
            "source": "padim_zoo" if entry.source.startswith("padim_zoo.") else entry.source,
            **{key: entry.metadata.get(key) for key in keys},
            "summary": entry.summary,
        }
        for entry in entries
    ]
