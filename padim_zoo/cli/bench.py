"""``padim-zoo bench``: the grid of backbones, estimators and categories, run, recorded and shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

INTERRUPTED = 130
SOME_FAILED = 1


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="YAML with any of these options.")
@click.option("--backbones", metavar="A,B", help="Backbones; wildcards allowed.  [default: builtin]")
@click.option("--estimators", metavar="A,B", help="Estimators.  [default: full,ledoit-wolf,diagonal]")
@click.option("--detectors", metavar="A,B", help="Detectors.  [default: padim]")
@click.option("--dataset", metavar="NAME", help="Data set.  [default: synthetic, or folder with --data-root]")
@click.option("--data-root", metavar="DIR", help="Folder of the data set.")
@click.option("--categories", metavar="A,B", help="Categories; wildcards allowed.  [default: all]")
@click.option("--normal", metavar="DIR", help="Normal images, for a data set in no known layout.")
@click.option("--abnormal", metavar="DIR", help="Anomalous images that go with --normal.")
@click.option("--masks", metavar="DIR", help="Masks of the anomalous images.")
@click.option("--folds", metavar="K", help="Folds of the normal images.  [default: 1; 5 with --ensemble]")
@click.option("--seeds", metavar="I,J", help="Seeds of the channel draw and the folds.  [default: 0]")
@click.option("--ensemble", multiple=True, metavar="A+B", help="BACKBONE[:ESTIMATOR]+BACKBONE[:ESTIMATOR]; repeatable.")
@click.option("--ensemble-rule", metavar="RULE", help="mean or max of the normalized maps.  [default: mean]")
@click.option("--layers", multiple=True, metavar="L", help="[BACKBONE=]LAYER,LAYER; repeatable.")
@click.option(
    "--train-sizes", metavar="5,10,all", help="Learning curves: runs on so many normal images.  [default: all]"
)
@click.option("--n-components", metavar="N", help="Dimensions of a patch embedding.  [default: the backbone's]")
@click.option("--reduction", metavar="HOW", help="leading, random or orthogonal.  [default: the backbone's]")
@click.option("--resize", metavar="SIZE", help="N (shorter side), HxW or none.  [default: 256]")
@click.option("--crop", metavar="SIZE", help="N, HxW or none.  [default: 224]")
@click.option("--sigma", metavar="PX", help="Blur of the anomaly map; 0 is off.  [default: 4]")
@click.option("--augment", metavar="A,B", help="Fit on other views too: flip,rotate(10),brightness(0.1) …")
@click.option("--passes", metavar="N", help="Views of each normal image with --augment.  [default: 4]")
@click.option("--tta", metavar="A,B", help="Score several views of an image: flip,rotate(5) …")
@click.option("--roi", metavar="MASK|DIR", help="Pixels that count: a mask for all images, or a folder of masks.")
@click.option("--weights", multiple=True, metavar="W", help="[BACKBONE=]default|none|PATH; repeatable.")
@click.option("--device", metavar="NAME", help="auto, cpu or cuda.  [default: auto]")
@click.option("--precision", metavar="TYPE", help="Of backbones: float32, bfloat16 or auto.  [default: auto]")
@click.option("--batch-size", metavar="N", help="Images that pass the backbone at a time.  [default: 32]")
@click.option("--cache/--no-cache", default=None, help="Keep features on disk for the next time.  [default: cache]")
@click.option(
    "--gallery/--no-gallery",
    default=None,
    help="Keep pictures of a few test images for the report.  [default: gallery]",
)
@click.option("--runtimes", metavar="A,B", help="Export to torch, onnx, openvino too and time that.  [default: none]")
@click.option("--jobs", metavar="N", help="Worker processes.  [default: 1]")
@click.option("--plugin", multiple=True, metavar="FILE", help="Python file that registers something; repeatable.")
@click.option("--output", metavar="DIR", help="Run store.  [default: runs]")
@click.option("--suite", metavar="NAME", help="Settings that come with padim-zoo: paper, the published tables'.")
@click.option("--published", is_flag=True, help="Put published figures beside measured ones.")
@click.option("--quiet", is_flag=True, help="Neither progress nor leaderboard, only notes and errors.")
@click.pass_context
def bench(
    ctx: click.Context, /, config: Path | None, suite: str | None, published: bool, quiet: bool, **options: Any
) -> None:
    """Fill a leaderboard: backbones x estimators x categories x folds.

    Every finished run is recorded in the run store. Interrupted in whatever way, the same command does only what is
    missing; failed runs are tried again. Options override those of --config, and these those of --suite.

    --suite paper runs the configurations of the published tables, on a copy of MVTec AD (--data-root), and puts the
    published figures, and the differences to them, beside the measured ones.

    Progress goes to standard error: a live table on a terminal, else one JSON object per finished run. The leaderboard
    of the runs asked for goes to standard output. padim-zoo leaderboard --watch follows from another terminal.

    Exit status: 0 all runs done, 1 some failed (their rows say why), 2 bad input, 130 interrupted.
    """
    from padim_zoo.bench.plan import make_plan
    from padim_zoo.bench.schedule import execute, find_missing
    from padim_zoo.bench.store import RunStore
    from padim_zoo.bench.suite import Suite, preset_settings, read_settings
    from padim_zoo.cli.progress import reporter

    given = {name: value for name, value in options.items() if value not in (None, ())}
    preset = preset_settings(suite) if suite else {}
    asked = Suite.from_settings(preset, read_settings(config) if config else {}, given)
    asked.load_plugins()
    store = RunStore(asked.output)
    plan = make_plan(asked)
    store.clean()
    missing = find_missing(plan, store, asked.runtimes)
    report = reporter(len(plan), missing.done, quiet=quiet)
    if asked.folds is None and asked.ensemble:
        report.note(f"ensembles need out-of-fold scores: {asked.fold_count} folds (choose with --folds)")
    for note in (*plan.notes, *missing.notes):
        report.note(note)

    documents = {document["id"]: document for document in missing.done}
    try:
        with report:
            for event in execute(asked, missing, store):
                report.show(event)
                if event.document is not None:
                    documents[event.run.id] = event.document
    except KeyboardInterrupt:
        done = sum(document["status"] == "done" for document in documents.values())
        click.echo(f"interrupted: {done} of {len(plan)} runs are done; the same command does the rest", err=True)
        ctx.exit(INTERRUPTED)

    if not quiet:
        from padim_zoo.bench.leaderboard import leaderboard
        from padim_zoo.bench.published import add_published
        from padim_zoo.bench.table import render
        from padim_zoo.cli.table import print_table

        board = leaderboard(documents.values())
        print_table(render(add_published(board) if published or suite else board, bars=sys.stdout.isatty()))
    failed = [document for document in documents.values() if document["status"] == "failed"]
    if failed:
        why = failed[0]["error"]["message"]
        click.echo(f"{len(failed)} of {len(plan)} runs failed, the first with: {why}", err=True)
        ctx.exit(SOME_FAILED)
