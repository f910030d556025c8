"""The benchmarks of single stages in the JSON that pytest-benchmark writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from padim_zoo.bench.check.machine import Machine
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.core.file_type import file_type

MACHINE_INFO = "padim_zoo"
"""Where in ``machine_info`` benchmarks/conftest.py puts the description of the environment."""

BESIDE = "cpu_seconds"
"""Where in ``extra_info`` the fixture ``beside`` there puts the processor times of a stage and of its reference."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a benchmark's fastest round, and of its median one.

    Attributes
    ----------
    min, median : float
    reference : Timing or None
        The same of other work, which took turns with the benchmark: what its times are measured in.
    """

    min: float
    median: float
    reference: Timing | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min <= self.median < math.inf:
            raise ValueError(f"a fastest round of {self.min} s with a median of {self.median} s")

    @classmethod
    def of(cls, times: Mapping[str, Any], reference: Mapping[str, Any] | None = None) -> Timing:
        """Pick the times out of statistics of pytest-benchmark, or of a baseline.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are something else.
        """
        return cls(float(times["min"]), float(times["median"]), None if reference is None else cls.of(reference))

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without what is None."""
        return asdict(self, dict_factory=lambda items: {name: value for name, value in items if value is not None})

    def scaled_to(self, other: Timing, machine: float) -> Timing:
        """These times as they would have been beside the reference of ``other``.

        Parameters
        ----------
        other : Timing
        machine : float
            How many times as long its machine takes, by the calibration workload: for benchmarks without a reference.
        """
        if self.reference is None or other.reference is None:
            return replace(self, min=self.min * machine, median=self.median * machine)
        least = self.min * other.reference.min / self.reference.min
        median = self.median * other.reference.median / self.reference.median
        # Each by its own reference: what disturbs one of them only must not turn the two around.
        return Timing(min(least, median), median, other.reference)


@dataclass(frozen=True)
class Microbenchmarks:
    """One session of pytest-benchmark.

    Attributes
    ----------
    machine : Machine
    timings : dict of str to Timing
        By ``file::test[parameters]``.
    skipped : dict of str to str
        Benchmarks that this machine cannot run, and why.
    """

    machine: Machine
    timings: Mapping[str, Timing]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": asdict(self.machine),
            "timings": {name: timing.to_dict() for name, timing in self.timings.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Microbenchmarks:
        """What :meth:`to_dict` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it did not.
        """
        timings = {name: Timing.of(timing, timing.get("reference")) for name, timing in values["timings"].items()}
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
        reason = session.machine.differs_from(machine)
        if reason is not None:
            raise InputError(f"the files of benchmarks are not of one machine ({reason}): give those of one")
        scale = machine.slower_than(session.machine)
        for name, timing in session.timings.items():
            so_far = timings.setdefault(name, timing.scaled_to(timing, scale))
            again = timing.scaled_to(so_far, scale)
            timings[name] = replace(so_far, min=min(so_far.min, again.min), median=min(so_far.median, again.median))
    skipped = {name: why for session in sessions for name, why in session.skipped.items() if name not in timings}
    return Microbenchmarks(machine, timings, skipped)


def read_microbenchmarks(path: Path) -> Microbenchmarks:
    """Read what ``pytest benchmarks --benchmark-json FILE`` wrote.

    Raises
    ------
    InputError
        If the file is not there, is something else, or lacks the calibration time.
    """
    try:
        session = read_json(path.read_text(encoding="utf-8"))
        timings = {benchmark["fullname"]: _timing(benchmark) for benchmark in session["benchmarks"]}
        skipped = {str(name): str(why) for name, why in session.get("skipped", {}).items()}
    except OSError as error:
        raise InputError(f"cannot read the benchmarks {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{path} is {file_type(path)}, which is not what pytest --benchmark-json writes: expected that"
        ) from None
    if not timings:
        raise InputError(f"{path} holds no benchmark: expected at least one")
    try:
        return Microbenchmarks(Machine.of(session["machine_info"][MACHINE_INFO]), timings, skipped)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path} does not say how fast its machine was (no calibration time): run the benchmarks of padim-zoo, "
            "or take the hook over from its benchmarks/conftest.py"
        ) from None


def _timing(benchmark: Mapping[str, Any]) -> Timing:
    beside = benchmark.get("extra_info", {}).get(BESIDE)
    return Timing.of(benchmark["stats"]) if beside is None else Timing.of(beside["stage"], beside["reference"])
