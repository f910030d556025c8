"""A baseline: what later runs are compared with, as one JSON file that is made to be committed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_zoo.bench.check.microbenchmark import Microbenchmarks
from padim_zoo.bench.check.row import Row
from padim_zoo.bench.store import digest_of
from padim_zoo.core.atomic_write import write_text_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.core.file_type import file_type

KIND = "padim-zoo baseline"
FORMAT = 1
"""Raised when a file of an older version can no longer be read, or the calibration workload changes."""


@dataclass(frozen=True)
class Baseline:
    """Runs and benchmarks of one state of the code.

    Attributes
    ----------
    rows : sequence of Row
        Runs that were done; empty if the baseline is of benchmarks alone.
    benchmarks : Microbenchmarks or None
    """

    rows: Sequence[Row] = ()
    benchmarks: Microbenchmarks | None = None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all; a line for each row and benchmark, so that a diff shows what changed."""
    in_order = sorted(baseline.rows, key=lambda row: (str(row.config.get("category")), row.key))
    rows = ",\n".join(_compact(row.to_dict()) for row in in_order)
    head = f'"kind": {_compact(KIND)},\n"format": {FORMAT},\n'
    content = f'"benchmarks": {_benchmarks(baseline.benchmarks)},\n"rows": [\n{rows}\n]\n}}\n'
    digest = digest_of(json.loads(f"{{{head}{content}"))
    write_text_whole(path, f'{{\n{head}"digest": {_compact(digest)},\n{content}')


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises
    ------
    InputError
        If the file is not there, is something else, or is of another format.
    """
    try:
        content = read_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; write a baseline with check --update") from None
    except UnicodeDecodeError:
        raise _refusal(path, file_type(path)) from None
    except ValueError as error:
        kind = file_type(path)
        raise _refusal(path, f"JSON that is cut off or damaged ({error})" if kind == "JSON" else kind) from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise _refusal(path, "JSON of something else")
    if content.get("format") != FORMAT:
        raise InputError(
            f"the baseline {path} has format {content.get('format')}, and this version reads format {FORMAT}: "
            "delete it and write a new one with padim-zoo check --update"
        )
    if content.get("digest") != digest_of(content):
        raise InputError(
            f"the baseline {path} was changed since it was written, for its digest differs: restore it, or write it "
            "anew with padim-zoo check --update"
        )
    try:
        rows = [Row.from_dict(row) for row in content["rows"]]
        benchmarks = content["benchmarks"]
        return Baseline(rows, None if benchmarks is None else Microbenchmarks.from_dict(benchmarks))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the baseline {path} is damaged ({type(error).__name__}: {error}): "
            "restore it, or delete it and write a new one with padim-zoo check --update"
        ) from None


def _benchmarks(benchmarks: Microbenchmarks | None) -> str:
    if benchmarks is None:
        return "null"
    values = benchmarks.to_dict()
    timings = ",\n".join(f"{_compact(name)}: {_compact(timing)}" for name, timing in sorted(values["timings"].items()))
    return f'{{"machine": {_compact(values["machine"])}, "timings": {{\n{timings}\n}}}}'


def _refusal(path: Path, kind: str) -> InputError:
    return InputError(f"{path} is not a baseline but {kind}: expected what padim-zoo check --update writes")


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
