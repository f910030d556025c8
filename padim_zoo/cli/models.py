"""What commands that write a model share: where it goes, its threshold, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from padim_zoo.core.errors import InputError


def output_option(text: str) -> Callable[[Any], Any]:
    """The option ``--output``, which has to be given."""
    return click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=text)


def refuse_folder(output: Path, example: str = "model.safetensors") -> None:
    """Refuse a folder where a file is to be written.

    Raises
    ------
    InputError
        If it is one.
    """
    if output.is_dir():
        raise InputError(f"--output {output} is a folder: expected a file name, e.g. {output / example}")


def try_to_calibrate(detector: Any, asked: float | None, usual: float | None = None, **options: Any) -> str:
    """Set the threshold, and say why there is none, if so; for a false-alarm rate that was asked for there has to be.

    Raises
    ------
    InputError
        If there is no threshold for the rate that was asked for.
    """
    try:
        detector.calibrate(false_alarm_rate=usual if asked is None else asked, **options)
    except InputError as error:
        if asked is not None:
            raise
        return str(error)
    return ""


def show_rows(rows: dict[str, str]) -> None:
    """Print text behind titles of at most ten letters."""
    for title, text in rows.items():
        click.echo(f"{title:<10} {text}")


def size_of(path: Path) -> str:
    """A file and its size."""
    return f"{path}, {path.stat().st_size / 1e6:.1f} MB"
