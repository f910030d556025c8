"""Which row of a baseline a fresh row is to be compared with."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from padim_zoo.bench.check.noise import bootstrap_differences
from padim_zoo.bench.check.row import Row
from padim_zoo.bench.settings import SETTINGS


@dataclass(frozen=True)
class Pair:
    """A fresh row and the row of the baseline that was asked for in the same words."""

    name: str
    now: Row
    before: Row

    def means(self, metric: str) -> tuple[float, float]:
        """A metric before and now, each the mean of the folds."""
        return float(np.mean(self.before.metrics[metric])), float(np.mean(self.now.metrics[metric]))

    @cached_property
    def replicates(self) -> dict[str, np.ndarray]:
        """Differences of image metrics on resampled images. Rows on the same images share their draws."""
        assert self.now.scores is not None
        assert self.before.scores is not None
        images = f"{self.now.config['dataset']}/{self.now.config['category']}"
        return bootstrap_differences(self.now.scores, self.before.scores, seed=zlib.crc32(images.encode()))

    def why_times_differ(self) -> str | None:
        """Why times of the two rows cannot be compared whatever the code; None if they can."""
        if self.now.precision != self.before.precision:
            return f"precision: {self.now.precision} here, {self.before.precision} in the baseline"
        if self.now.runtime != self.before.runtime:
            return f"runtime: {self.now.runtime} here, {self.before.runtime} in the baseline"
        return self.now.machine.why_incomparable(self.before.machine)


@dataclass
class Matching:
    """Rows on both sides, and the names of those on one side only."""

    pairs: list[Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


def match(fresh: Sequence[Row], baseline: Sequence[Row]) -> Matching:
    """Match rows by what was asked for.

    Data count by the name of their category, and weights by that of their backbone. Where rows differ in the weights
    alone, those with equal weights belong together.
    """
    names = Names([*fresh, *baseline])
    matching = Matching()
    sides: dict[str, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((fresh, baseline)):
        for row in rows:
            sides[row.key][side].append(row)
    for now, before in sides.values():
        alone = len(now) == len(before) == 1
        for row in before:
            weights = row.config["weights_hash"]
            partner = next((other for other in now if alone or other.config["weights_hash"] == weights), None)
            if partner is None:
                matching.missing.append(names.of(row))
            else:
                matching.pairs.append(Pair(names.of(row), partner, row))
                now.remove(partner)
        matching.new.extend(map(names.of, now))
    return matching


MODEL = ("backbone", "estimator")
"""What every name says."""


def telling_settings() -> list[str]:
    """The other settings that may tell rows of one category apart."""
    columns = [row.one for row in SETTINGS.values() if row.column is not None]
    return [name for name in (*columns, "ensemble") if name not in ("category", *MODEL)]


class Names:
    """Short names of rows: category and model, and of the other settings those in which rows differ.

    Parameters
    ----------
    rows : sequence of Row
        All rows that are to be told apart.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._differing = [name for name in telling_settings() if len({repr(_setting(row, name)) for row in rows}) > 1]

    def of(self, row: Row) -> str:
        """The name of a row."""
        seed = f" seed {row.config['seed']}" if "seed" in self._differing else ""
        return f"{row.config['category']} {self.configuration_of(row)}{seed}"

    def configuration_of(self, row: Row) -> str:
        """The name of what a row has in common with those of other categories and seeds."""
        others = [name for name in self._differing if name != "seed"]
        values = {name: _setting(row, name) for name in (*MODEL, *others)}
        return " ".join(
            f"{value}" if name in MODEL else f"{name} {value}" for name, value in values.items() if value is not None
        )


def _setting(row: Row, name: str) -> Any:
    return row.weights if name == "weights" else row.config.get(name)
