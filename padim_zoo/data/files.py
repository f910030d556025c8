"""Which image files a path, a folder or a glob pattern stands for, and which of them are passed over."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.data.image import IMAGE_SUFFIXES, is_image_file
from padim_zoo.data.normal_folder import refuse_defects, refuse_folder_of_defects

FOLDERS_OF_SYSTEMS = frozenset(("@eadir", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found"))
"""Folders that network drives and operating systems put among one's own, in lower case. Their images are no one's."""

_SIGNATURES = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  "),
    *(b"P2\n", b"P3\n", b"P5\n", b"P6\n"),
)
"""First bytes of image files."""
_ISO_MEDIA = (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1")


@dataclass
class Listing:
    """Image files below a folder, sorted by path, and what was passed over.

    Attributes
    ----------
    images : list of Path
    passed_over : dict of str to list of Path
        Files that hold an image, and links that lead nowhere, by the reason: a suffix, ``in @eaDir``, ``broken link``.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)

    def pass_over(self, reason: str, path: Path) -> None:
        """Count a file among those that are not taken."""
        self.passed_over.setdefault(reason, []).append(path)


def describe_passed_over(listings: Iterable[Listing]) -> str:
    """One line for all files that are passed over, ``"5 files passed over: 5 × .gif"``; empty for none."""
    counts: Counter[str] = Counter()
    for listing in listings:
        counts.update({reason: len(paths) for reason, paths in listing.passed_over.items()})
    total = counts.total()
    parts = ", ".join(f"{count} × {reason}" for reason, count in counts.most_common())
    return f"{number_of(total, 'file')} passed over: {parts}" if total else ""


