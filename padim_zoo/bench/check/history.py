"""How results moved from commit to commit: a file with a line of JSON for each check."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

import padim_zoo
from padim_zoo.bench.check.row import Row
from padim_zoo.bench.costs import MAIN_COSTS
from padim_zoo.core.atomic_write import write_text_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.core.file_lock import changing
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.core.provenance import git
from padim_zoo.metrics.metric import main_metrics

FORMAT = 1

_VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA", "BUILD_SOURCEVERSION", "GIT_COMMIT")
"""Under which CI services name the commit."""


def commit_in(folder: Path) -> str | None:
    """The commit that is checked out in a folder, as CI or git says it; None where neither knows."""
    for name in _VARIABLES:
        if os.environ.get(name):
            return os.environ[name]
    return git(folder, "rev-parse", "HEAD") or None


def entry_of(rows: Sequence[Row], regressions: int) -> dict[str, Any]:
    """What is kept of a run store: means over its runs of the main metrics and costs."""
    done = [row for row in rows if row.error is None]
    metrics = {
        name: _mean([fmean(row.metrics[name]) for row in done if name in row.metrics]) for name in main_metrics()
    }
    costs = {name: _mean([row.costs[name] for row in done if name in row.costs]) for name in MAIN_COSTS}
    entry = {
        "format": FORMAT,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit_in(Path()),
        "version": padim_zoo.__version__,
        "runs": len(done),
        "failed": len(rows) - len(done),
        "regressions": regressions,
        "metrics": metrics,
        "costs": costs,
    }
    result: dict[str, Any] = to_jsonable(entry)
    return result


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return fmean(defined) if defined else math.nan


def append_entry(path: Path, entry: dict[str, Any]) -> None:
    """Add a line to a history, which is made if need be; checks that end at once lose none.

    Raises
    ------
    WriteError
        If it cannot be written to.
    """
    with changing(path):
        before = ""
        if path.is_file():
            read_history(path)  # another file is not written into
            before = path.read_text(encoding="utf-8").rstrip("\n")
        write_text_whole(path, f"{before}\n{json.dumps(entry)}\n".lstrip("\n"))


def read_history(path: Path) -> list[dict[str, Any]]:
    """The entries of a history, the oldest first.

    Raises
    ------
    InputError
        If it cannot be read, or is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the history {path}: {getattr(error, 'strerror', None) or error}") from None
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = read_json(line)
            if entry["format"] != FORMAT or not all(isinstance(entry[part], dict) for part in ("metrics", "costs")):
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"line {number} of {path} is not an entry of format {FORMAT}: expected one of padim-zoo check --history"
            ) from None
        entries.append(entry)
    return entries
