"""Costs that grew by more than is allowed: times against the calibration workload, and sizes. docs/ci-check.md."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from padim_zoo.bench.check.finding import Findings
from padim_zoo.bench.check.matching import Pair
from padim_zoo.bench.check.microbenchmark import Microbenchmarks
from padim_zoo.bench.check.noise import repetition_interval
from padim_zoo.bench.costs import COSTS, Cost
from padim_zoo.bench.status import DONE

TIMES = tuple(cost for cost in COSTS.values() if cost.is_time)
SIZES = tuple(cost for cost in COSTS.values() if not cost.is_time)


@dataclass(frozen=True)
class Growth:
    """A cost now, and what it would be here if nothing had changed."""

    name: str
    before: float
    now: float

    @property
    def ratio(self) -> float:
        """Above 1 for what got worse; NaN where a cost was not measured."""
        return self.now / self.before if self.before else math.inf

    def exceeds(self, limit: float, floor: float) -> bool:
        """Whether it got worse by more than a ratio and an absolute amount."""
        return self.ratio > limit and self.now - self.before > floor


def compare_sizes(pairs: Sequence[Pair], limit: float, findings: Findings) -> None:
    """Compare the memory of rows, which is nearly the same in every repetition."""
    for pair, cost in product(pairs, SIZES):
        growth = _growth(pair, cost)
        if growth.exceeds(limit, cost.floor):
            _regress(findings, growth, cost.name, cost.unit, limit)


def compare_times(configuration: str, pairs: Sequence[Pair], limit: float, findings: Findings) -> None:
    """Compare the times of the rows of one configuration.

    One row is one measurement of a fraction of a second, and whatever else the machine does makes it longer, twofold or
    tenfold. So it is the median ratio of the rows that counts, of two rows the smaller one; and where three rows or
    more show how ratios scatter, the interval of their geometric mean must not hold 1. Single rows are told of.
    """
    comparable = [pair for pair in pairs if pair.why_times_differ() is None]
    for cost in TIMES:
        growths = [_growth(pair, cost, pair.now.machine.slower_than(pair.before.machine)) for pair in comparable]
        growths = [growth for growth in growths if 0 < growth.ratio < math.inf]
        if not growths:
            continue
        typical = sorted(growths, key=lambda growth: growth.ratio)[(len(growths) - 1) // 2]
        scatter = repetition_interval([math.log(growth.ratio) for growth in growths])
        if typical.exceeds(limit, cost.floor) and (scatter is None or scatter[0] > 0):
            where = typical.name if len(growths) == 1 else f"median of {len(growths)} rows: {configuration}"
            _regress(findings, replace(typical, name=where), cost.name, cost.unit, limit)
        else:
            single = [growth.name for growth in growths if growth.exceeds(limit**2, cost.floor)]
            findings.note(f"{cost.name} over × {limit**2:.3g} in single rows, which does not count", single)


def compare_microbenchmarks(now: Microbenchmarks, before: Microbenchmarks, limit: float, findings: Findings) -> None:
    """Compare the benchmarks of single stages by their medians and by their fastest rounds.

    Both must exceed the limit: a stage that has become slower has no fast round any more.
    """
    reason = now.machine.differs_from(before.machine)
    if reason is not None:
        findings.note(f"benchmarks are not compared: {reason}")
        return
    disturbed = now.machine.why_incomparable(before.machine)
    on_the_clock: list[str] = []
    skipped: dict[str, list[str]] = defaultdict(list)
    scale = now.machine.slower_than(before.machine)
    for name, old in before.timings.items():
        new = now.timings.get(name)
        if name in now.skipped:
            skipped[now.skipped[name]].append(name)
        elif new is None:
            findings.regress(name, "status", DONE, "missing", "", "it must not disappear")
        elif disturbed is not None and (new.reference is None or old.reference is None):
            on_the_clock.append(name)
        else:
            scaled = old.scaled_to(new, scale)
            growth = Growth(name, 1000 * scaled.median, 1000 * new.median)
            if growth.ratio > limit and new.min > limit * scaled.min:
                _regress(findings, growth, "median", "ms", limit)
    findings.note(f"benchmarks without a reference are not compared ({disturbed})", on_the_clock)
    for why, names in sorted(skipped.items()):
        findings.note(f"benchmarks not run here ({why})", names)
    findings.note("benchmarks that the baseline lacks", [name for name in now.timings if name not in before.timings])


def note_incomparable_machines(pairs: Sequence[Pair], findings: Findings) -> None:
    """Say which rows' times are not compared, and why."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if (reason := pair.why_times_differ()) is not None:
            reasons[reason].append(pair.name)
    for reason, names in reasons.items():
        findings.note(f"times are not compared ({reason})", names)


def _growth(pair: Pair, cost: Cost, scale: float = 1.0) -> Growth:
    return Growth(pair.name, pair.before.costs[cost.name] * scale, pair.now.costs[cost.name])


def _regress(findings: Findings, growth: Growth, name: str, unit: str, limit: float) -> None:
    before, now = f"{growth.before:.4g} {unit}", f"{growth.now:.4g} {unit}"
    findings.regress(growth.name, name, before, now, f"× {growth.ratio:.2f}", f"over × {limit:.3g}")
