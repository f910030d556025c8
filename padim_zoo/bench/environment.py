"""Where a run took place: what a reader needs to judge its times, and to repeat it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import padim_zoo
from padim_zoo.bench.machine_speed import calibration_seconds, processor_share
from padim_zoo.core.cpu import processor_name, usable_processors
from padim_zoo.core.provenance import git


def describe_environment(jobs: int) -> dict[str, Any]:
    """The machine, the versions, and the git commit of padim_zoo when it runs from a checkout."""
    cores = usable_processors()
    return {
        "machine": platform.platform(),
        "cpu": processor_name(),
        "cores": cores,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "jobs": jobs,
        "calibration_seconds": calibration_seconds(),
        "processor_share": processor_share(min(cores, jobs * torch.get_num_threads())),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "padim_zoo": padim_zoo.__version__,
        "commit": _commit(Path(padim_zoo.__file__).parent),
    }


def _commit(folder: Path) -> str | None:
    """The commit of a folder whose files git tracks, with ``-dirty`` if they were changed since."""
    # An installed package may lie inside a checkout of something else, whose commit would say nothing.
    if git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
