"""How far some work is, in one line of a terminal: a bar, and words."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from padim_zoo.bench.bars import Axis, bar

_BAR = 24


def progress_line(done: int, total: int | None, words: Iterable[str], title: str = "") -> Text:
    """A bar of what is done behind a title, and words; an empty one where nobody knows how much there is."""
    drawn = "" if total is None else bar(done, Axis(0, max(total, 1)), _BAR).rstrip()
    line = Text.assemble(title, (drawn, "green"), ("·" * (_BAR - len(drawn)), "bright_black"), " ")
    line.append(" · ".join(words))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
