"""The benchmarks of single stages in the JSON that pytest-benchmark writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from padim_zoo.bench.check.machine import Machine
from padim_zoo.errors import InputError

MACHINE_INFO = "padim_zoo"
"""Where in ``machine_info`` benchmarks/conftest.py puts the description of the environment."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a benchmark's fastest round, and of its median one."""

    min: float
    median: float

    def __post_init__(self) -> None:
        if not 0 < self.min <= self.median:
            raise ValueError(f"a fastest round of {self.min} s with a median of {self.median} s")


@dataclass(frozen=True)
class Microbenchmarks:
    """One session of pytest-benchmark.

    Attributes
    ----------
    machine : Machine
    timings : dict of str to Timing
        By ``file::test[parameters]``.
    """

    machine: Machine
    timings: Mapping[str, Timing]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": self.machine.to_dict(),
            "timings": {name: asdict(timing) for name, timing in self.timings.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Microbenchmarks:
        """What :meth:`to_dict` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it did not.
        """
        timings = {name: Timing(**timing) for name, timing in values["timings"].items()}
        return cls(Machine.of(values["machine"]), timings)


def fastest(sessions: Sequence[Microbenchmarks]) -> Microbenchmarks:
    """The fastest of several sessions, benchmark by benchmark, in the time of the first one's machine.

    Whatever else a machine does adds to a time, often to that of every round of a benchmark: a session lasts a minute,
    a round milliseconds. It seldom comes upon the same benchmark twice.

    Raises
    ------
    InputError
        If times of two sessions cannot be compared.
    """
    machine = sessions[0].machine
    timings: dict[str, Timing] = {}
    for session in sessions:
        reason = session.machine.why_incomparable(machine)
        if reason is not None:
            raise InputError(f"the files of benchmarks are not of one machine ({reason}): give those of one")
        scale = machine.slower_than(session.machine)
        for name, timing in session.timings.items():
            so_far = timings.get(name, Timing(float("inf"), float("inf")))
            timings[name] = Timing(min(so_far.min, scale * timing.min), min(so_far.median, scale * timing.median))
    return Microbenchmarks(machine, timings)


def read_microbenchmarks(path: Path) -> Microbenchmarks:
    """Read what ``pytest benchmarks --benchmark-json FILE`` wrote.

    Raises
    ------
    InputError
        If the file is not there, is something else, or lacks the calibration time.
    """
    try:
        session = json.loads(path.read_text(encoding="utf-8"))
        timings = {
            benchmark["fullname"]: Timing(float(benchmark["stats"]["min"]), float(benchmark["stats"]["median"]))
            for benchmark in session["benchmarks"]
        }
    except OSError as error:
        raise InputError(f"cannot read the benchmarks {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path} is not what pytest --benchmark-json writes: expected that") from None
    if not timings:
        raise InputError(f"{path} holds no benchmark: expected at least one")
    try:
        return Microbenchmarks(Machine.of(session["machine_info"][MACHINE_INFO]), timings)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path} does not say how fast its machine was (no calibration time): run the benchmarks of padim-zoo, "
            "or take the hook over from its benchmarks/conftest.py"
        ) from None
