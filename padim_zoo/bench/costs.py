"""The COSTS table: one row per cost of a run, from which leaderboard, tables, report and check take what they show."""

from __future__ import annotations

from dataclasses import dataclass

from padim_zoo.export.suffixes import RUNTIMES


@dataclass(frozen=True)
class Cost:
    """A time or a size, of which less is better.

    Attributes
    ----------
    name : str
        Its column in the leaderboard, and its key in documents.
    heading : str
        In two lines.
    unit : str
    floor : float
        Growth that is never held against a run, because a scheduler or an allocator causes it.
    main : bool
        Shown by default, where there is no room for all.
    help : str
        What is counted, for the reader of a report.
    """

    name: str
    heading: str
    unit: str
    floor: float
    main: bool = True
    help: str = ""

    @property
    def is_time(self) -> bool:
        """Whether it depends on the speed of the machine."""
        return self.unit != "MB"


def runtime_column(runtime: str) -> str:
    """The cost that is a runtime's latency at batch 1."""
    return f"ms_per_image_b1_{runtime}"


IN_RUNTIMES = tuple(map(runtime_column, RUNTIMES))
"""Latency of the exported detector, where it was asked for."""

_PEAK = (
    "highest resident memory of the whole process while this run fits and scores the test images; what the process "
    "takes to extract features, to share folds, to time images and to draw is not counted, nor the memory of a GPU"
)

_ROWS = (
    Cost("fit_seconds", "fit\ns", "s", 0.1),
    Cost("ms_per_image_b1", "ms/image\nbatch 1", "ms", 1.0),
    Cost("ms_per_image_b32", "ms/image\nbatch 32", "ms", 0.5, main=False),
    *(Cost(runtime_column(name), f"ms/image\n{name}", "ms", 1.0, main=False) for name in RUNTIMES),
    Cost("model_mb", "model\nMB", "MB", 0.1),
    Cost("peak_memory_mb", "peak\nMB", "MB", 64.0, help=_PEAK),
)

COSTS = {cost.name: cost for cost in _ROWS}
"""All costs by their names."""

MAIN_COSTS = tuple(cost.name for cost in _ROWS if cost.main)
