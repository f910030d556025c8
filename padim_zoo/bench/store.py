"""The run store: a folder of run documents, each written whole, so that a kill loses at most the run in flight.

Of each run there is

* ``<id>.json``: the document. It is written last: where it exists, the run is complete. It carries the hashes of the
  other files, and a digest of itself.
* ``<id>.safetensors``: the labels, the test scores of each fold, the out-of-fold scores of the normal images, and,
  since they cannot be made of scores, the curves of the pixels: ``pro_curve``, ``pixel_roc_curve`` and
  ``pixel_pr_curve``, each (2, 201), abscissas over ordinates, the mean of the folds. Older stores have no curves.
* ``<id>.gallery.safetensors``: pictures of a few test images, see :mod:`padim_zoo.bench.gallery`. Runs of older stores
  and those with ``--no-gallery`` have none; it may be deleted.

Any number of processes may write to one folder: every file appears under its name by one atomic rename.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from padim_zoo.bench.claims import remove_stale
from padim_zoo.bench.document_fields import find_problem
from padim_zoo.bench.status import is_done
from padim_zoo.core.atomic_write import discard, is_abandoned, write_bytes_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import is_whole, read_json
from padim_zoo.core.jsonable import to_jsonable

Document = dict[str, Any]

FORMAT = 2
"""Format of the documents; one of another format is not read."""

_SCORES, _GALLERY = ".safetensors", ".gallery.safetensors"

_RUN_FILE = re.compile(r"[0-9a-f]{16}\.json")


class DamagedRunError(InputError):
    """A file in the run store is not a run document."""


class NewerRunError(DamagedRunError):
    """A run document was written by a later version."""


@dataclass(frozen=True)
class StoreContents:
    """Every run document of a folder, by id, and one line for each file that is none."""

    documents: list[Document] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def knows_runtimes(document: Document, runtimes: Sequence[str]) -> bool:
    """Whether a run was timed in these runtimes, or it was tried."""
    return set(runtimes) <= set(document.get("runtimes", ()))


def computed_precision(document: Document) -> str | None:
    """The type that a run's backbone computed in; what was asked for where that is not known, of a failed run say."""
    precision: str | None = document.get("precision") or document["config"].get("precision")
    return precision


def mean_over_folds(document: Document, metric: str) -> float:
    """A metric of a run; NaN of one that failed, or of an older version that lacks the metric."""
    values = [fold.get(metric, math.nan) for fold in document["folds"]]
    return math.fsum(values) / len(values) if values else math.nan


class RunStore:
    """A folder of runs.

    Parameters
    ----------
    folder : path
        Made when the first run is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"the run store {self.folder} is a file: expected a folder, or a name that is free")

    def read(self, run_id: str) -> Document | None:
        """The document of a run, or None if there is none.

        Raises
        ------
        DamagedRunError
            If the file is not a run document.
        """
        path = self._path(run_id, ".json")
        return read_document(path) if path.exists() else None

    def completed(self, run_id: str, runtimes: Sequence[str] = ()) -> Document | None:
        """The document of a run that is done, and was timed in these runtimes; else None."""
        try:
            document = self.read(run_id)
        except DamagedRunError:
            return None
        complete = document is not None and is_done(document) and knows_runtimes(document, runtimes)
        return document if complete else None

    def read_all(self) -> StoreContents:
        """All documents, sorted by id, and what is wrong with the files that are none.

        Raises
        ------
        InputError
            If the folder does not exist.
        """
        if not self.folder.is_dir():
            raise InputError(f"there is no run store {self.folder}: expected a folder that padim-zoo bench has written")
        contents = StoreContents()
        for path in sorted(self.folder.glob("*.json")):
            try:
                contents.documents.append(read_document(path))
            except DamagedRunError as error:  # noqa: PERF203
                contents.problems.append(str(error))
        return contents

    def read_some(self) -> StoreContents:
        """As :meth:`read_all`, of a store that has runs.

        Raises
        ------
        InputError
            If there is no run, or the folder does not exist.
        """
        contents = self.read_all()
        if not contents.documents:
            hint = f"fill it with padim-zoo bench --output {self.folder}"
            raise InputError("; ".join([f"{self.folder} holds no run: {hint}", *contents.problems[:1]]))
        return contents

    def read_done(self) -> list[Document]:
        """The documents of the runs that are done, sorted by id.

        Raises
        ------
        InputError
            If there is none, or the folder does not exist.
        """
        documents = [document for document in self.read_all().documents if is_done(document)]
        if not documents:
            raise InputError(f"{self.folder} holds no run that is done: fill it with padim-zoo bench")
        return documents

    def write(
        self,
        document: Mapping[str, Any],
        scores: Mapping[str, np.ndarray] | None = None,
        gallery: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write a run. Arrays that are not given stay as they were recorded."""
        self.write_files(document["id"], encode_run(document, scores, gallery))

    def write_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a run, by suffix, in the order of :func:`encode_run`."""
        for suffix, content in files.items():
            write_bytes_whole(self._path(run_id, suffix), content)

    def scores(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays that :meth:`write` was given as ``scores``.

        Raises
        ------
        DamagedRunError
            If they cannot be read, or are not those of the run's document.
        """
        return self._arrays(run_id, _SCORES)

    def gallery(self, run_id: str) -> dict[str, np.ndarray] | None:
        """The arrays that :meth:`write` was given as ``gallery``, or None if there are none."""
        return self._arrays(run_id, _GALLERY) if self._path(run_id, _GALLERY).exists() else None

    def _arrays(self, run_id: str, suffix: str) -> dict[str, np.ndarray]:
        path, document = self._path(run_id, suffix), self.read(run_id)
        try:
            content = path.read_bytes()
            if document is None or hashlib.sha256(content).hexdigest() != document["arrays"].get(suffix):
                raise DamagedRunError(f"{path} is damaged: it is not what was recorded; do the run again")
            return load_tensors(content)
        except (OSError, SafetensorError) as error:
            raise DamagedRunError(f"cannot read the arrays of a run, {path}: {error}") from None

    def clean(self) -> None:
        """Remove temporary files, and signs of life, whose writer, a process of this machine, is gone."""
        for suffix in ("tmp", "bench"):
            for path in self.folder.glob(f".*.{suffix}"):
                if is_abandoned(path):
                    discard(path)
        remove_stale(self.folder)

    def _path(self, run_id: str, suffix: str) -> Path:
        return self.folder / f"{run_id}{suffix}"