def images_in(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted; none if it is not a folder."""
    return sorted(filter(is_image_file, folder.iterdir())) if folder.is_dir() else []


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted, without those that are hidden or of a system; none if it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _is_entered(path.name) and path.is_dir())


def paths_of(source: str | Path | Iterable[str | Path]) -> list[Path]:
    """List the image files that files, folders and glob patterns stand for.

    A folder stands for all images below it, sorted by path; a pattern (``**`` for any depth) for the images and
    folders that match, sorted. A file that is named outright is taken whatever its suffix. A warning counts the files
    in folders that are passed over.

    Raises
    ------
    InputError
        If something does not exist or stands for no image.
    """
    if not isinstance(source, (str, Path)):
        return [path for part in source for path in paths_of(part)]
    if not str(source):
        raise InputError("a path of images is empty: expected an image file, a folder of images or a glob pattern")
    path = Path(source)
    if path.is_dir():
        return _images_of(path)
    if path.exists():
        return [path]
    if path.is_symlink():
        raise InputError(f"{source} is a broken link to {os.readlink(path)}: expected an image file")
    if not glob.has_magic(str(source)):
        raise InputError(f"{source} does not exist: expected an image file, a folder of images or a glob pattern")
    root, pattern = split_pattern(str(source))
    matches = [Path(match) for match in sorted(glob.glob(os.path.join(glob.escape(root), pattern), recursive=True))]
    matches = [match for match in matches if all(map(_is_entered, match.relative_to(root).parts[:-1]))]
    # With ** a folder and the files below it both match.
    expanded = dict.fromkeys(
        image
        for match in matches
        for image in (list_images(match).images if match.is_dir() else [match] if is_image_file(match) else [])
    )
    if not expanded:
        problem = f"only matches {matches[0]}, which holds no image" if matches else "matches nothing"
        raise InputError(f"{source} {problem}: expected a pattern for image files, e.g. 'DIR/*.png'")
    return list(expanded)


def split_pattern(pattern: str) -> tuple[str, str]:
    """The folder that a pattern starts with, brackets in its name included, and the pattern below it."""
    root, rest = "", pattern
    while (separator := rest.find("/")) >= 0:
        longer = os.path.join(root, rest[: separator + 1])
        if not os.path.isdir(longer):
            break
        root, rest = longer, rest[separator + 1 :].lstrip("/")
    return root, rest


def image_files(sources: Sequence[str | Path]) -> list[Path]:
    """Image files that files, folders and globs name, each once."""
    return list(dict.fromkeys(paths_of(sources)))


def normal_image_files(sources: Sequence[str | Path]) -> list[Path]:
    """As :func:`image_files`, for a fit.

    Raises
    ------
    InputError
        If there are masks, test images or folders of defects among them, which must not join a fit unnoticed; see
        :func:`~padim_zoo.data.normal_folder.refuse_defects`. Or if a source is itself such a folder, or lies in one.
    """
    folders = [_folder_of(source) for source in sources]
    several = len(set(folders)) > 1  # then their own names tell too, as in a folder that holds them all
    below: dict[Path, list[Path]] = {}
    for source, folder in zip(sources, folders, strict=True):
        below.setdefault(folder.parent if several else folder, []).extend(paths_of(source))
    for root, images in below.items():
        refuse_defects(root, [image.absolute() for image in images])
    for folder in dict.fromkeys(folders):
        refuse_folder_of_defects(folder)
    return list(dict.fromkeys(image for images in below.values() for image in images))


def _folder_of(source: str | Path) -> Path:
    """The folder that a source of images is, lies in or starts with."""
    path = Path(source)
    if not path.is_dir():
        path = path.parent if path.exists() else Path(split_pattern(str(source))[0] or ".")
    return path.absolute()


def images_below(folder: Path) -> list[Path]:
    """Image files at any depth below a folder, sorted by path; see :func:`list_images`."""
    return list_images(folder).images


def list_images(folder: Path) -> Listing:
    """List image files at any depth below a folder, and the files that are passed over.

    Links are followed. Hidden folders and those of systems, :data:`FOLDERS_OF_SYSTEMS`, are not entered.
    """
    visited: set[tuple[int, int]] = set()
    listing = Listing()
    for parent, folders, files in os.walk(folder, followlinks=True):
        # Told apart by number: to resolve the links of a path takes long where folders are nested deep.
        with suppress(OSError):
            found = os.stat(parent)
            number = found.st_dev, found.st_ino
            if number in visited:  # a link to a folder above, which would be walked for ever
                folders.clear()
                continue
            visited.add(number)
        for name in folders:
            if name.casefold() in FOLDERS_OF_SYSTEMS:
                for image in _below_system_folder(Path(parent, name)):
                    listing.pass_over(f"in {name}", image)
        folders[:] = sorted(filter(_is_entered, folders))
        for name in sorted(files):
            path = Path(parent, name)
            if is_image_file(path):
                listing.images.append(path)
            elif reason := _passed_over(path):
                listing.pass_over(reason, path)
    listing.images.sort()
    return listing


def _images_of(folder: Path) -> list[Path]:
    listing = list_images(folder)
    line = describe_passed_over([listing])
    if not listing.images:
        expected = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"folder {folder} has no image in it{f' ({line})' * bool(line)}: expected {expected} files")
    if line:
        warnings.warn(f"{folder}: {line}", stacklevel=3)
    return listing.images


def _is_entered(folder_name: str) -> bool:
    return not folder_name.startswith(".") and folder_name.casefold() not in FOLDERS_OF_SYSTEMS


def _below_system_folder(folder: Path) -> list[Path]:
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return [path for path in files if is_image_file(path)]


def _passed_over(path: Path) -> str:
    """Why a file that is not taken deserves a word; empty if it does not."""
    if path.name.startswith("."):
        return ""
    if path.is_symlink() and not path.exists():
        return "broken link"
    if path.suffix.lower() in IMAGE_SUFFIXES or not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return ""
    if start.startswith(_SIGNATURES) or (start[:4] == b"RIFF" and start[8:] == b"WEBP") or start[4:] in _ISO_MEDIA:
        return path.suffix.lower() or "without suffix"
    return ""
