"""``padim-zoo data``: make the synthetic data set; check a folder of images; find suspects in it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.groups import SuggestingGroup
from padim_zoo.cli.options import PATH, comma_separated
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.suspects import suspects
from padim_zoo.cli.table import show_json, show_table
from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    from padim_zoo.data.validate import Report

ERRORS_FOUND = 1
"""Exit code of ``data check`` when a run on the folder would fail or mean nothing."""

SHOWN = 5
"""Files that are named for each problem."""


@click.group(cls=SuggestingGroup)
def data() -> None:
    """Make the synthetic data set, check a folder of images, or find suspects among normal ones."""


data.add_command(suspects)


@setting_command("data synthetic")
@click.argument("out", type=PATH)
@click.option("--categories", callback=comma_separated, help="Categories to make, comma-separated.  [default: all]")
@click.option("--size", default="256", show_default=True, metavar="N|HxW", help="Height and width in pixels.")
@click.option("--defect-area", metavar="A..B", help="Pixels of a defect, e.g. 50..500.  [default: by the size]")
@click.option("--train", type=int, default=40, show_default=True, help="Normal training images per category.")
@click.option("--good", type=int, default=12, show_default=True, help="Normal test images per category.")
@click.option("--defects", type=int, default=3, show_default=True, help="Test images per kind of defect and category.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed; another one gives other images.")
def synthetic(
    out: Path,
    categories: tuple[str, ...] | None,
    size: str,
    defect_area: str | None,
    train: int,
    good: int,
    defects: int,
    seed: int,
) -> None:
    """Write the synthetic data set to OUT, in the layout of MVTec AD."""
    from padim_zoo.data.synthetic import CATEGORIES, generate
    from padim_zoo.data.transform import check_size, parse_size

    pixels = check_size("--size", parse_size(size))
    area = None if defect_area is None else _range("--defect-area", defect_area)
    counts = {"train": train, "good": good, "defects_per_kind": defects}
    generate(out, categories=categories, **counts, size=pixels, defect_area=area, seed=seed)
    click.echo(f"{out}: {', '.join(categories or CATEGORIES)}")


@setting_command("data check")
@click.argument("folder", type=PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one report per category.")
@click.option("--all", "everything", is_flag=True, help=f"List every file, not only {SHOWN} per problem.")
def check(
    folder: Path | None,
    as_json: bool,
    everything: bool,
    normal: Path | None,
    abnormal: Path | None,
    masks: Path | None,
) -> None:
    """Read all images and masks, and report counts and problems.

    FOLDER is a data set, a folder of normal images, or a glob of them. Or name your images by --normal and --abnormal.

    The exit code is 1 if there are errors; warnings alone leave it at 0. The last line is the command to run next.
    """
    from padim_zoo.bench.protocol import resolve_transform
    from padim_zoo.bench.readers import PROTOCOL
    from padim_zoo.cache.usual import usual_fingerprints
    from padim_zoo.data.validate import check as examine
    from padim_zoo.data.validate import data_set_at
    from padim_zoo.registry import datasets

    named = {"normal": normal, "abnormal": abnormal, "masks": masks}
    paths = {name: path for name, path in named.items() if path is not None}
    if (folder is None) == (not paths):
        sources = "both FOLDER and --normal or --abnormal" if paths else "nothing to check"
        raise InputError(f"{sources}: expected a FOLDER, or --normal DIR and perhaps --abnormal DIR")
    if folder is None:
        dataset = datasets.create("folder", fingerprints=usual_fingerprints, **paths)
    else:
        dataset = data_set_at(folder, usual_fingerprints)
    reports = examine(dataset, resolve_transform(PROTOCOL, PROTOCOL))
    if as_json:
        show_json([report.to_dict() for report in reports])
    else:
        show_table([_counts(report) for report in reports])
        for report in reports:
            if report.coverage is not None:
                click.echo(f"\n{report.category}: {report.coverage}")
        for report in reports:
            for problem in report.problems:
                click.echo(f"\n{report.category}: {problem.severity}: {problem.message}")
                shown = problem.items if everything else problem.items[:SHOWN]
                for item in shown:
                    click.echo(f"    {item}")
                if len(shown) < len(problem.items):
                    click.echo(f"    and {len(problem.items) - len(shown)} more (--all)")
        click.echo(f"\nnext: {_next_command(folder, paths, dataset.name, reports)}")
    if not all(report.usable for report in reports):
        sys.exit(ERRORS_FOUND)


data.add_command(synthetic)
data.add_command(check)


def _next_command(folder: Path | None, paths: Mapping[str, Path], dataset: str, reports: Sequence[Report]) -> str:
    """What to run on these images: a benchmark, or a fit where nothing can be measured."""
    from padim_zoo.data.validate import UNREADABLE

    if folder is not None and not folder.exists():  # a pattern
        paths = {"normal": folder}
    options = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    advice = ""
    if not all(report.usable for report in reports):
        errors = [one.message for report in reports for one in report.problems if one.severity == "error"]
        if not all(message.endswith(UNREADABLE) for message in errors):
            again = [str(folder)] if folder is not None else options
            return f"mend the errors, then {shlex.join(['padim-zoo', 'data', 'check', *again])}"
        advice = "mend these images, or leave them out: "
    if not paths:
        options = ["--data-root", str(folder), *(["--dataset", dataset] if dataset != "folder" else [])]
    if advice:
        options = [*options, "--skip-unreadable"]
    if all(_has_both(report) for report in reports):
        return advice + shlex.join(["padim-zoo", "bench", *options])
    category = ["--category", reports[0].category] if len(reports) > 1 else []
    return advice + shlex.join(["padim-zoo", "fit", *options, *category, "--output", "model.safetensors"])


def _has_both(report: Report) -> bool:
    test = report.counts.get("test", {})
    return bool(test.get("good")) and len(test) > 1


def _range(name: str, text: str) -> tuple[int, int]:
    """Two whole numbers, ``A..B``."""
    first, _, last = text.partition("..")
    if not (first.strip().isdecimal() and last.strip().isdecimal()):
        raise InputError(f"{name} is {text!r}: expected two numbers of pixels, e.g. 50..500")
    return int(first), int(last)


def _counts(report: Report) -> dict[str, Any]:
    """A report as a row of a table."""
    train, test = (sum(report.counts.get(split, {}).values()) for split in ("train", "test"))
    good = report.counts.get("test", {}).get("good", 0)
    errors = sum(problem.severity == "error" for problem in report.problems)
    return {
        "category": report.category,
        "dataset": report.dataset,
        "train": train,
        "test_good": good,
        "test_anomalous": test - good,
        "kinds": sorted(set(report.counts.get("test", {})) - {"good"}),
        "sizes": _most(report.sizes),
        "modes": list(report.modes),
        "errors": errors,
        "warnings": len(report.problems) - errors,
    }


def _most(sizes: Mapping[str, int]) -> str:
    """The commonest sizes, of which a folder may have hundreds."""
    first = list(sizes)[:3]
    return ", ".join(first) + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")
