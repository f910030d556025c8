"""Stages of work on standard error: bars on a terminal, a line of JSON every ten seconds elsewhere."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from padim_zoo.bench.bars import progress_line
from padim_zoo.core.progress import Stage, duration, listening, open_stages

JSON_SECONDS = 10.0
"""Between two lines of JSON."""

_LOOK_SECONDS = 0.1
"""Between two looks at whether a stage is open, when a line is due."""

_SHORT = 0.5
"""Stages of fewer seconds are not drawn."""

_REFRESHES = 4


@contextmanager
def stages_shown(*, quiet: bool) -> Iterator[None]:
    """Show the stages of this process on standard error."""
    if quiet:
        yield
    elif sys.stderr.isatty():
        bars = StageBars()
        with listening(bars):
            try:
                yield
            finally:
                bars.ended()
    else:
        with json_stages():
            yield


class StageBars:
    """A bar for each open stage, drawn below what else goes to the terminal, and gone at the end."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.live: Live | None = None

    def began(self) -> None:
        """Start to draw."""
        self.live = Live(
            get_renderable=self._draw,
            console=self.console,
            refresh_per_second=_REFRESHES,
            transient=True,
            redirect_stdout=False,
        )
        self.live.start()

    def ended(self) -> None:
        """Take the bars away."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _draw(self) -> RenderableType:
        now = time.monotonic()
        return Text("\n").join(draw_stage(one, now) for one in open_stages() if now - one.began >= _SHORT)


def draw_stage(stage: Stage, now: float) -> Text:
    """One line: what is done, how much of it, the rate and the time left."""
    words = [f"{stage.done} {stage.unit}" if stage.total is None else f"{stage.done} of {stage.total} {stage.unit}"]
    rate, left = stage.per_second, stage.seconds_left(now)
    if rate is not None:
        words.append(f"{rate:.3g}/s")
    words.append(duration(now - stage.began))
    if left is not None and stage.done < (stage.total or 0):
        words.append(f"about {duration(left)} left")
    return progress_line(stage.done, stage.total, words, f"{stage.what} ")


@contextmanager
def json_stages() -> Iterator[None]:
    """Write a line about the open stages now and then, from a thread of its own."""
    lines = _JsonLines()
    with listening(lines):
        try:
            yield
        finally:
            lines.over.set()
            if lines.thread is not None:
                lines.thread.join()


class _JsonLines:
    """The thread, started by the first stage."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def began(self) -> None:
        """Start it, if it does not run."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._write, name="stages", daemon=True)
            self.thread.start()

    def ended(self) -> None:
        """Wait for the next stage."""

    def _write(self) -> None:
        while not self.over.wait(JSON_SECONDS):
            # Between two stages there is nothing to tell: the next one is told as soon as it is open.
            while not (stages := open_stages()):
                if self.over.wait(_LOOK_SECONDS):
                    return
            now = time.monotonic()
            outer, *inner = (stage.to_dict(now) for stage in stages)
            click.echo(json.dumps({**outer, **({"within": inner} if inner else {})}), err=True)
