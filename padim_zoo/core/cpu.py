"""Which processor this is, and how many there are."""

from __future__ import annotations

import functools
import os


@functools.cache
def processor_name() -> str:
    """The processor by its maker's name, or what the platform knows of it."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def usable_processors() -> int:
    """Processors that this process may use."""
    # Unlike cpu_count, the affinity respects the limits of containers and of taskset.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
