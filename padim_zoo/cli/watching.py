"""A run store redrawn on the terminal while others fill it: ``padim-zoo leaderboard --watch``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from padim_zoo.bench.live import draw_progress
from padim_zoo.bench.running import StoreWatcher
from padim_zoo.bench.status import has_failed
from padim_zoo.bench.store import Document
from padim_zoo.core.numbers import number_of

EVERY = 0.5
"""Seconds between two looks, at least."""

_SHARE = 5
"""Times that a look takes, before the next one."""

Draw = Callable[[Sequence[Document], int], RenderableType]
"""Makes a table of documents in no more than so many lines."""


def watch(runs: Path, draw: Draw, console: Console | None = None) -> StoreWatcher:
    """Redraw until the benchmarks that write to the store have ended; before the first one, wait for it.

    Parameters
    ----------
    runs : Path
        The run store; it need not be there yet.
    draw : callable
    console : Console, optional

    Returns
    -------
    StoreWatcher
        With the store as it was last seen.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C; the screen is as it was then.
    """
    watcher = StoreWatcher(runs)
    console = console or Console()
    table: RenderableType = Text("")
    size = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            changed = watcher.poll()
            below = _below(watcher, runs)
            if changed or size != console.size:
                size = console.size
                lines = size.height - sum(len(console.render_lines(part, pad=False)) for part in below) - 1
                table = draw(watcher.documents, lines) if watcher.documents else Text("")
            live.update(Group(table, *below), refresh=True)
            if watcher.over:
                return watcher
            # The benchmark needs the processor more than this does.
            time.sleep(max(EVERY, _SHARE * (time.monotonic() - began)))


def _below(watcher: StoreWatcher, runs: Path) -> list[RenderableType]:
    """What is said of the benchmarks at work, or of the lack of one."""
    parts: list[RenderableType] = [draw_progress(state) for state in watcher.benches]
    failed = [document for document in watcher.documents if has_failed(document)]
    if failed:
        config, error = failed[-1]["config"], failed[-1]["error"]
        what = " ".join(filter(None, (config["category"], config["detector"], config["backbone"], config["estimator"])))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        parts.append(Text(f"failed{more}: {what}: {error['message']}", style="red", no_wrap=True, overflow="ellipsis"))
    if not watcher.benches:
        state = "holds no run yet" if not watcher.documents else number_of(len(watcher.documents), "run")
        parts.append(Text(f"{runs}: {state}; no benchmark is at work, waiting for one (Ctrl-C ends)", style="dim"))
    return parts
