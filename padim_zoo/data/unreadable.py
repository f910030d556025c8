"""Images that cannot be read: all of them at once, to be named or left out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.data.content import file_version
from padim_zoo.data.image import read_image
from padim_zoo.data.opening import REPLACE_IT
from padim_zoo.data.pixel_limit import max_pixels
from padim_zoo.data.sample import Category, Dataset, protocol_of
from padim_zoo.data.transform import Transform

_READERS = 8
NAMED = 20
"""Files that a message names."""


def find_unreadable(paths: Sequence[Path]) -> dict[Path, str]:
    """Files that cannot be decoded, and why."""
    with ThreadPoolExecutor(_READERS) as pool:
        reasons = list(told(pool.map(_why, paths), "looking for unreadable images", len(paths)))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def _why(path: Path) -> str:
    try:
        _, *version = file_version(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return _why_version(path, max_pixels(), *version)


@functools.lru_cache(maxsize=100_000)
def _why_version(path: Path, limit: int, *version: int) -> str:
    try:
        read_image(path)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"{path} does not fit into memory"
    return ""


@contextmanager
def naming_unreadable(paths: Sequence[Path]) -> Iterator[None]:
    """Within it, an error at one image that cannot be read becomes one that names all such images.

    Raises
    ------
    InputError
        Naming them.
    """
    try:
        yield
    except InputError as error:
        raise explained(error, paths) from None


def explained(error: InputError, paths: Sequence[Path]) -> InputError:
    """The error, or one that names all images that cannot be read, if there are any.

    An error that names none of these is another one: it is told first.
    """
    unreadable = find_unreadable(paths)
    if not unreadable:
        return error
    reasons = [reason.removesuffix(REPLACE_IT) for reason in unreadable.values()]  # one advice serves all
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    first = "" if any(str(path) in str(error) for path in unreadable) else f"{error}; besides, "
    return InputError(
        f"{first}{counted(len(reasons), len(paths))}: {'; '.join(reasons[:NAMED])}{more}; replace or remove "
        "them, or leave them out with --skip-unreadable"
    )


def counted(count: int, total: int) -> str:
    """How many cannot be read, in words."""
    return f"{count} of {total} images cannot be read"


def left_out_note(unreadable: Sequence[Path], total: int) -> str:
    """What is recorded of images that were left out."""
    named = ", ".join(map(str, unreadable[:NAMED]))
    more = f" and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
    return f"{counted(len(unreadable), total)} and {'are' if len(unreadable) > 1 else 'is'} left out: {named}{more}"


def readable_images(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images that can be read, and those that cannot; a warning names these.

    Raises
    ------
    InputError
        If none can be read.
    """
    unreadable = find_unreadable(paths)
    if not unreadable:
        return list(paths), []
    if len(unreadable) == len(paths):
        raise InputError(f"no image can be read, for example: {next(iter(unreadable.values()))}")
    warnings.warn(left_out_note(list(unreadable), len(paths)), stacklevel=2)
    return [path for path in paths if path not in unreadable], list(unreadable)


def readable_category(category: Category) -> Category:
    """A category without the images that cannot be read, with a note of them."""
    samples = (*category.train, *category.test)
    unreadable = find_unreadable([sample.path for sample in samples])
    if not unreadable:
        return category
    train, test = (tuple(s for s in part if s.path not in unreadable) for part in (category.train, category.test))
    note = left_out_note(list(unreadable), len(samples))
    return replace(category, train=train, test=test, notes=(*category.notes, note), left_out=tuple(unreadable))


@dataclass(frozen=True)
class ReadableDataset:
    """A data set without the images that cannot be read."""

    whole: Dataset

    @property
    def name(self) -> str:
        """The registered name."""
        return self.whole.name

    @property
    def protocol(self) -> Transform | None:
        """What published figures on it rest on."""
        return protocol_of(self.whole)

    def categories(self) -> list[str]:
        """The names of the categories, sorted."""
        return self.whole.categories()

    def load(self, category: str) -> Category:
        """List the files of one category that can be read."""
        loaded = readable_category(self.whole.load(category))
        if not loaded.train:
            raise InputError(f"category {category!r} has no normal image that can be read: expected at least one")
        return loaded