def encode_run(
    document: Mapping[str, Any],
    scores: Mapping[str, np.ndarray] | None = None,
    gallery: Mapping[str, np.ndarray] | None = None,
) -> dict[str, bytes]:
    """The files of a run by suffix: its arrays first, its document last."""
    files, hashes = {}, dict(document.get("arrays", {}))
    for suffix, arrays in ((_GALLERY, gallery), (_SCORES, scores)):
        if arrays is not None:
            files[suffix] = _tensors(arrays)
            hashes[suffix] = hashlib.sha256(files[suffix]).hexdigest()
    plain = {**to_jsonable(document), "arrays": hashes}
    text = json.dumps({**plain, "digest": digest_of(plain)}, indent=1, allow_nan=False)
    return {**files, ".json": text.encode()}


def read_document(path: Path) -> Document:
    """Read one run document; null metrics and times come back as NaN.

    Raises
    ------
    DamagedRunError
        If the file is not one: a single line that names it.
    """
    try:
        document = read_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem: str | None = str(error)
    else:
        if isinstance(document, dict) and is_whole(document.get("format"), FORMAT + 1, 2**31):
            raise NewerRunError(f"{path} is a run of a later version: upgrade padim-zoo, or choose another --output")
        problem = _find_problem(document)
    if problem is not None:
        # What is not named as runs are may be anything of the user's.
        advice = ": delete it or move it away" if _RUN_FILE.fullmatch(path.name) else ""
        raise DamagedRunError(f"{path} is not a run document ({problem}){advice}")
    for numbers in _numbers_of(document):
        numbers.update({name: math.nan for name, value in numbers.items() if value is None})
    return dict(document)


def merged(documents: Sequence[Document]) -> list[Document]:
    """One document of each run: of several a done one, and of these the newest."""
    ordered = sorted(documents, key=lambda document: (is_done(document), str(document.get("created"))))
    return list({document["id"]: document for document in ordered}.values())


def digest_of(document: Mapping[str, Any]) -> str:
    """Digest of a document but for its digest."""
    content = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _find_problem(document: Any) -> str | None:
    if not isinstance(document, dict):
        return "no JSON object"
    if document.get("format") != FORMAT:
        return f"format {document.get('format')}, and this version reads format {FORMAT}"
    if document.get("digest") != digest_of(document):
        return "its digest differs: it was changed since it was recorded"
    return find_problem(document)


def _numbers_of(document: Document) -> list[Any]:
    """Everything in a document that maps names to numbers."""
    return [*document["folds"], document.get("interval", {}), document.get("threshold", {}), document["timings"]]


def _tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    return save_tensors({name: np.asarray(array, order="C") for name, array in arrays.items()})
