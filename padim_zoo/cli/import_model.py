"""``padim-zoo import``: a PaDiM that another program fitted to a saved detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.models import output_option, refuse_folder, show_rows, size_of
from padim_zoo.cli.settings import PanelCommand, asked_settings, setting_options


@click.command("import", cls=PanelCommand)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option("The model, a safetensors file.")
@click.option(
    "--channels",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Channel indices, in a .pt, .npy or .json file.  [default: the program's own draw]",
)
@click.option("--trust-pickle", is_flag=True, help="Allow a .pkl file; nothing in it is run.")
@click.option(
    "--model-dtype",
    type=click.Choice(("float16", "float32")),
    default="float32",
    show_default=True,
    help="Precision of the Gaussians in the file.",
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
    """Import a PaDiM model from another program, with the same scores.

    \b
    FILES are one of
      MODEL.ckpt           a Lightning checkpoint of anomalib 2, of Padim or PadimZoo
      MODEL.pt             an export of anomalib 2 to torch
      MEAN.pt COV_INV.pt   statistics that anodet saved
      TRAIN.pkl            the pickle [mean, covariance] of the first implementation

    anomalib is not needed, and nothing in the files is run. docs/import.md says what is equal and what cannot be.
    """
    from padim_zoo.importers import read_model

    refuse_folder(output)
    model = read_model(files, channels=channels, trust_pickle=trust_pickle, **asked_settings(ctx))
    detector: Any = model.detector()
    detector.save(output, dtype=model_dtype)
    show_rows({"read": f"a PaDiM of {model.source}", **detector.describe_fit()})
    for note in model.notes:
        show_rows({"note": note})
    show_rows({"saved": size_of(output)})
