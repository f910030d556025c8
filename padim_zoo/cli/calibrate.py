"""``padim-zoo calibrate``: another threshold of a saved detector, without a fit."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.cli.options import PATH, hold, refuse_folder, show_rows, size_of, target_of, threshold_of
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_json


@setting_command("calibrate")
@click.argument("model", type=PATH)
@click.option("--threshold", type=float, help="Set it by hand; it promises no false-alarm rate.")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="The new model.  [default: only show the threshold]")
@click.option("--in-place", is_flag=True, help="Replace MODEL.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(
    model: Path, threshold: float | None, output: Path | None, in_place: bool, as_json: bool, fpr: float | None
) -> None:
    """Set another threshold of a saved detector, without a fit.

    It is made of the out-of-fold scores of normal images that the file holds, for a false-alarm rate, or is given by
    --threshold. All else stays as it is. Without --output or --in-place nothing is written.
    """
    from padim_zoo.detectors.recalibration import calibrate_file

    target = target_of(model, output, in_place) if output is not None or in_place else None
    if target is not None:
        refuse_folder(target)
        hold(target)
    made = calibrate_file(model, target, false_alarm_rate=fpr, threshold=threshold)
    above = int((made.scores > made.threshold).sum())
    if as_json:
        facts = {"threshold": made.threshold, "false_alarm_rate": made.false_alarm_rate}
        facts |= {"set_by_hand": made.false_alarm_rate is None, "normal_images": len(made.scores), "above": above}
        show_json(facts | {"saved": None if target is None else str(target)})
        return
    rows = {"threshold": threshold_of(made)}
    if len(made.scores):
        rows["above it"] = f"{above} of {len(made.scores)} normal images, out of fold"
    rows["saved"] = "nothing: give --output FILE, or --in-place" if target is None else size_of(target)
    show_rows(rows)
    if made.caveat is not None:
        click.echo(f"Warning: {made.caveat}", err=True)
