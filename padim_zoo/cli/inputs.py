"""The images that a command line names: files, folders and globs and what their pictures are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from padim_zoo.data.files import paths_of
from padim_zoo.errors import InputError


def image_files(arguments: Sequence[str]) -> list[Path]:
    """Image files that files, folders and globs name, each once."""
    return list(dict.fromkeys(paths_of(arguments)))


def normal_image_files(arguments: Sequence[str]) -> list[Path]:
    """As :func:`image_files`, for a fit.

    Raises
    ------
    InputError
        If a folder is a category of a data set: its anomalous test images must not join the fit unnoticed.
    """
    for argument in arguments:
        good = Path(argument, "train", "good")
        if good.is_dir():
            raise InputError(f"{argument} holds test images too: expected normal images only, e.g. {good}")
    return image_files(arguments)


def picture_names(paths: Sequence[Path]) -> list[Path]:
    """Where each image's pictures go, below a folder, without suffix: no two agree, in any case of letters.

    Images keep their folders below the folder that all of them share.
    """
    absolute = [path.absolute() for path in paths]
    shared = _shared_folder(absolute)
    taken: set[str] = set()
    names: list[Path] = []
    for path in absolute:
        name = path.relative_to(shared).with_suffix("")
        candidate, number = name, 1
        while str(candidate).casefold() in taken:
            number += 1
            candidate = name.with_name(f"{name.name}-{number}")
        taken.add(str(candidate).casefold())
        names.append(candidate)
    return names


def _shared_folder(paths: Sequence[Path]) -> Path:
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    return shared
