"""How much memory this process may still take: what the machine has free, and what its control groups leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def free_memory() -> int:
    """Bytes that can be taken without swapping, or being killed for it.

    psutil knows the machine, but not the limit of a container or a job.
    """
    return max(0, min([int(psutil.virtual_memory().available), *_left_in_groups()]))


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
    if not isinstance(error, RuntimeError):
        return False
    import torch

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
