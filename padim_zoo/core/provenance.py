"""What a written file says of how it was made: the command, the data and processors, as the command line tells them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from padim_zoo.core.numbers import number_of

_told: ContextVar[dict[str, str] | None] = ContextVar("told", default=None)


@contextmanager
def running(words: Sequence[str]) -> Iterator[None]:
    """Files that are written within were made by this command."""
    token = _told.set({"command": shlex.join(words)})
    try:
        yield
    finally:
        _told.reset(token)


def tell_data(paths: Iterable[Path], left_out: Sequence[Path] = (), shard: str | None = None) -> None:
    """Files that the command writes were made from these images, without those that cannot be read; a shard of more."""
    told = _told.get()
    if told is not None:
        told["data"] = folders_of(paths) + ("" if shard is None else f"; shard {shard} of all")
        if left_out:
            told["data"] += f"; left out, as they cannot be read: {', '.join(path.name for path in left_out)}"


def tell_processors(chunks: Mapping[str, int]) -> None:
    """Files that the command writes were made on these processors, each of which did so many chunks of the images."""
    told = _told.get()
    if told is not None:
        told["processors"] = ", ".join(f"{name} ({count} chunks)" for name, count in sorted(chunks.items()))


def folders_of(paths: Iterable[Path]) -> str:
    """Folders of images and how many lie in each: ``"15 images: 12 in train/good, 3 in more"``."""
    counts = Counter("/".join(path.absolute().parent.parts[-2:]).replace("//", "/") for path in paths)
    parts = [f"{count} in {folder}" for folder, count in sorted(counts.items())]
    return f"{number_of(counts.total(), 'image')}: {', '.join(parts)}"


def provenance() -> dict[str, str]:
    """The command and the data, so far as they are told; nothing outside of a command."""
    return dict(_told.get() or {})


def git(folder: Path, *arguments: str) -> str | None:
    """What git says in a folder; None if it fails, or is not there."""
    import subprocess  # not for the start of every command

    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
