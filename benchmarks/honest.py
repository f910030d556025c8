"""Try all traps: inputs that mean something other than they seem. None may pass in silence.

    python benchmarks/honest.py
    python benchmarks/honest.py --data DIR

Each trap of ``tests/traps`` is tried on a drawn category, and on every category below DIR: some of its images, made
small and altered. A row says what was printed, what is right, and whether the program was right or said what is wrong.
Exits with 1 if a trap passed in silence.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from padim_zoo.cli.table import show_table
from tests.traps.table import TRAPS
from tests.traps.trap import Trap
from tests.traps.world import Outcome, World


def categories(root: Path) -> list[Path]:
    """Folders that hold a training set, without those inside others."""
    return sorted(folder.parent for folder in root.rglob("train") if folder.is_dir())


def tried(world: World, trap: Trap) -> Outcome:
    """What came of a trap; an error is none that was meant."""
    try:
        return trap.check(world)
    except Exception as error:
        return Outcome(f"{type(error).__name__}: {error}", "no error", False)


def rows(data: Path | None, only: str) -> Iterator[dict[str, str]]:
    """One row for each trap and category."""
    for source in [None, *(categories(data) if data is not None else [])]:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), source)
            for trap in TRAPS:
                if only in trap.name:
                    outcome = tried(world, trap)
                    yield {
                        "images": "drawn" if source is None else source.name,
                        "trap": trap.name,
                        "printed": _short(outcome.printed, folder),
                        "right": _short(outcome.right, folder),
                        "verdict": "right" if outcome.passed else "SILENT",
                    }


def _short(text: str, folder: str) -> str:
    text = " ".join(text.replace(folder, "").split())
    return text if len(text) <= 90 else f"{text[:60]} … {text[-27:]}"


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Real categories.")
@click.option("--only", default="", help="Traps whose names hold this text.")
def main(data: Path | None, only: str) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PADIM_ZOO_CACHE"] = cache
        records = []
        for row in rows(data, only):
            click.echo(f"{row['verdict']:<7} {row['images']}: {row['trap']}", err=True)
            records.append(row)
    show_table(records)
    silent = sum(row["verdict"] == "SILENT" for row in records)
    click.echo(f"\n{len(records) - silent} of {len(records)} right or told, {silent} in silence")
    sys.exit(silent > 0)


if __name__ == "__main__":
    main()
