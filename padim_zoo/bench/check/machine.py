"""Whose times can be compared: the machine that a measurement was made on, as far as it matters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNDISTURBED = 0.8
"""The least share of the processor at which times on the wall clock say something of the code."""


@dataclass(frozen=True)
class Machine:
    """What the times of a measurement depend on beside the code.

    Attributes
    ----------
    calibration_seconds : float
        Time of the calibration workload in the same process.
    threads, jobs : int
        Threads of a process, and processes at work at once.
    gpu : str or None
        Its name.
    processor_share : float
        The part of the processor time it wanted that other work on the machine left it: 1 on a machine at rest.
    """

    calibration_seconds: float
    threads: int
    jobs: int
    gpu: str | None
    processor_share: float = 1.0

    @property
    def busy(self) -> bool:
        """Whether other work made times longer, by no factor that could be known."""
        return self.processor_share < UNDISTURBED

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> Machine:
        """Pick the machine out of the description that :mod:`padim_zoo.bench.environment` makes.

        Raises
        ------
        ValueError
            If there is no calibration time in it.
        """
        seconds = environment.get("calibration_seconds")
        if not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise ValueError("no calibration time")
        return cls(
            float(seconds),
            int(environment["threads"]),
            int(environment["jobs"]),
            environment.get("gpu"),
            float(environment.get("processor_share", 1.0)),  # an older version did not measure it
        )

    def slower_than(self, other: Machine) -> float:
        """How many times as long this machine takes for the same work."""
        return self.calibration_seconds / other.calibration_seconds

    def why_incomparable(self, other: Machine) -> str | None:
        """Why no factor makes times on the wall clock here comparable with those of ``other``; None if one does."""
        for machine, which in ((self, "here"), (other, "for the baseline")):
            if machine.busy:
                return f"other work left {machine.processor_share:.0%} of the processor {which}"
        return self.differs_from(other)

    def differs_from(self, other: Machine) -> str | None:
        """What differs between the machines that no factor makes up for; None if nothing does.

        The calibration workload runs on one thread of the processor: it knows nothing of threads, processes and GPUs.
        """
        for name, word in {"threads": "threads", "jobs": "jobs", "gpu": "GPU"}.items():
            here, there = getattr(self, name), getattr(other, name)
            if here != there:
                return f"{word}: {here or 'none'} here, {there or 'none'} in the baseline"
        return None
