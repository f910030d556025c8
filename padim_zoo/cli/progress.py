"""Progress of a benchmark on standard error: a bar on a terminal, JSON lines elsewhere, notes alone when quiet."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Protocol

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from padim_zoo.bench.runner import Event
from padim_zoo.bench.store import Document


class Reporter(Protocol):
    """Shows what a benchmark does."""

    def __enter__(self) -> Reporter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        """A line about the benchmark as a whole."""

    def show(self, event: Event) -> None:
        """A run begins or is recorded."""


def reporter(total: int, done: int, *, quiet: bool) -> Reporter:
    """The reporter that fits standard error.

    Parameters
    ----------
    total, done : int
        Runs asked for, and how many of them were done before.
    quiet : bool
        Show nothing but notes.
    """
    if quiet:
        return _Quiet()
    return _Bar(total, done) if sys.stderr.isatty() else _JsonLines(total, done)


class _Quiet:
    def __enter__(self) -> _Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        click.echo(text, err=True)

    def show(self, event: Event) -> None: ...


class _JsonLines(_Quiet):
    """One object for every recorded run: its id and configuration, status, figures (means over folds) and error."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done

    def note(self, text: str) -> None:
        self._write({"note": text})

    def show(self, event: Event) -> None:
        if event.document is None:
            return
        self.done += 1
        config, document = event.document["config"], event.document
        self._write(
            {
                "done": self.done,
                "of": self.total,
                "id": document["id"],
                **{name: config[name] for name in ("dataset", "category", "detector", "backbone", "estimator")},
                **{name: config[name] for name in ("ensemble", "seed", "folds")},
                "status": document["status"],
                **{name: _mean(document, name) for name in ("image_auroc", "pixel_auroc", "aupro")},
                "error": document["error"] and document["error"]["message"],
            }
        )

    def _write(self, line: dict[str, object]) -> None:
        click.echo(json.dumps(line), err=True)


class _Bar(_Quiet):
    def __init__(self, total: int, done: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        # Runs done before count as done but not as quick: the rate is that of this process.
        self.task = self.progress.add_task("", total=total - done)
        if done:
            self.note(f"{done} of {total} runs were done before")

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)

    def show(self, event: Event) -> None:
        if event.document is None:
            self.progress.update(self.task, description=str(event.run).replace("[", r"\["))
            return
        self.progress.advance(self.task)
        if event.document["status"] == "failed":
            self.note(f"failed: {event.run}: {event.document['error']['message']}")


def _mean(document: Document, name: str) -> float | None:
    values = [figures[name] for figures in document["folds"]]
    mean = float(np.mean(values)) if values else float("nan")
    return mean if np.isfinite(mean) else None
