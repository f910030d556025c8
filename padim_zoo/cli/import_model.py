"""``padim-zoo import``: a PaDiM that another program fitted to a saved detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.options import PATH, check_target, output_option
from padim_zoo.cli.settings import asked_settings, setting_command
from padim_zoo.cli.table import show_rows, size_of


@setting_command("import")
@click.argument("files", nargs=-1, required=True, type=PATH)
@output_option("The model, a safetensors file.")
@click.option(
    "--channels",
    type=PATH,
    metavar="FILE",
    help="Channel indices, in a .pt, .npy or .json file.  [default: the program's own draw]",
)
@click.option("--trust-pickle", is_flag=True, help="Allow a .pkl file; nothing in it is run.")
def import_model(
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

    check_target(output)
    asked = {name: value for name, value in asked_settings().items() if name != "model_dtype"}
    model = read_model(files, channels=channels, trust_pickle=trust_pickle, **asked)
    detector: Any = model.detector()
    detector.save(output, dtype=model_dtype)
    show_rows({"read": f"a PaDiM of {model.source}", **detector.describe_fit()})
    for note in model.notes:
        show_rows({"note": note})
    show_rows({"saved": size_of(output)})
