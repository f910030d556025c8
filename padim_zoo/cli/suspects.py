"""``padim-zoo data suspects``: normal images that may not be normal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.options import PATH, check_target, refuse_same
from padim_zoo.cli.settings import asked_parameters, is_quiet, setting_command
from padim_zoo.cli.table import show_json, show_table
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import SUSPECTS_RATE

SUSPECTS_FOUND = 1
"""Exit code of ``data suspects`` where an image is suspected, or a test image is among the normal ones."""

ROWS = 10
"""Images that are printed, beside all suspected ones."""

_PROBED_IMAGES = 4


@setting_command("data suspects")
@click.argument("folder", type=PATH)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="A contact sheet, one HTML page.")
@click.option(
    "--rate",
    type=float,
    default=SUSPECTS_RATE,
    show_default=True,
    help="Share of normal images among the suspects.",
)
@click.option("--exact", is_flag=True, help="Estimate shrinkage anew without each image.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def suspects(
    folder: Path,
    output: Path | None,
    rate: float,
    exact: bool,
    as_json: bool,
    detector: str,
    skip_unreadable: bool,
    **_: Any,
) -> None:
    """Rank normal images, each scored by a fit on all others.

    FOLDER holds normal images, or is one category: then its training images are scored, and copies of test images
    among them are found.

    The report also lists copies, odd sizes and odd exposures. The exit code is 1 if there are suspects, or test
    images among the normal ones.
    """
    from padim_zoo.core.atomic_write import write_text_whole
    from padim_zoo.data.unreadable import naming_unreadable, readable_images

    if not 0 < rate < 1:
        raise InputError(f"--rate is {rate}: expected a number between 0 and 1, e.g. 0.05")
    if output is not None:
        check_target(output, "suspects.html")
    paths, test = _images_of(folder)
    if skip_unreadable:
        unreadable = set(readable_images([*paths, *(sample.path for sample in test)])[1])
        paths = [path for path in paths if path not in unreadable]
        test = [sample for sample in test if sample.path not in unreadable]
    refuse_same({"--output": output}, paths)
    from padim_zoo.cache.caches import Caches
    from padim_zoo.detectors.suspects import SHOWN, find_suspects
    from padim_zoo.registry import detectors
    from padim_zoo.report.suspects_page import examine, render_suspects

    model: Any = detectors.create(detector, **asked_parameters())
    check_suspects(model, paths)
    model.cache = Caches.usual()
    with naming_unreadable(paths):
        tell_cost(_cost_of_features(model, paths))
        model.fit(paths)
    found = examine(paths, find_suspects(model, exact=exact, rate=rate, tell=tell_cost), test)
    if output is not None:
        write_text_whole(output, render_suspects(found, model))
    if as_json:
        show_json(found.to_dict())
    else:
        count = int(found.suspects.suspected.sum())
        show_table([{"rank": rank, **row} for rank, row in enumerate(found.ranked[: max(ROWS, count)], 1)])
        click.echo(f"\n{found.headline} ({found.suspects.method})")
        for title, items in found.findings.items():
            click.echo(f"\n{title}")
            for item in items[:ROWS]:
                click.echo(f"    {item}")
            if len(items) > ROWS:
                click.echo(f"    and {len(items) - ROWS} more (--json)")
        for doubt in found.doubts:
            click.echo(f"\nnote: {doubt}")
        if output is not None:
            maps = " with their maps" if found.suspects.maps else ""
            click.echo(f"\n{output}: the {min(len(paths), SHOWN)} highest scores{maps}")
    if not found.clean:
        sys.exit(SUSPECTS_FOUND)


def check_suspects(model: Any, paths: Sequence[Path]) -> None:
    """Refuse before a fit what suspects cannot be found of.

    Raises
    ------
    InputError
        If the detector keeps no images, a parameter is wrong, or there are too few images.
    """
    from padim_zoo.detectors.suspects import refuse_few

    if not hasattr(model, "require_statistics"):
        raise InputError(f"{type(model).__name__} keeps no images to leave out: choose padim, spade or patchcore")
    model.check_parameters()
    refuse_few(len(paths))


def write_suspects(model: Any, paths: list[Path], output: Path) -> str:
    """Write the contact sheet of a fit, and say in a line what is on it."""
    from padim_zoo.core.atomic_write import write_text_whole
    from padim_zoo.detectors.suspects import find_suspects
    from padim_zoo.report.suspects_page import examine, render_suspects

    found = examine(paths, find_suspects(model, tell=tell_cost))
    write_text_whole(output, render_suspects(found, model))
    return f"\n{found.headline} ({found.suspects.method}): see {output}"


def tell_cost(line: str) -> None:
    """Say what comes, unless the command is quiet."""
    if not is_quiet():
        click.echo(line, err=True)


def _images_of(folder: Path) -> tuple[list[Path], list[Any]]:
    """The normal images of a folder, and the test images of a category."""
    from padim_zoo.cache.usual import usual_fingerprints
    from padim_zoo.data.files import normal_image_files
    from padim_zoo.registry import datasets

    if not (folder / "train").is_dir():
        return normal_image_files([folder]), []
    dataset = datasets.create("folder", root=folder, fingerprints=usual_fingerprints)
    category = dataset.load(dataset.categories()[0])
    return [sample.path for sample in category.train], list(category.test)


def _cost_of_features(model: Any, paths: list[Path]) -> str:
    """What the features of all images take, from those of a few."""
    some = paths[:: max(1, len(paths) // _PROBED_IMAGES)][:_PROBED_IMAGES]
    probe = model.with_backbone(model.build_backbone())
    probe.cache = False
    probe.extract_normal(some[:1])  # what the first images take beyond others
    started = time.perf_counter()
    probe.extract_normal(some)
    seconds = (time.perf_counter() - started) / len(some) * len(paths)
    return f"features of {len(paths)} images take about {seconds:.0f} s"
