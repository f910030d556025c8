"""What a dataset is made of: samples, in categories."""

from __future__ import annotations

import fnmatch
import hashlib
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from padim_zoo.core.errors import InputError
from padim_zoo.core.suggest import suggest
from padim_zoo.data.content import content_hash
from padim_zoo.data.transform import Transform

_READERS = 8


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it.

    Attributes
    ----------
    path : Path
        The image file.
    label : int
        0 for a normal image, 1 for an anomalous one.
    kind : str
        The kind of defect, ``"good"`` for normal images.
    masks : tuple of Path
        Ground-truth mask files, whose union is the anomalous region. Empty for normal images, and for
        anomalous images without ground truth.
    """

    path: Path
    label: int
    kind: str = "good"
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Category:
    """One category of a dataset: normal images to fit, and images to test.

    Attributes
    ----------
    dataset, name : str
    train, test : tuple of Sample
    notes : tuple of str
        What a reader of its figures should know of how the files were taken, one line each.
    left_out : tuple of Path
        Files that cannot be read and were left out.
    """

    dataset: str
    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[Path, ...] = ()

    def warn(self) -> None:
        """Say the notes as warnings."""
        for note in self.notes:
            warnings.warn(f"{self.name}: {note}", stacklevel=3)

    def fingerprint(self) -> str:
        """Hex digest that changes when a file, a label or the split changes.

        Files count by the last three parts of their path and their bytes, so that a copy of a data set is the same
        data set, wherever and whenever it was made.

        Raises
        ------
        InputError
            If a file cannot be read.
        """
        digest = hashlib.sha256()
        for split, label, name, content in self.manifest():
            digest.update(f"{split}\0{label}\0{name}\0{content}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def manifest(self) -> list[tuple[str, int, str, str]]:
        """All that :meth:`fingerprint` depends on: split, label, name and content hash of each file.

        Raises
        ------
        InputError
            If a file cannot be read.
        """
        files = [
            (split, sample.label, path)
            for split, samples in (("train", self.train), ("test", self.test))
            for sample in samples
            for path in (sample.path, *sample.masks)
        ]
        with ThreadPoolExecutor(_READERS) as pool:
            contents = list(pool.map(_content_hash, (path for _, _, path in files)))
        return [
            (split, label, "/".join(path.parts[-3:]), content)
            for (split, label, path), content in zip(files, contents, strict=True)
        ]


def _content_hash(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


class Dataset(Protocol):
    """A data set: categories by name, each loaded when asked for.

    It may have attributes ``protocol``, see :func:`protocol_of`, and ``prepare``, see :func:`prepare_categories`.
    """

    @property
    def name(self) -> str:
        """The registered name."""

    def categories(self) -> list[str]:
        """The names of the categories, sorted."""

    def load(self, category: str) -> Category:
        """List the files of one category; no image is decoded."""


def protocol_of(dataset: Dataset) -> Transform | None:
    """The transform that published figures on a data set rest on, if it declares one.

    ``bench``, ``fit`` and ``finetune`` apply it unless they are told otherwise.

    Raises
    ------
    InputError
        If it is no Transform.
    """
    protocol = getattr(dataset, "protocol", None)
    if protocol is not None and not isinstance(protocol, Transform):
        raise InputError(f"the protocol of {dataset.name} is {protocol!r}: expected a Transform(resize, crop) or None")
    return protocol


def load_categories(dataset: Dataset, patterns: Iterable[str] = ()) -> list[Category]:
    """The categories that patterns pick, see :func:`choose`."""
    return [dataset.load(name) for name in choose(dataset.categories(), patterns, "category")]


def prepare_categories(dataset: Dataset, patterns: Iterable[str] = ()) -> None:
    """Let a data set begin to make what :func:`load_categories` will wait for, if it makes its images at all."""
    prepare = getattr(dataset, "prepare", None)
    if prepare is not None:
        prepare(choose(dataset.categories(), patterns, "category"))


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
