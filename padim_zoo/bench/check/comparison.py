"""The check: fresh runs and benchmarks against a baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from padim_zoo.bench.check.accuracy import compare_accuracy
from padim_zoo.bench.check.baseline import Baseline
from padim_zoo.bench.check.cost import compare_microbenchmarks, compare_sizes, compare_times, note_incomparable_machines
from padim_zoo.bench.check.finding import Findings, Limits
from padim_zoo.bench.check.matching import Matching, Names, Pair, match, telling_settings
from padim_zoo.bench.check.microbenchmark import Microbenchmarks
from padim_zoo.bench.check.row import Row
from padim_zoo.bench.status import DONE, FAILED
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of


def compare(
    rows: Sequence[Row] | None, benchmarks: Microbenchmarks | None, baseline: Baseline, limits: Limits
) -> Findings:
    """Compare what there is with a baseline.

    Parameters
    ----------
    rows : sequence of Row, optional
        Fresh runs.
    benchmarks : Microbenchmarks, optional
        Fresh benchmarks.
    baseline : Baseline
    limits : Limits

    Raises
    ------
    InputError
        If there is nothing in the baseline to compare with.
    """
    findings = Findings()
    if rows is not None:
        _compare_rows(rows, baseline.rows, limits, findings)
    elif baseline.rows:
        findings.note(f"the {len(baseline.rows)} runs of the baseline are not compared: no run store was given")
    if benchmarks is not None:
        _compare_benchmarks(benchmarks, baseline.benchmarks, limits, findings)
    elif baseline.benchmarks is not None:
        findings.note("the benchmarks of the baseline are not compared: --benchmarks was not given")
    return findings


def _compare_rows(fresh: Sequence[Row], baseline: Sequence[Row], limits: Limits, findings: Findings) -> None:
    matching = match(fresh, baseline)
    if not matching.pairs:
        raise InputError(
            f"none of the {len(fresh)} runs has the configuration of one of the {len(baseline)} runs in the baseline"
            f"{_settings_apart(fresh, baseline)}: give the run store of the same suite, or write the baseline anew "
            "with --update"
        )
    findings.compared.append(number_of(len(matching.pairs), "run"))
    done = _compare_status(matching, findings)
    _note_differences(done, findings)
    names = Names([*fresh, *baseline])
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in done:
        groups[pair.now.configuration].append(pair)
    for group in groups.values():
        configuration = names.configuration_of(group[0].now)
        for pair in group:
            compare_accuracy(pair.name, [pair], limits.accuracy_drop, findings)
        if len(group) > 1:
            compare_accuracy(f"mean of {len(group)} rows: {configuration}", group, limits.accuracy_drop, findings)
        compare_times(configuration, group, limits.slowdown, findings)
        compare_sizes(group, limits.memory_growth, findings)


def _settings_apart(fresh: Sequence[Row], baseline: Sequence[Row]) -> str:
    """In brackets, the settings of which the two sides have no value in common."""
    apart = []
    for name in telling_settings():
        here, there = ({str(row.config.get(name)) for row in rows} for rows in (fresh, baseline))
        if not here & there:
            apart.append(f"{name} {', '.join(sorted(here))} here, {', '.join(sorted(there))} there")
    return f" ({'; '.join(apart)})" if apart else ""


def _compare_status(matching: Matching, findings: Findings) -> list[Pair]:
    """Tell of runs that are missing, failed or new; return the pairs that are done."""
    for name in matching.missing:
        findings.regress(name, "status", DONE, "missing", "", "it must not disappear")
    for pair in matching.pairs:
        if pair.now.error is not None:
            findings.regress(pair.name, "status", DONE, FAILED, "", pair.now.error)
    findings.note("runs that the baseline lacks", matching.new)
    return [pair for pair in matching.pairs if pair.now.error is None]


def _note_differences(pairs: Sequence[Pair], findings: Findings) -> None:
    """Tell what else changed, beside the code."""

    def note(text: str, part: Callable[[Row], Any]) -> None:
        findings.note(text, [pair.name for pair in pairs if not np.array_equal(part(pair.now), part(pair.before))])

    note(
        "the weights are not those of the baseline, and metrics may differ for that reason",
        lambda row: row.config.get("weights_hash"),
    )
    note(
        "metrics are of another version of results than those of the baseline",
        lambda row: row.config.get("results_version"),
    )
    note(
        "the test images are not those of the baseline, so the comparison is unpaired",
        lambda row: None if row.scores is None else row.scores.labels,
    )
    note_incomparable_machines(pairs, findings)


def _compare_benchmarks(
    now: Microbenchmarks, before: Microbenchmarks | None, limits: Limits, findings: Findings
) -> None:
    common = [] if before is None else [name for name in now.timings if name in before.timings]
    if before is None or not common:
        raise InputError(
            f"none of the {len(now.timings)} benchmarks is in the baseline: "
            "give those of the same suite, or write the baseline anew with --update"
        )
    findings.compared.append(number_of(len(common), "benchmark"))
    compare_microbenchmarks(now, before, limits.slowdown, findings)
