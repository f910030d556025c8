"""Progress of a benchmark on standard error: a live table on a terminal, JSON lines elsewhere; notes when quiet."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.segment import Segment, Segments
from rich.text import Text

from padim_zoo.bench.executors.executor import Event
from padim_zoo.bench.live import draw_progress, draw_standings
from padim_zoo.bench.running import BenchState
from padim_zoo.bench.status import has_failed
from padim_zoo.bench.store import Document, mean_over_folds
from padim_zoo.cli.stages import JSON_SECONDS, json_stages
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.metrics.metric import main_metrics

_NAMED = ("dataset", "category", "detector", "backbone", "estimator", "ensemble", "seed", "folds")
"""Settings by which a line names its run."""

_SHARE = 20
"""Times that making the table takes, before it is made again."""

_PROGRESS_LINES = 3
"""Below the table, and one for the cursor."""


class Reporter:
    """Shows notes on a benchmark and nothing else; others show its progress too."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what was shown."""

    def note(self, text: str) -> None:
        """Show a line about the benchmark as a whole."""
        click.echo(text, err=True)

    def show(self, event: Event) -> None:
        """Show that a run begins, is at work, or is recorded."""


def reporter(total: int, done: Sequence[Document], *, quiet: bool) -> Reporter:
    """The reporter that fits standard error.

    Parameters
    ----------
    total : int
        Runs asked for.
    done : sequence of dict
        The documents of those that were done before.
    quiet : bool
        Show nothing but notes.
    """
    if quiet:
        return Reporter()
    return _LiveTable(total, done) if sys.stderr.isatty() else _JsonLines(total, len(done))


class _JsonLines(Reporter):
    """One object for every recorded run: id, configuration, status, main metrics (means over folds) and error.

    Between them, every ten seconds, one on what is done.
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done
        self.told = time.monotonic()
        self.stages = json_stages()

    def __enter__(self) -> _JsonLines:
        self.stages.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stages.__exit__(*error)

    def note(self, text: str) -> None:
        self._write({"note": text})

    def show(self, event: Event) -> None:
        if event.document is None:
            self._tell_stage(event)
            return
        self.done += 1
        config, document = event.document["config"], event.document
        self._write(
            {
                "done": self.done,
                "of": self.total,
                "id": document["id"],
                **{name: config[name] for name in _NAMED},
                "status": document["status"],
                **{name: mean_over_folds(document, name) for name in main_metrics()},
                "error": document["error"] and document["error"]["message"],
            }
        )

    def _tell_stage(self, event: Event) -> None:
        """What a worker is at; this process tells its own stages by itself."""
        now = time.monotonic()
        if event.doing and now - self.told >= JSON_SECONDS:
            self.told = now
            self._write({"id": event.run.id, "doing": event.doing})

    def _write(self, line: dict[str, object]) -> None:
        click.echo(json.dumps(to_jsonable(line)), err=True)


class _LiveTable(Reporter):
    """The standings so far and a line of progress, redrawn in place.

    The table is made when a run has been recorded, and no more often than makes up a twentieth of the time. Between
    events it is only copied to the screen, once a second: what is timed meanwhile must not feel it.
    """

    def __init__(self, total: int, done: Sequence[Document]) -> None:
        self.documents = {document["id"]: document for document in done}
        self.state = BenchState(total, len(done), len(done))
        self.console = Console(stderr=True)
        self.table: RenderableType = Text("")
        self.due = 0.0
        self.live = Live(
            get_renderable=self._draw_all,
            console=self.console,
            refresh_per_second=1,
            transient=True,
        )
        if done:
            self.note(f"{len(done)} of {total} runs were already done")

    def __enter__(self) -> _LiveTable:
        self._draw()
        self.live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    def show(self, event: Event) -> None:
        self.state.take(event)
        if event.document is not None:
            self.documents[event.run.id] = event.document
            if has_failed(event.document):
                self.note(f"failed: {event.run}: {event.document['error']['message']}")
            self._draw()
        self.live.refresh()

    def _draw_all(self) -> RenderableType:
        self.state.look_around()
        return Group(self.table, draw_progress(self.state))

    def _draw(self) -> None:
        began = time.monotonic()
        if began < self.due and self.state.done < self.state.total:
            return
        drawn = draw_standings(list(self.documents.values()), self.console.height - _PROGRESS_LINES)
        options = self.console.options
        self.table = Segments(
            segment
            for line in self.console.render_lines(drawn, options, pad=False)
            for segment in (*line, Segment.line())
        )
        now = time.monotonic()
        self.due = now + _SHARE * (now - began)
