"""``padim-zoo compare``: two run stores, run by run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from padim_zoo.cli.options import PATH
from padim_zoo.cli.table import (
    format_option,
    print_table,
    resolve_format,
    show_table,
    table_of,
    tell_written,
    write_data,
    write_tables,
)
from padim_zoo.core.numbers import number_of


@click.command()
@click.argument("runs_a", type=PATH)
@click.argument("runs_b", type=PATH)
@format_option()
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write to a file.")
def compare(runs_a: Path, runs_b: Path, form: str | None, output: Path | None) -> None:
    """Compare the runs of two stores, pair by pair, on the same test images.

    Two runs are a pair if they differ only in what the whole stores differ in, e.g. the backbone, or in nothing, to
    compare machines or versions. Differences are B − A. A star marks differences of image AUROC that are significant
    at 0.05 over all pairs; for AUPIMO, which has a value of each image, its own interval and star.
    """
    from rich.console import Group

    from padim_zoo.bench.compare import compare_stores, compared_by_image, other_differences, paired_metric
    from padim_zoo.bench.formats import TextTable, records
    from padim_zoo.bench.store import RunStore
    from padim_zoo.metrics.metric import title_of

    form = resolve_format(form, output)
    comparison = compare_stores(RunStore(runs_a), RunStore(runs_b))
    if write_data(comparison, form, output):
        tell_written(form, output)
        return
    differing = [
        f"{name}: A {', '.join(_plain(value) for value in a)}; B {', '.join(_plain(value) for value in b)}"
        for name, (a, b) in comparison.attrs["differing"].items()
    ]
    compared = paired_metric().name
    others = {name: column for name, column in other_differences().items() if comparison[column].notna().any()}
    by_image = [name for name in compared_by_image() if comparison[f"{name}_difference"].notna().any()]
    rows = [
        {
            "category": row["category"],
            "run": row["run"],
            "A": _number(row[f"{compared}_a"], ".3f"),
            "B": _number(row[f"{compared}_b"], ".3f"),
            "B − A": _number(row["difference"], "+.3f") + "*" * row["significant"],
            "95 % interval": _interval(row["low"], row["high"]),
            "p": _number(row["p_value"], ".3g"),
            **{
                title_of(name): _number(row[column], "+.4f") + "*" * bool(row.get(f"{name}_significant"))
                for name, column in others.items()
            },
            **{
                f"{title_of(name)} 95 % interval": _interval(row[f"{name}_low"], row[f"{name}_high"])
                for name in by_image
            },
        }
        for row in records(comparison)
    ]
    if comparison.attrs["draw"] is not None:
        click.echo(comparison.attrs["draw"], err=True)
    unpaired = comparison.attrs["unpaired"]
    if any(unpaired):
        counts = f"{number_of(unpaired[0], 'run')} of A and {unpaired[1]} of B"
        click.echo(f"{counts} without a partner are left out", err=True)
    if form != "table":
        columns = list(rows[0])
        numbers = set(range(2, len(columns)))
        table = TextTable(columns, [list(row.values()) for row in rows], "; ".join(differing), numbers=numbers)
        write_tables([table], form, output)
    elif output is not None:
        print_table(Group(*differing, table_of(rows)), output)
    else:
        for line in differing:
            click.echo(line)
        show_table(rows)
    tell_written(form, output)


def _plain(value: str) -> str:
    loaded = json.loads(value)
    return "–" if loaded is None else "+".join(map(str, loaded)) if isinstance(loaded, list) else str(loaded)


def _interval(low: float | None, high: float | None) -> str:
    return "not defined" if low is None else f"{_number(low, '+.3f')} to {_number(high, '+.3f')}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
