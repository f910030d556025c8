"""Findings for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from padim_zoo.bench.check.finding import Findings
from padim_zoo.bench.text_table import TextTable

HEADINGS = ("where", "what", "baseline", "now", "change", "why")


def verdict(findings: Findings) -> str:
    """How many regressions there are, and in what."""
    count = len(findings.regressions) or "no"
    return f"{count} regression{'s' * (count != 'no' and count != 1)} in {' and '.join(findings.compared)}"


def text_table(findings: Findings) -> TextTable:
    """The verdict, what regressed, and notes, as a job's summary shows them."""
    rows: list[Sequence[str]] = [astuple(regression) for regression in findings.regressions]
    return TextTable(HEADINGS if rows else (), rows, verdict(findings), numbers={2, 3, 4}, notes=findings.notes)


def render(findings: Findings) -> RenderableType:
    """The verdict, a table of what regressed, and notes."""
    lines: list[RenderableType] = []
    if findings.regressions:
        lines.append(Text(verdict(findings), style="bold red"))
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in ("where", "what"):
            table.add_column(heading, overflow="fold")
        for heading in ("baseline", "now", "change"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("why", overflow="fold")
        for regression in findings.regressions:
            table.add_row(*map(Text, astuple(regression)))
        lines.append(table)
        if any(regression.change.startswith("×") for regression in findings.regressions):
            scaled = "baseline times are scaled to this machine, by the calibration workload or by a reference"
            lines.append(Text(scaled, style="dim"))
    else:
        lines.append(Text(verdict(findings), style="bold green"))
    lines += [Text(f"note: {note}") for note in findings.notes]
    return Group(*lines)
