"""What a worker of a cluster does: one group of runs, from JSON to the files of each run."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker
from distributed.comm.addressing import get_address_host

from padim_zoo import registry
from padim_zoo.backbones.device import has_fast_bfloat16, resolve_device
from padim_zoo.bench.environment import describe_environment
from padim_zoo.bench.executors.executor import arrays_of, describe
from padim_zoo.bench.executors.messages import DATA_ROOT, Files, Reply, hash_of_text, runs_from_json
from padim_zoo.bench.executors.versions import describe_versions, difference
from padim_zoo.bench.run import Run
from padim_zoo.bench.runner import Runner
from padim_zoo.bench.store import encode_run
from padim_zoo.bench.suite import Suite
from padim_zoo.core.cpu import usable_processors
from padim_zoo.core.environment_variables import environment_set
from padim_zoo.core.errors import InputError
from padim_zoo.core.precision import VARIABLE as PRECISION_VARIABLE
from padim_zoo.core.spill import keep_freed_memory
from padim_zoo.data.pixel_limit import pixels_limited
from padim_zoo.registry.plugins import Plugin
from padim_zoo.runtimes.runtime import VARIABLE

ONE_AT_A_TIME = threading.Lock()


@dataclass
class _Loaded:
    """What a worker process keeps from one task to the next: plugins, and a runner or a detector made with them."""

    plugins: tuple[Plugin, ...] = ()
    texts: Sequence[Sequence[str]] = ()
    made_of: str = ""
    made: Any = None

    def use_plugins(self, texts: Sequence[Sequence[str]]) -> None:
        """Load the plugins of a client, and take back those of others."""
        if texts != self.texts:
            self.made_of, self.texts = "", ()
            for plugin in reversed(self.plugins):
                plugin.take_back()
            self.plugins = ()
            for name, text in texts:
                self.plugins += (_load_text(name, text),)
            self.texts = texts

    def get(self, settings: dict[str, Any], make: Callable[[dict[str, Any]], Any]) -> Any:
        """What was made of settings, if it is the last that was made; else another."""
        made_of = json.dumps([make.__qualname__, settings])
        if made_of != self.made_of:
            self.made_of, self.made = "", None  # before there are two
            self.made = make(settings)
            self.made_of = made_of
        return self.made


LOADED = _Loaded()


def run_group(request: str, in_flight: str) -> tuple[str, list[tuple[str, Files]]]:
    """Do a group of runs; one at a time in a process, however many threads it has.

    Parameters
    ----------
    request : str
        JSON, as :class:`~padim_zoo.bench.executors.dask.DaskExecutor` writes it.
    in_flight : str
        The topic to tell which run begins.

    Returns
    -------
    A message of :class:`~padim_zoo.bench.executors.messages.Reply`.
    """
    asked = json.loads(request)
    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        """Whether the client still waits: not if it dropped the task, or is gone."""
        state = worker.state.tasks.get(key)
        return state is not None and state.state != "cancelled"

    def tell(run: Run) -> None:
        worker.log_event(in_flight, run.id)

    with ONE_AT_A_TIME:
        host = get_address_host(worker.address)
        reply = reply_to(asked, asked["workers_by_host"].get(host, 1), is_wanted, tell)
    if reply.refusal is not None:
        reply = Reply(f"the worker {worker.address} refuses: {reply.refusal}", reply.manifest)
    return reply.to_message()


def reply_to(
    asked: dict[str, Any], workers_here: int, is_wanted: Callable[[], bool], tell: Callable[[Run], object]
) -> Reply:
    """Do what a request asks for, as one of some workers on this machine; between two runs, look if it is wanted."""
    differing = difference(asked["versions"], describe_versions())
    if differing is not None:
        return Reply(f"its versions differ, {differing}")
    runs = runs_from_json(asked["runs"])
    if not runs:
        return Reply()
    try:
        resolved = asked["precision"], asked["runtime"], asked["suite"]["device"]
        with _resolved_by_client(*resolved), ExitStack() as stack:
            LOADED.use_plugins(asked["plugins"])
            runner = LOADED.get(asked["suite"], _own_runner)
            stack.enter_context(pixels_limited(runner.suite.max_pixels))
            category = runner.dataset.load(runs[0].config.category)
            if category.fingerprint() != runs[0].config.data:
                return Reply("its copy of the data differs", [list(line) for line in category.manifest()])
            if runner.suite.roi is not None:
                _check_region(runner.suite.roi, runs[0])
            return Reply(recorded=list(_do(runner, runs, workers_here, is_wanted, tell)))
    except InputError as error:
        return Reply(str(error))


def _do(
    runner: Runner, runs: Sequence[Run], workers_here: int, is_wanted: Callable[[], bool], tell: Callable[[Run], object]
) -> Iterator[tuple[str, Files]]:
    threads = undo_settings_of_nanny(workers_here)
    environment = {**describe_environment(workers_here), "threads": threads}
    do = runner.open_group(runs)
    for run in runs:
        if not is_wanted():
            return
        tell(run)
        outcome = do(run)
        yield run.id, encode_run(describe(run, outcome, environment), *arrays_of(outcome))


def undo_settings_of_nanny(workers_here: int) -> int:
    """Take the threads that are the share of one of some workers, and memory as any process does; the threads.

    The nanny of a Dask worker has set one thread, and an allocator that gives all memory back at once.
    """
    threads = max(1, usable_processors() // workers_here)
    torch.set_num_threads(threads)
    keep_freed_memory()
    return threads


def _resolved_by_client(precision: str | None, runtime: str, device: str) -> AbstractContextManager[None]:
    """Let ``auto`` and what is not said stand for what they stand for where the client is.

    Parameters
    ----------
    precision : str or None
        None where the client names one.
    runtime : str
        Where a run names none.
    device : str

    Raises
    ------
    InputError
        If this worker would emulate the precision.
    """
    if precision == "bfloat16" and not has_fast_bfloat16(resolve_device(device)):
        raise InputError("it has no fast bfloat16, which the client's precision auto stands for: give a precision")
    asked = {VARIABLE: runtime} | ({} if precision is None else {PRECISION_VARIABLE: precision})
    return environment_set(asked)


def _own_runner(values: dict[str, Any]) -> Runner:
    """The runner of a suite, with this worker's own data folder."""
    root = os.environ.get(DATA_ROOT)
    return Runner(Suite(**{**values, "data_root": root} if root and values["data_root"] is not None else values))


def _check_region(path: Path, run: Run) -> None:
    from padim_zoo.data.roi import RegionOfInterest

    if RegionOfInterest(path).fingerprint() != run.config.roi:
        raise InputError(f"its region of interest {path} differs: expected that of the client")


def _load_text(name: str, text: str) -> Plugin:
    """Load a plugin that came as text, from a file under its hash."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / hash_of_text(text) / name
        path.parent.mkdir()
        path.write_bytes(text.encode())
        return registry.load_plugin(path)
