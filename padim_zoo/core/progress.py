"""How far long work is: told where it is done, shown by whoever listens.

Work is done in stages, such as reading 200 images. A stage may hold another one of a smaller unit. Where nobody
listens, telling costs next to nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")


@dataclass(eq=False)
class Stage:
    """A piece of work that is counted.

    Attributes
    ----------
    what : str
        What is done, such as "reading images".
    total : int or None
        How many there are; None where nobody knows.
    unit : str
        What is counted, in the plural.
    done : int
    began, informed : float
        Seconds of a monotonic clock: when it began, and when ``done`` last changed.
    """

    what: str
    total: int | None = None
    unit: str = "images"
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    informed: float = 0.0

    def __post_init__(self) -> None:
        self.informed = self.informed or self.began

    def advance(self, count: int = 1) -> None:
        """Count what has been done."""
        self.done += count
        self.informed = time.monotonic()

    @property
    def per_second(self) -> float | None:
        """The rate so far; None before anything was done."""
        seconds = self.informed - self.began
        return self.done / seconds if self.done and seconds > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """At the rate so far. It only falls until more is done."""
        if self.total is None or self.per_second is None:
            return None
        return remaining((self.total - self.done) / self.per_second, now - self.informed)

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        return f"{self.what}: {self.done}{of} {self.unit}"

    def to_dict(self, now: float) -> dict[str, Any]:
        """The stage in JSON's types."""
        left = self.seconds_left(now)
        return {
            "doing": self.what,
            "done": self.done,
            "of": self.total,
            "unit": self.unit,
            "per_second": None if self.per_second is None else float(f"{self.per_second:.3g}"),
            "seconds": round(now - self.began),
            "seconds_left": None if left is None else round(left),
        }


def remaining(estimate: float, since: float) -> float:
    """What is left of an estimate in seconds, so many seconds after it was made."""
    return max(estimate - since, 0.0)


def duration(seconds: float) -> str:
    """In words that a reader needs no calculator for: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = math.ceil(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class Listener(Protocol):
    """Who shows stages."""

    def began(self) -> None:
        """The first stage is open now."""

    def ended(self) -> None:
        """No stage is open any more."""


_open: list[Stage] = []
_listener: Listener | None = None


def open_stages() -> list[Stage]:
    """The stages that are open now, the outermost first."""
    return list(_open)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let someone show the stages of this process."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextmanager
def stage(what: str, total: int | None = None, unit: str = "images") -> Iterator[Stage]:
    """Open a stage.

    One that counts what an open stage counts already is not shown, nor is one of another thread than the main one.
    """
    new = Stage(what, total, unit)
    hidden = threading.current_thread() is not threading.main_thread() or any(one.unit == unit for one in _open)
    if hidden:
        yield new
        return
    _open.append(new)
    listener = _listener if len(_open) == 1 else None
    if listener is not None:
        listener.began()
    try:
        yield new
    finally:
        _open.remove(new)
        if listener is not None:
            listener.ended()


def told(items: Iterable[Item], what: str, total: int | None = None, unit: str = "images") -> Iterator[Item]:
    """The same items; each counts when the next one is asked for."""
    with stage(what, total, unit) as counter:
        for item in items:
            yield item
            counter.advance()
