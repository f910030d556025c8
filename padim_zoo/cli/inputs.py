"""The images that a command line names: files, folders and globs."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from padim_zoo.data.image import IMAGE_SUFFIXES, is_image_file
from padim_zoo.errors import InputError


def image_files(arguments: Sequence[str]) -> list[Path]:
    """Image files that arguments name, each once, in the order of the arguments and sorted within one.

    Parameters
    ----------
    arguments : sequence of str
        A file is taken whatever its name; a folder stands for all images below it; anything else is a glob
        (``**`` for any depth).

    Raises
    ------
    InputError
        If an argument names no image.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = _below(path)
        elif glob.has_magic(argument):
            files = list(_matching(argument))
        else:
            raise InputError(f"{argument} does not exist: expected image files, folders or globs")
        if not files:
            raise InputError(f"{argument} holds no image: expected {', '.join(sorted(IMAGE_SUFFIXES))}")
        found.update(dict.fromkeys(files))
    return list(found)


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_image_file(path))


def _matching(pattern: str) -> Iterable[Path]:
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if path.is_dir():
            yield from _below(path)
        elif is_image_file(path):
            yield path
