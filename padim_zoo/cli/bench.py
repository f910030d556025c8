"""``padim-zoo bench``: the grid of backbones, estimators and categories, run, recorded and shown."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from padim_zoo.bench.status import has_failed, is_done
from padim_zoo.cli.options import PATH
from padim_zoo.cli.settings import asked_settings, refuse_bad_variables, setting_command
from padim_zoo.core.errors import InputError
from padim_zoo.core.signals import exit_code_of_signal
from padim_zoo.data.pixel_limit import pixels_limited

SOME_FAILED = 1


@setting_command("bench")
@click.option("--config", type=PATH, metavar="FILE", help="Read settings from a YAML file; options override it.")
@click.option("--suite", metavar="NAME", help="Use built-in settings: paper.")
@click.option("--published", is_flag=True, help="Show published results beside measured ones.")
@click.option("--print-sbatch", type=click.IntRange(1), metavar="N", help="Print a SLURM array script of N shards.")
def bench(config: Path | None, suite: str | None, published: bool, print_sbatch: int | None, **_: Any) -> None:
    """Run a benchmark: backbones x estimators x categories x folds.

    Every finished run is recorded in the run store. If the benchmark is interrupted, run the same command again: it
    does the rest, and retries failed runs. Options override --config, which overrides --suite.

    --suite paper runs the configurations of the published tables on a copy of MVTec AD (--data-root). It shows the
    published results, and the differences from them, beside the measured ones.

    Progress goes to standard error: a live table on a terminal, else one JSON object per finished run. The leaderboard
    of the runs asked for goes to standard output. padim-zoo leaderboard --watch follows from another terminal.

    --cluster hands the runs to the workers of a Dask cluster. Without one, --shard 3/16 does a fixed sixteenth of them.
    See docs/clusters.md.

    Exit status: 0 all runs done, 1 some failed (their rows say why) or the cluster is gone, 2 bad input, 3 a disk that
    cannot be written to, 130 interrupted.
    """
    from padim_zoo.bench.store import RunStore
    from padim_zoo.bench.suite import Suite, preset_settings, read_settings
    from padim_zoo.data.sample import prepare_categories

    preset = preset_settings(suite) if suite else {}
    asked = Suite.from_settings(preset, read_settings(config) if config else {}, asked_settings())
    refuse_bad_variables("bench", vars(asked))
    if asked.cluster is not None and (print_sbatch is not None or asked.shard is not None):
        raise InputError("--cluster divides the work by itself: leave out --shard and --print-sbatch")
    if print_sbatch is not None:
        if asked.shard is not None:
            raise InputError(f"--print-sbatch {print_sbatch} cuts the plan into shards: leave out --shard")
        click.echo(_sbatch_script(print_sbatch, asked.output), nl=False)
        return
    click.get_current_context().with_resource(pixels_limited(asked.max_pixels))
    asked.load_plugins()
    store = RunStore(asked.output)
    prepare_categories(asked.open_dataset(), asked.categories)  # goes on while torch is imported below
    from padim_zoo.bench.build import runtime_of
    from padim_zoo.bench.executors.cluster import ClusterLostError
    from padim_zoo.bench.plan import make_plan
    from padim_zoo.bench.protocol import coverage_lines
    from padim_zoo.bench.schedule import execute, find_missing
    from padim_zoo.cli.progress import reporter

    quiet = asked.quiet
    plan = make_plan(asked)
    store.clean()
    missing = find_missing(plan, store, asked.time_exports, runtime_of(asked))
    report = reporter(len(plan), missing.done, quiet=quiet)
    for note in (*plan.notes, *missing.notes):
        report.note(note)

    documents = {document["id"]: document for document in missing.done}
    try:
        with report:
            for event in execute(asked, missing, store, report.note):
                report.show(event)
                if event.document is not None:
                    documents[event.run.id] = event.document
            if not quiet:
                for line in coverage_lines(documents.values()):
                    report.note(line)
    except KeyboardInterrupt as error:
        done = sum(is_done(document) for document in documents.values())
        click.echo(f"interrupted: {done} of {len(plan)} runs are done; run it again for the rest", err=True)
        sys.exit(exit_code_of_signal(error))
    except ClusterLostError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(SOME_FAILED)

    from padim_zoo.bench.leaderboard import leaderboard
    from padim_zoo.bench.table import BoardTable, remarks_of

    board = leaderboard(documents.values())
    if quiet:
        for remark in remarks_of(board):
            report.note(remark)
    else:
        from padim_zoo.bench.published import add_published
        from padim_zoo.cli.table import print_table

        print_table(BoardTable(add_published(board) if published or suite else board, bars=sys.stdout.isatty()))
        if sys.stdout.isatty():
            store_path = shlex.quote(str(asked.output))
            click.echo(f"\nruns in {store_path}; next: padim-zoo report {store_path} --output report.html")
    failed = [document for document in documents.values() if has_failed(document)]
    if failed:
        why = failed[0]["error"]["message"]
        click.echo(f"{len(failed)} of {len(plan)} runs failed, the first with: {why}", err=True)
        sys.exit(SOME_FAILED)


def _sbatch_script(shards: int, store: Path) -> str:
    """The command as a SLURM array, without the options that each job gets its own of."""
    from padim_zoo.bench.shard import sbatch_script
    from padim_zoo.core.provenance import provenance

    words: list[str] = []
    given = iter(shlex.split(provenance()["command"]))
    for word in given:
        name, _, value = word.partition("=")
        if name in ("--print-sbatch", "--output", "-o", "--shard"):
            if not value:
                next(given, None)
        else:
            words.append(word)
    return sbatch_script(words, shards, str(Path.cwd()), str(store))
