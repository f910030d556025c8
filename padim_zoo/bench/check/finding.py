"""What a comparison finds, and the limits that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from padim_zoo.bench.formats import TextTable
from padim_zoo.core.errors import InputError


@dataclass(frozen=True)
class Limits:
    """How much worse is too much.

    Attributes
    ----------
    accuracy_drop : float
        Of a metric, absolute.
    slowdown : float
        Ratio of times, each divided by that of the calibration workload.
    memory_growth : float
        Ratio of sizes.

    Raises
    ------
    InputError
        If a limit calls an improvement a regression, or is NaN.
    """

    accuracy_drop: float = 0.01
    slowdown: float = 1.3
    memory_growth: float = 1.2

    def __post_init__(self) -> None:
        for name, least in (("accuracy_drop", 0.0), ("slowdown", 1.0), ("memory_growth", 1.0)):
            if not getattr(self, name) >= least:  # NaN is not either
                raise InputError(f"{name} is {getattr(self, name)}: expected {least:g} or more; inf turns it off")


@dataclass(frozen=True)
class Regression:
    """Something that got worse.

    Attributes
    ----------
    where : str
        A run, the mean of several, or a benchmark.
    what : str
        A metric, a cost, or ``"status"``.
    before, now : str
        Its values; times as they would be on this machine.
    change : str
    why : str
        The rule that it breaks.
    """

    where: str
    what: str
    before: str
    now: str
    change: str
    why: str


_HEADINGS = ("where", "what", "baseline", "now", "change", "why")


@dataclass
class Findings:
    """All that a comparison finds.

    Attributes
    ----------
    compared : list of str
        What was compared, in words.
    regressions : list of Regression
    notes : list of str
        What a reader should know to judge the result.
    """

    compared: list[str] = field(default_factory=list)
    regressions: list[Regression] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def regress(self, where: str, what: str, before: str, now: str, change: str, why: str) -> None:
        """Add a :class:`Regression`."""
        self.regressions.append(Regression(where, what, before, now, change, why))

    def note(self, text: str, *about: Sequence[str]) -> None:
        """Add a note; one about some rows only if there are any, of which it names three at most."""
        for names in about:
            if not names:
                return
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            text = f"{text}: {'; '.join(names[:3])}{more}"
        self.notes.append(text)

    @property
    def verdict(self) -> str:
        """How many regressions there are, and in what."""
        count = len(self.regressions) or "no"
        return f"{count} regression{'' if count in ('no', 1) else 's'} in {' and '.join(self.compared)}"

    def to_text(self) -> TextTable:
        """The verdict, what regressed, and notes, as a job's summary shows them."""
        rows: list[Sequence[str]] = [astuple(regression) for regression in self.regressions]
        return TextTable(_HEADINGS if rows else (), rows, self.verdict, numbers={2, 3, 4}, notes=self.notes)

    def __rich__(self) -> RenderableType:
        """The verdict, a table of what regressed, and notes, for a terminal."""
        lines: list[RenderableType] = [Text(self.verdict, style="bold green")]
        if self.regressions:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
            for heading in _HEADINGS[:2]:
                table.add_column(heading, overflow="fold")
            for heading in _HEADINGS[2:5]:
                table.add_column(heading, justify="right", no_wrap=True)
            table.add_column(_HEADINGS[5], overflow="fold")
            for regression in self.regressions:
                table.add_row(*map(Text, astuple(regression)))
            lines = [Text(self.verdict, style="bold red"), table]
        if any(regression.change.startswith("×") for regression in self.regressions):
            scaled = "baseline times are scaled to this machine, by the calibration workload or by a reference"
            lines.append(Text(scaled, style="dim"))
        return Group(*lines, *(Text(f"note: {note}") for note in self.notes))
