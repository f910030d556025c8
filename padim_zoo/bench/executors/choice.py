"""The executor that a suite asks for."""

from __future__ import annotations

from padim_zoo.bench.executors.cluster import Note
from padim_zoo.bench.executors.executor import Executor
from padim_zoo.bench.executors.processes import ProcessExecutor
from padim_zoo.bench.executors.recorder import Recorder
from padim_zoo.bench.executors.serial import SerialExecutor
from padim_zoo.bench.runner import Runner
from padim_zoo.bench.suite import Suite
from padim_zoo.core.errors import needs_extra


def make_executor(suite: Suite, recorder: Recorder, note: Note) -> Executor:
    """A cluster where the suite names one, processes where it has several jobs, else this process.

    Parameters
    ----------
    suite : Suite
    recorder : Recorder
    note : callable
        Is told what there is to say of a cluster.

    Raises
    ------
    InputError
        If a cluster is named and Dask is not installed.
    """
    if suite.cluster is not None:
        with needs_extra("dask", "--cluster"):
            from padim_zoo.bench.executors.dask import DaskExecutor
        return DaskExecutor(suite, recorder, note)
    return ProcessExecutor(suite, recorder) if suite.jobs > 1 else SerialExecutor(Runner(suite), recorder)
