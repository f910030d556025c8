"""``padim-zoo import``: a PaDiM that another program fitted to a saved detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.settings import PanelCommand, asked_settings, setting_options
from padim_zoo.core.errors import InputError


@click.command("import", cls=PanelCommand)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The model, a safetensors file.")
@click.option(
    "--channels",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Indices of the channels, .pt, .npy or .json.  [default: those that the program draws]",
)
@click.option("--trust-pickle", is_flag=True, help="Read a .pkl file, which can name programs to run.")
@click.option(
    "--model-dtype",
    type=click.Choice(("float16", "float32")),
    default="float32",
    show_default=True,
    help="Type of the factors in the file.",
)
@setting_options("import")
@click.pass_context
def import_model(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    output: Path,
    channels: Path | None,
    trust_pickle: bool,
    model_dtype: str,
    **_: Any,
) -> None:
    """Make a detector of a PaDiM that another program fitted; its scores are the same.

    \b
    FILES are one of
      MODEL.ckpt           a Lightning checkpoint of anomalib 2, of Padim or PadimZoo
      MODEL.pt             an export of anomalib 2 to torch
      MEAN.pt COV_INV.pt   statistics that anodet saved
      TRAIN.pkl            the pickle [mean, covariance] of the first implementation

    anomalib is not needed, and nothing in the files is run. docs/import.md says what is equal and what cannot be.
    """
    from padim_zoo.importers import read_model

    if output.is_dir():
        raise InputError(f"--output {output} is a folder: expected a file name, e.g. {output / 'model.safetensors'}")
    model = read_model(files, channels=channels, trust_pickle=trust_pickle, **asked_settings(ctx))
    detector: Any = model.detector()
    detector.save(output, dtype=model_dtype)
    click.echo(f"read       a PaDiM of {model.source}")
    for title, text in detector.describe_fit().items():
        click.echo(f"{title:<10} {text}")
    for note in model.notes:
        click.echo(f"note       {note}")
    click.echo(f"saved      {output}, {output.stat().st_size / 1e6:.1f} MB")
