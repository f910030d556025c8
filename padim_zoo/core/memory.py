"""Amounts of memory: read, written, and what this process may still take."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from padim_zoo.core.errors import InputError

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    UNITS |= {f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}
FEWEST_BYTES = 10**6
"""A number of bytes below it, without a unit, was meant to have one."""


def free_memory() -> int:
    """Bytes that can be taken without swapping, or being killed for it.

    psutil knows the machine, but not the limit of a container or a job.
    """
    import psutil  # too slow for the start of every command

    return max(0, min([int(psutil.virtual_memory().available), *_left_in_groups()]))


def parse_bytes(name: str, text: str, least: int = 0) -> int:
    """Read a number of bytes: ``4GB``, ``1.5 GiB``, ``4e9``, ``0``.

    Parameters
    ----------
    name : str
        What errors call it, e.g. ``"--memory"``.
    text : str
    least : int
        The smallest number that makes sense.

    Raises
    ------
    InputError
        If the text is no such number, or a small one without a unit.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    number = float(match[1]) if match else 0.0
    if match is None or match[2] not in UNITS or not least <= number * UNITS[match[2]] < float("inf"):
        raise InputError(f"{name} is {text!r}: expected a size, e.g. 500MB or 4GB")
    if not match[2] and 0 < number < FEWEST_BYTES:
        raise InputError(f"{name} is {text}, which means bytes: write a unit, e.g. {text.strip()}GB")
    return int(number * UNITS[match[2]])


def amount(n_bytes: float) -> str:
    """A number of bytes for a message, in the unit that leaves few digits: ``3 bytes``, ``2 KB``, ``1.44 GB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes:.3g} bytes"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was refused; torch has a type of its own for it on devices only."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _left_in_groups() -> Iterator[int]:
    """What each control group around this process leaves of its limit; the kernel gives cached files back first."""
    for folder, limit, usage, cached in _groups():
        with suppress(OSError, ValueError, StopIteration):  # no such group here, or no limit ("max")
            most = int((folder / limit).read_text())
            taken = int((folder / usage).read_text())
            lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield most - taken + next(int(value) for name, value in lines if name == cached)


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = ROOT, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = ROOT / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Seen from inside a container, the path may be the host's: then the root is the container's own group.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            yield (folder, *names)
            if folder == root:
                break
