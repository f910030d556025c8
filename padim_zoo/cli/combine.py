"""``padim-zoo combine``: saved detectors to an ensemble, one file."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.cli.options import MODEL, check_target, comma_separated, output_option
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_rows, size_of
from padim_zoo.cli.thresholds import threshold_of
from padim_zoo.core.errors import InputError


@setting_command("combine")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@output_option("The ensemble, one file.")
@click.option(
    "--weights",
    callback=comma_separated,
    help="uniform, learned (from out-of-fold normal scores), or a number per model.  [default: uniform]",
)
def combine(
    models: tuple[Path, ...], output: Path, rule: str, weights: tuple[str, ...] | None, fpr: float | None
) -> None:
    """Combine saved detectors into an ensemble, one file that predicts like any detector.

    The MODELS must be fitted on the same normal images with the same transform, and have thresholds: the scores behind
    these bring the members to one scale.
    """
    check_target(output, "ensemble.safetensors")
    from padim_zoo.detectors.backbone_detector import BackboneDetector
    from padim_zoo.detectors.combining import refuse_doubles
    from padim_zoo.detectors.ensemble import Ensemble
    from padim_zoo.detectors.loading import load

    members = []
    for model in models:
        member = load(model)
        if not isinstance(member, BackboneDetector):
            raise InputError(f"{model} is an ensemble, or no detector on a backbone: expected one that fit wrote")
        members.append(member)
    if rule == "max" and weights is not None:
        raise InputError("--rule max takes no --weights: the largest score counts, whichever member's it is")
    refuse_doubles(members, [str(model) for model in models])
    ensemble = Ensemble(members, rule=rule, weights=_weights(weights))
    calibration = ensemble.calibrate(false_alarm_rate=fpr)
    ensemble.save(output)
    saved = {"threshold": threshold_of(calibration), "saved": size_of(output)}
    show_rows(ensemble.describe_fit() | saved)
    if calibration.caveat is not None:
        click.echo(f"Warning: {calibration.caveat}", err=True)


def _weights(texts: tuple[str, ...] | None) -> str | list[float]:
    if texts is None:
        return "uniform"
    try:
        return [float(weight) for weight in texts]
    except ValueError:
        return ",".join(texts)
