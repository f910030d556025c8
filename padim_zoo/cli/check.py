"""``padim-zoo check``: hold a fresh run store and fresh benchmarks to a committed baseline."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from padim_zoo.cli.inputs import read_runs
from padim_zoo.cli.options import PATH, check_target, refuse_same
from padim_zoo.cli.table import format_option, resolve_format, write_tables
from padim_zoo.core.numbers import in_number, number_of

if TYPE_CHECKING:
    from padim_zoo.bench.check.microbenchmark import Microbenchmarks
    from padim_zoo.bench.check.row import Row

REGRESSED = 1
"""Exit code when something got worse."""


@click.command()
@click.argument("runs", type=PATH, required=False)
@click.option("--baseline", type=PATH, required=True, metavar="FILE", help="The baseline to compare with.")
@click.option(
    "--benchmarks",
    type=PATH,
    metavar="FILE",
    multiple=True,
    help="Output of pytest --benchmark-json; repeatable, the fastest times count.",
)
@click.option("--accuracy-drop", default=0.01, show_default=True, help="How much worse a metric may get, beyond noise.")
@click.option(
    "--slowdown", default=1.3, show_default=True, help="Largest ratio of times, relative to the machine's speed."
)
@click.option("--memory-growth", default=1.2, show_default=True, help="Largest ratio of memory and of model sizes.")
@format_option("csv", "parquet")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write to a file.")
@click.option("--history", type=PATH, metavar="FILE", help="Append a line about RUNS; see padim-zoo plot --history.")
@click.option("--update", is_flag=True, help="Update the baseline with RUNS, --benchmarks or both.")
def command(
    runs: Path | None,
    baseline: Path,
    benchmarks: tuple[Path, ...],
    accuracy_drop: float,
    slowdown: float,
    memory_growth: float,
    form: str | None,
    output: Path | None,
    history: Path | None,
    update: bool,
) -> None:
    """Compare the run store RUNS, and benchmarks, with a baseline.

    Exit status: 0 nothing got worse, 1 something did (a table says what), 2 bad input. docs/ci-check.md says what
    counts as worse, and shows how to run this on every change.
    """
    from padim_zoo.bench.check.baseline import read_baseline
    from padim_zoo.bench.check.comparison import compare
    from padim_zoo.bench.check.finding import Limits
    from padim_zoo.bench.check.history import append_entry, entry_of
    from padim_zoo.bench.check.microbenchmark import fastest, read_microbenchmarks
    from padim_zoo.bench.check.row import read_rows
    from padim_zoo.cli.table import print_table, write_content
    from padim_zoo.core.file_lock import changing

    form = resolve_format(form, output, "csv", "parquet")

    if runs is None and not benchmarks:
        raise click.UsageError("nothing to compare: give a run store RUNS, or --benchmarks FILE, or both")
    if history is not None and runs is None:
        raise click.UsageError("--history records measurements of runs: give a run store RUNS")
    refuse_same({"--baseline": baseline, "--history": history, "--output": output})
    for option, path in {"--baseline": baseline, "--history": history, "--output": output}.items():
        if path is not None:
            check_target(path, "check.json", option)
    limits = Limits(accuracy_drop, slowdown, memory_growth)
    rows = None if runs is None else read_rows(*read_runs(runs))
    stages = fastest([read_microbenchmarks(path) for path in benchmarks]) if benchmarks else None
    if update:
        with changing(baseline):
            _update(baseline, rows, stages)
        if history is not None and rows is not None:
            append_entry(history, entry_of(rows, 0))
        return
    findings = compare(rows, stages, read_baseline(baseline), limits)
    if history is not None and rows is not None:
        append_entry(history, entry_of(rows, len(findings.regressions)))
    if form == "table":
        print_table(findings, output)
    elif form == "json":
        text = json.dumps(asdict(findings), indent=2, ensure_ascii=False)
        write_content(f"{text}\n".encode(), output)
    else:
        write_tables([findings.to_text()], form, output)
    if findings.regressions:
        sys.exit(REGRESSED)


def _update(path: Path, rows: list[Row] | None, benchmarks: Microbenchmarks | None) -> None:
    from padim_zoo.bench.check.baseline import Baseline, read_baseline, write_baseline
    from padim_zoo.core.errors import InputError

    old = read_baseline(path) if path.exists() else Baseline()  # a file that is something else is not overwritten
    if rows is not None:
        done = [row for row in rows if row.error is None]
        if not done:
            raise InputError(f"all {len(rows)} runs failed: a baseline needs runs that were done")
        if len(done) < len(rows):
            failed = in_number(len(rows) - len(done), "{runs that failed are|run that failed is}")
            click.echo(f"Warning: {failed} left out of the baseline", err=True)
        rows = done
    if benchmarks is not None and benchmarks.skipped:
        count = len(benchmarks.skipped)
        click.echo(f"Warning: {count} benchmarks that this machine cannot run are left out of the baseline", err=True)
    if any(row.machine.busy for row in rows or []):
        click.echo("Warning: the machine was busy with other work: its times will not be compared", err=True)
    new = Baseline(old.rows if rows is None else rows, old.benchmarks if benchmarks is None else benchmarks)
    write_baseline(path, new)
    count = 0 if new.benchmarks is None else len(new.benchmarks.timings)
    click.echo(f"{path}: {number_of(len(new.rows), 'run')}, {number_of(count, 'benchmark')}")
