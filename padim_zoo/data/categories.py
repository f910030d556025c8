"""The categories of a data set that patterns choose."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from padim_zoo.core.errors import InputError
from padim_zoo.core.suggest import suggest
from padim_zoo.data.sample import Category, Dataset


def load_categories(dataset: Dataset, patterns: Iterable[str] = ()) -> list[Category]:
    """The categories that patterns pick, see :func:`choose`."""
    return [dataset.load(name) for name in choose(dataset.categories(), patterns, "category")]


def choose(names: Sequence[str], patterns: Iterable[str], kind: str) -> list[str]:
    """The names that the patterns pick, in the order of ``names``; all of them without a pattern.

    Parameters
    ----------
    names : sequence of str
    patterns : iterable of str
        Names, or shell wildcards.
    kind : str
        What errors call a name: ``"category"``.

    Raises
    ------
    InputError
        If a pattern picks nothing; the closest names are listed.
    """
    patterns = list(patterns)
    matches: set[str] = set()
    for pattern in patterns:
        matching = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise InputError(f"unknown {kind} {pattern!r}: {suggest(pattern, names)}")
        matches.update(matching)
    return [name for name in names if not patterns or name in matches]
