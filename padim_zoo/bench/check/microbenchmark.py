"""The benchmarks of single stages in the JSON that pytest-benchmark writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
