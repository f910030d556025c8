"""The executor that a suite asks for."""

from __future__ import annotations

from padim_zoo.bench.executors.executor import Executor
from padim_zoo.bench.executors.processes import ProcessExecutor
from padim_zoo.bench.executors.recorder import Recorder
from padim_zoo.bench.executors.serial import SerialExecutor
from padim_zoo.bench.runner import Runner
from padim_zoo.bench.suite import Suite


def make_executor(suite: Suite, recorder: Recorder) -> Executor:
    """Processes where the suite has several jobs, else this one."""
    return ProcessExecutor(suite, recorder) if suite.jobs > 1 else SerialExecutor(Runner(suite), recorder)
