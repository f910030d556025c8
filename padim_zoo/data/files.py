"""Which image files a path, a folder or a glob pattern stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.data.image import IMAGE_SUFFIXES, is_image_file


def images_in(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted; none if it is not a folder."""
    return sorted(filter(is_image_file, folder.iterdir())) if folder.is_dir() else []


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted, without hidden ones; none if it is not a folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def paths_of(source: str | Path | Iterable[str | Path]) -> list[Path]:
    """List the image files that files, folders and glob patterns stand for.

    A folder stands for all images below it, sorted by path; a pattern (``**`` for any depth) for the images and
    folders that match, sorted. A file that is named outright is taken whatever its suffix.

    Raises
    ------
    InputError
        If something does not exist or stands for no image.
    """
    if not isinstance(source, (str, Path)):
        return [path for part in source for path in paths_of(part)]
    path = Path(source)
    if path.is_dir():
        images = images_below(path)
        if not images:
            raise InputError(f"folder {source} has no image in it: expected {', '.join(sorted(IMAGE_SUFFIXES))} files")
        return images
    if path.exists():
        return [path]
    if not glob.has_magic(str(source)):
        raise InputError(f"{source} does not exist: expected an image file, a folder of images or a glob pattern")
    matches = [Path(match) for match in sorted(glob.glob(str(source), recursive=True))]
    # With ** a folder and the files below it both match.
    expanded = dict.fromkeys(
        image
        for match in matches
        for image in (images_below(match) if match.is_dir() else [match] if is_image_file(match) else [])
    )
    if not expanded:
        problem = f"only matches {matches[0]}, which holds no image" if matches else "matches nothing"
        raise InputError(f"{source} {problem}: expected a pattern for image files, e.g. 'DIR/*.png'")
    return list(expanded)


def image_files(sources: Sequence[str]) -> list[Path]:
    """Image files that files, folders and globs name, each once."""
    return list(dict.fromkeys(paths_of(sources)))


def normal_image_files(sources: Sequence[str]) -> list[Path]:
    """As :func:`image_files`, for a fit.

    Raises
    ------
    InputError
        If a folder is a category of a data set: its anomalous test images must not join the fit unnoticed.
    """
    for source in sources:
        good = Path(source, "train", "good")
        if good.is_dir():
            raise InputError(f"{source} holds test images too: expected normal images only, e.g. {good}")
    return image_files(sources)


def images_below(folder: Path) -> list[Path]:
    """Image files at any depth below a folder, sorted by path; links are followed, hidden folders are not entered."""
    visited: set[str] = set()
    images: list[Path] = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder above, which would be walked for ever
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images += filter(is_image_file, (Path(parent, name) for name in files))
    return sorted(images)
