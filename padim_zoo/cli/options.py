"""Options that several commands have beside settings, and the files that they name to be written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from padim_zoo.core.errors import InputError


class _NamedPath(click.Path):
    """A path that is not empty: an empty one, as of a variable that is not set, would be the folder at hand."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Make a path of it, or say which option or argument is empty."""
        if not str(value):
            assert param is not None
            name = max(param.opts, key=len) if isinstance(param, click.Option) else (param.name or "").upper()
            raise InputError(f"{name} is empty: expected a path")
        return super().convert(value, param, ctx)


PATH = _NamedPath(path_type=Path)
"""The type of arguments and options that are files or folders."""


class _ModelPath(_NamedPath):
    """A model, or an exported one, that is there: what reads it takes seconds to import."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Make a path of it, or say that it is no file."""
        path = super().convert(value, param, ctx)
        if not path.is_file():
            raise InputError(f"the model {path} is not a file: expected one that padim-zoo fit wrote")
        return path


MODEL = _ModelPath(path_type=Path)
"""The type of arguments that are models."""


def comma_separated(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Callback of an option that takes several names."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


def output_option(text: str) -> Callable[[Any], Any]:
    """The option ``--output``, which has to be given."""
    return click.option("-o", "--output", type=PATH, required=True, help=text)


def new_model_options(text: str = "The new model.") -> Callable[[Any], Any]:
    """The options ``--output`` and ``--in-place`` of a command that changes a model."""

    def decorate(function: Any) -> Any:
        function = click.option("--in-place", is_flag=True, help="Replace MODEL.")(function)
        return click.option("-o", "--output", type=PATH, metavar="FILE", help=text)(function)

    return decorate


def target_of(model: Path, output: Path | None, in_place: bool) -> Path:
    """The file that a command writes which changes a model: another one, or with ``--in-place`` the same.

    Raises
    ------
    InputError
        If it is neither or both, or ``--output`` is the model or a folder.
    """
    if in_place and output is not None:
        raise InputError("--output and --in-place exclude each other: give one of them")
    if in_place:
        return model
    if output is None:
        raise InputError(f"no file to write: give --output FILE, or --in-place to replace {model}")
    if output.exists() and model.exists() and output.samefile(model):
        raise InputError(f"--output {output} is the model itself: give another file, or --in-place to replace it")
    check_target(output)
    return output


def hold(target: Path) -> None:
    """Lock a model that is replaced until the command ends.

    Raises
    ------
    InputError
        If another process holds it.
    """
    from padim_zoo.core.file_lock import FileLock

    lock = FileLock(target)
    if target.is_file() and not lock.take():
        raise InputError(f"{target} is being updated by another process: wait for it, and update again")
    click.get_current_context().call_on_close(lock.release)


def check_target(output: Path, example: str = "model.safetensors", option: str = "--output") -> None:
    """Refuse before the work what cannot be written after it: a folder, or a file in what is none.

    Raises
    ------
    InputError
        If it is one.
    """
    if output.is_dir():
        raise InputError(f"{option} {output} is a folder: expected a file name, e.g. {output / example}")
    nearest = next(folder for folder in output.absolute().parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise InputError(f"{option} {output} cannot be written: {nearest} is a file; expected a folder")


def refuse_same(files: Mapping[str, Path | None], images: Iterable[Path] = ()) -> None:
    """Refuse files of a command of which one would overwrite another, or an image that it reads.

    Raises
    ------
    InputError
        If two are the same file.
    """
    names = {os.path.realpath(image): "an image that is read" for image in images}
    for name, path in files.items():
        if path is not None and (other := names.setdefault(os.path.realpath(path), name)) != name:
            raise InputError(f"{name} {path} is the same file as {other}: expected a file of its own")
