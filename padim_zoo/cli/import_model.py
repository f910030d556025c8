"""``padim-zoo import``: a PaDiM that another program fitted to a saved detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from padim_zoo.cli.options import comma_separated, pixels, plugin_option
from padim_zoo.core.errors import InputError


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The model, a safetensors file.")
@click.option("--backbone", help="Where the files do not say it.  [default: by the number of dimensions]")
@click.option(
    "--weights", metavar="default|none|PATH", help="Weights of the backbone.  [default: the file's, or default]"
)
@click.option("--layers", callback=comma_separated, help="Layers, comma-separated.  [default: layer1,layer2,layer3]")
@click.option(
    "--channels",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Indices of the channels, .pt, .npy or .json.  [default: those that the program draws]",
)
@click.option("--resize", callback=pixels, help="N, HEIGHTxWIDTH or none.  [default: as the program does]")
@click.option("--crop", callback=pixels, help="N, HEIGHTxWIDTH or none.  [default: as the program does]")
@click.option("--trust-pickle", is_flag=True, help="Read a .pkl file, which can name programs to run.")
@click.option(
    "--model-dtype",
    type=click.Choice(("float16", "float32")),
    default="float32",
    show_default=True,
    help="Type of the factors in the file.",
)
@plugin_option
@click.pass_context
def import_model(ctx: click.Context, /, files: tuple[Path, ...], output: Path, model_dtype: str, **asked: Any) -> None:
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
    given = {
        name: value for name, value in asked.items() if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    model = read_model(files, **given)
    detector: Any = model.detector()
    detector.save(output, dtype=model_dtype)
    click.echo(f"read       a PaDiM of {model.source}")
    for title, text in detector.describe_fit().items():
        click.echo(f"{title:<10} {text}")
    for note in model.notes:
        click.echo(f"note       {note}")
    click.echo(f"saved      {output}, {output.stat().st_size / 1e6:.1f} MB")
