"""What a trap is tried on: a sound category, its model and figures, and commands that are run in this process."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from padim_zoo.cli.main import main
from tests.traps.drawing import SIDE, draw_category, take_category, take_many

FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
CLOSE = 0.002
"""Figures that differ by no more are the same."""


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def refused(self) -> bool:
        """Whether it ended with one line that says why."""
        return self.code == 2 and len(self.stderr.strip().splitlines()) >= 1

    @property
    def line(self) -> str:
        """The last line that it wrote to standard error, or to standard output."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return lines[-1] if lines else ""

    def line_with(self, part: str) -> str:
        """The line that holds a part, or the last one."""
        lines = (self.stderr + "\n" + self.stdout).splitlines()
        return next((line.strip() for line in lines if part in line), self.line)

    def says(self, *parts: str) -> bool:
        """Whether all parts stand in what it wrote."""
        return all(part in self.stdout + self.stderr for part in parts)


class Outcome(NamedTuple):
    """What came of a trap.

    Attributes
    ----------
    printed, right : str
        What was printed, and what is right.
    passed : bool
        Whether the figures are right, or the command refused them or said what is wrong.
    """

    printed: str
    right: str
    passed: bool


@dataclass
class World:
    """A folder for the traps of one category.

    Attributes
    ----------
    folder : Path
    source : Path or None
        A real category; a drawn one by default.
    """

    folder: Path
    source: Path | None = None
    _evaluated: dict[tuple[object, ...], dict[str, float]] = field(default_factory=dict)

    @cached_property
    def base(self) -> Path:
        """The sound category."""
        folder = self.folder / "sound"
        return draw_category(folder) if self.source is None else take_category(folder, self.source)

    @cached_property
    def many(self) -> Path:
        """A sound category with as many images as a statistical test takes."""
        return self.base if self.source is None else take_many(self.folder / "many", self.source)

    @cached_property
    def model_of_many(self) -> Path:
        """The model of that one."""
        return self.model if self.source is None else self.fit(self.many / "train" / "good")

    @cached_property
    def model(self) -> Path:
        """The model of the sound category."""
        return self.fit(self.base / "train" / "good")

    @cached_property
    def sound(self) -> dict[str, float]:
        """Its figures."""
        return self.figures(self.model, self.base)

    def copy(self, name: str, many: bool = False) -> Path:
        """A copy of the sound category, to be altered."""
        return Path(shutil.copytree(self.many if many else self.base, self.folder / name))

    def run(self, *arguments: object) -> Ran:
        """Run a command."""
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # a process tells a warning once, and each command is its own
            result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        stderr = result.stderr
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            stderr += f"Traceback: {result.exception!r}"
        return Ran(result.exit_code, result.stdout, stderr)

    def try_fit(self, *arguments: object, output: str = "m") -> Ran:
        """Fit quickly; the model is ``output`` in the folder."""
        options = ("--resize", SIDE, "--precision", "float32", "--no-cache")
        return self.run("fit", *options, "-o", self.folder / f"{output}.safetensors", *arguments)

    def fit(self, *arguments: object) -> Path:
        """The model of a fit that must succeed."""
        output = f"model{len(list(self.folder.glob('model*.safetensors')))}"
        ran = self.try_fit(*arguments, output=output)
        assert ran.code == 0, ran
        return self.folder / f"{output}.safetensors"

    def evaluate(self, model: Path, category: Path, *options: object) -> Ran:
        """Evaluate as JSON."""
        return self.run("evaluate", model, "--data-root", category, "--json", "--no-cache", *options)

    def figures(self, model: Path, category: Path, *options: object) -> dict[str, float]:
        """The figures of an evaluation that must succeed."""
        ran = self.evaluate(model, category, *options)
        assert ran.code == 0, ran
        document: dict[str, float] = json.loads(ran.stdout)
        return document

    def threshold(self, model: Path) -> float:
        """The threshold in a model."""
        from padim_zoo.detectors.loading import load

        threshold = load(model).threshold_
        assert threshold is not None
        return threshold


def in_short(figures: dict[str, float]) -> str:
    """Figures in a few words."""
    values = [(name, figures.get(name)) for name in FIGURES]
    return ", ".join(f"{name} {'–' if value is None else f'{value:.3f}'}" for name, value in values)


def is_refused(ran: Ran, *parts: str) -> Outcome:
    """A command has to refuse, in a line with all parts."""
    return Outcome(ran.line, f"refused: {' … '.join(parts)}", ran.refused and ran.says(*parts))


def is_told(ran: Ran, *parts: str) -> Outcome:
    """A command has to say so."""
    return Outcome(ran.line_with(parts[0]), f"says {' … '.join(parts)}", ran.code in (0, 1) and ran.says(*parts))


def has_figures(ran: Ran, right: dict[str, float], *parts: str, tolerance: float = CLOSE) -> Outcome:
    """An evaluation has to give the right figures, and to say all parts."""
    if ran.code:
        return Outcome(ran.line, in_short(right), False)
    figures = json.loads(ran.stdout)
    same = all(
        figures[name] is not None and abs(figures[name] - right[name]) <= tolerance
        for name in FIGURES
        if right[name] is not None
    )
    told = f", says {' … '.join(parts)}" if parts else ""
    return Outcome(in_short(figures), in_short(right) + told, same and ran.says(*parts))


Check = Callable[[World], Outcome]
