"""What both sides are measured with; needs nothing but the standard library."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


BATCHES = {1: 20, 32: 5}
"""How often a batch of each size is timed, on every side."""


def latencies(call: Callable[[Any], object], batch_of: Callable[[int], Any], times: int = 1) -> dict[str, float]:
    """Milliseconds per image of a call on a batch of each size, by the names of the figures; so many times as often."""
    return {
        f"batch_{size}_ms": median_ms(partial(call, batch_of(size)), times * repeats) / size
        for size, repeats in BATCHES.items()
    }


def fit_figures(prepare: Callable[[], Callable[[], object]]) -> dict[str, float]:
    """Seconds of a fit, and of the one before, in which libraries start; ``prepare`` gives the call of a fresh one."""
    seconds = []
    for _ in range(2):
        fit = prepare()
        start = time.perf_counter()
        fit()
        seconds.append(time.perf_counter() - start)
    return {"first_fit_s": seconds[0], "fit_s": seconds[1]}


def peak_mb() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def seconds_of(command: list[str]) -> float:
    """Least seconds of three starts of a program, or of fewer if they take long; its output is thrown away."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 5:
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)
