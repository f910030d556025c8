"""``padim-zoo combine``: saved detectors to an ensemble, one file."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.cli.options import comma_separated
from padim_zoo.cli.settings import PanelCommand, setting_options
from padim_zoo.core.errors import InputError


@click.command(cls=PanelCommand)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The ensemble, one file.")
@click.option(
    "--weights",
    callback=comma_separated,
    help="uniform, learned (from out-of-fold normal scores), or a number per model.  [default: uniform]",
)
@setting_options("combine")
def combine(
    models: tuple[Path, ...], output: Path, rule: str, weights: tuple[str, ...] | None, fpr: float | None
) -> None:
    """Combine saved detectors into an ensemble, one file that predicts like any detector.

    The MODELS have to be fitted on the same normal images with the same transform, and have thresholds: the scores
    that these were made from bring the members to one scale.
    """
    from padim_zoo.detectors.backbone_detector import BackboneDetector
    from padim_zoo.detectors.ensemble import Ensemble, refuse_doubles
    from padim_zoo.detectors.loading import load

    if output.is_dir():
        raise InputError(f"--output {output} is a folder: expected a file name, e.g. {output / 'ensemble.safetensors'}")
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
    for title, text in ensemble.describe_fit().items():
        click.echo(f"{title:<10} {text}")
    rate = calibration.false_alarm_rate
    click.echo(f"threshold  {calibration.threshold:.4g}, for a false-alarm rate of at most {rate:.3g}")
    if calibration.caveat is not None:
        click.echo(f"Warning: {calibration.caveat}", err=True)
    click.echo(f"saved      {output}, {output.stat().st_size / 1e6:.1f} MB")


def _weights(texts: tuple[str, ...] | None) -> str | list[float]:
    if texts is None:
        return "uniform"
    try:
        return [float(weight) for weight in texts]
    except ValueError:
        return ",".join(texts)
