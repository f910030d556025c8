"""What a shell offers after an option: names that the package knows, read from the catalog, and files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from padim_zoo.bench import readers

if TYPE_CHECKING:
    from padim_zoo.bench.setting import Setting

Items = list[CompletionItem]


def complete_setting(setting: Setting, command: str, incomplete: str) -> Items:
    """Names of a registry, in a list those after the last comma; files where a path is read."""
    if setting.read is readers.path:
        return [CompletionItem(incomplete, type="file")]
    before, comma, last = incomplete.rpartition(",") if setting.form_in(command) == "list" else ("", "", incomplete)
    return _matching(registered_names(f"{setting.one}s"), last, before + comma)


def registered_names(kind: str) -> list[str]:
    """The names of a registry and the prefixes of its families; empty for another kind.

    Names of installed plugins are those of their entry points, so that none of them is loaded.
    """
    from padim_zoo.registry import REGISTRIES
    from padim_zoo.registry.catalog import plugin_names, read_catalog

    registry = REGISTRIES.get(kind)
    if registry is None:
        return []
    catalog = read_catalog(registry.kind)
    return sorted({*catalog.records, *catalog.families, *plugin_names(registry.kind), *registry.registered()})


def complete_metrics(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Names of metrics."""
    from padim_zoo.metrics.metric import METRICS

    return _matching(METRICS, incomplete)


def complete_columns(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Names of metrics and costs, by which one sorts."""
    from padim_zoo.bench.costs import COSTS
    from padim_zoo.metrics.metric import METRICS

    return _matching((*METRICS, *COSTS), incomplete)


def complete_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Names of the kind that another argument says."""
    return _matching(registered_names(str(ctx.params.get("kind"))), incomplete)


def complete_files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Whatever files there are."""
    return [CompletionItem(incomplete, type="file")]


def _matching(names: Iterable[str], incomplete: str, before: str = "") -> Items:
    return [CompletionItem(before + name) for name in names if name.startswith(incomplete)]
