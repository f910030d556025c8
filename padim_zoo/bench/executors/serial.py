"""Groups one after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from padim_zoo.bench.executors.executor import Event
from padim_zoo.bench.executors.recorder import Recorder
from padim_zoo.bench.run import Run
from padim_zoo.bench.runner import Runner


class SerialExecutor:
    """Does groups in this process.

    Parameters
    ----------
    runner : Runner
    recorder : Recorder
    """

    def __init__(self, runner: Runner, recorder: Recorder) -> None:
        self.runner = runner
        self.recorder = recorder

    def run(self, in_groups: Sequence[list[Run]]) -> Iterator[Event]:
        """Do groups of runs, in their order."""
        for group in in_groups:
            yield from self.run_group(group)

    def run_group(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Do runs of one category that have the same backbones, but for those that another process is at."""
        claims = self.recorder.claims()
        claims.take(run.id for run in runs if self.recorder.completed(run) is None)
        do = self.runner.open_group(runs)
        try:
            for run in runs:
                meanwhile = self.recorder.completed(run)
                if meanwhile is not None:  # by another process that works on the same store
                    yield Event(run, meanwhile)
                elif run.id not in claims:
                    yield Event(run, elsewhere=True)
                else:
                    yield Event(run)
                    document = self.recorder.record(run, do(run))
                    claims.release(run.id)
                    yield Event(run, document)
        finally:
            claims.release()

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""
