"""``padim-zoo calibrate``: another threshold of a saved detector, without a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.options import MODEL, hold, new_model_options, target_of
from padim_zoo.cli.settings import asked_settings, setting_command
from padim_zoo.cli.table import show_json, show_rows, size_of
from padim_zoo.cli.thresholds import regions_of, threshold_of
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.description import unpromised


@setting_command("calibrate")
@click.argument("model", type=MODEL)
@click.option("--threshold", type=float, help="Set it by hand; it promises no false-alarm rate.")
@click.option(
    "--alarms-per-hour", type=float, metavar="N", help="Rate as false alarms per hour, with --parts-per-hour."
)
@click.option("--parts-per-hour", type=float, metavar="N", help="Normal images per hour that the detector will see.")
@new_model_options("The new model.  [default: only show the threshold]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(
    model: Path,
    threshold: float | None,
    alarms_per_hour: float | None,
    parts_per_hour: float | None,
    output: Path | None,
    in_place: bool,
    as_json: bool,
    fpr: float | None,
    region_fpr: float | None,
    region_area: int | None,
    decide_by: str | None,
    map_values: str | None,
) -> None:
    """Set another threshold of a saved detector, without a fit.

    The threshold is computed for a false-alarm rate, from the out-of-fold scores in the file, or set by --threshold.
    --region-fpr sets the region threshold, and --decide-by says which one decides; alone, they keep the image
    threshold. --map-values p-value switches to maps of p-values, at the same rates. Everything else stays the same.
    Without --output or --in-place nothing is written.
    """
    if alarms_per_hour is not None or parts_per_hour is not None:
        if fpr is not None or threshold is not None:
            raise InputError("--alarms-per-hour excludes --fpr and --threshold: give one of them")
        fpr = rate_per_image(alarms_per_hour, parts_per_hour)
    target = target_of(model, output, in_place) if output is not None or in_place else None
    if target is not None:
        hold(target)
    from padim_zoo.detectors.recalibration import calibrate_file

    made = calibrate_file(
        model,
        target,
        false_alarm_rate=fpr,
        threshold=threshold,
        region_rate=region_fpr,
        region_area=region_area,
        decide_by=decide_by,
        map_values=(map_values or "score") if "map_values" in asked_settings() else None,
    )
    above = int((made.scores > made.threshold).sum())
    if as_json:
        facts: dict[str, Any] = {"threshold": made.threshold, "false_alarm_rate": made.false_alarm_rate}
        facts |= {"set_by_hand": made.false_alarm_rate is None, "normal_images": len(made.scores), "above": above}
        facts |= {"region_threshold": made.region_threshold, "region_rate": made.region_rate}
        facts |= {"region_area": made.region_area, "decides": made.decides}
        show_json(facts | {"saved": None if target is None else str(target)})
        return
    rows = {"threshold": threshold_of(made)}
    if len(made.scores):
        rows["above it"] = f"{above} of {len(made.scores)} normal images, out of fold"
    rows |= regions_of(made)
    rows["saved"] = "nothing: give --output FILE, or --in-place" if target is None else size_of(target)
    show_rows(rows)
    if parts_per_hour is not None and made.false_alarm_rate is not None:
        click.echo(f"at {parts_per_hour:g} parts per hour: at most {made.false_alarm_rate * parts_per_hour:.3g} alarms")
    if (note := unpromised(made)) is not None:
        click.echo(f"note: {note}")
    if made.caveat is not None:
        click.echo(f"Warning: {made.caveat}", err=True)


def rate_per_image(alarms_per_hour: float | None, parts_per_hour: float | None) -> float:
    """The false-alarm rate of an image that gives so many false alarms per hour.

    Raises
    ------
    InputError
        If one of the two is missing or not above 0, or there would be as many alarms as parts.
    """
    if alarms_per_hour is None or parts_per_hour is None:
        raise InputError("false alarms per hour need --alarms-per-hour and --parts-per-hour: give both")
    if not 0 < alarms_per_hour < parts_per_hour < float("inf"):
        raise InputError(
            f"{alarms_per_hour:g} false alarms of {parts_per_hour:g} parts per hour is not a rate: expected fewer "
            "alarms than parts, and more than 0"
        )
    return alarms_per_hour / parts_per_hour
