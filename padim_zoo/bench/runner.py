"""Does the runs of groups, one after the other; it knows no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from padim_zoo.bench.build import BackboneCache
from padim_zoo.bench.group_runner import GroupRunner
from padim_zoo.bench.run import Run
from padim_zoo.bench.run_images import contaminate
from padim_zoo.bench.run_result import RunResult
from padim_zoo.bench.suite import Suite
from padim_zoo.bench.timed_fit import LatencyMeter
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.spill import trim_heap
from padim_zoo.data.sample import Dataset
from padim_zoo.data.unreadable import explained


class Runner:
    """Does groups of runs.

    Parameters
    ----------
    suite : Suite
        Its plugins are loaded.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.dataset: Dataset = suite.open_dataset()
        self.caches = Caches.usual() if suite.cache else Caches()
        self.backbones = BackboneCache(suite.device)
        self.latency = LatencyMeter()

    def open_group(self, runs: Sequence[Run]) -> Callable[[Run], RunResult | Exception]:
        """A function that does single runs of a group, see :func:`~padim_zoo.bench.plan.groups`.

        Whatever goes wrong in one run is what comes of it, and the others go on.
        """
        opened: list[GroupRunner] = []

        def do(run: Run) -> RunResult | Exception:
            try:
                trim_heap()  # what runs of the category freed before counts for nothing in the peak memory of this one
                if not opened:
                    category = contaminate(self.dataset.load(run.config.category), run.config)
                    shared = self.backbones, self.caches, self.latency
                    opened.append(GroupRunner(self.suite, category, runs, *shared))
                return opened[0].do(run)
            except InputError as error:
                return explained(error, opened[0].paths) if opened else error
            except Exception as error:
                return error

        return do
