"""What an executor is: give it groups of runs, and it gives recorded documents back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from padim_zoo.bench.run import Run
from padim_zoo.bench.store import Document

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Event:
    """A run begins, is at work, or, with its document, is recorded, whether it worked or failed.

    Attributes
    ----------
    run : Run
    document : Document or None
    elsewhere : bool
        Another process is at this run, so it was left out.
    cluster : str
        How many workers there are and what they are at, of a run that begins on a cluster.
    doing : str
        What the run is at, such as images that are read.
    """

    run: Run
    document: Document | None = None
    elsewhere: bool = False
    cluster: str = ""
    doing: str = ""


class Executor(Protocol):
    """Does groups of runs. Each run is recorded in the store before its event says so.

    It is a context manager, which ends whatever it has started.
    """

    def run(self, in_groups: Sequence[list[Run]]) -> Iterator[Event]:
        """Do groups of runs, in any order."""

    def __enter__(self) -> Self:
        """Start what it needs."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
