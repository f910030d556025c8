"""A real scheduler and real workers on this machine, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from padim_zoo.data.synthetic import generate

pytest.importorskip("distributed", reason="needs the extra dask")

TOYS = Path(__file__).parents[1] / "bench" / "toy_zoo.py"
ROOT = Path(__file__).parents[2]
SECONDS = 300


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """As many threads of torch as each worker has: on some processors oneDNN sums otherwise in two, by 1e-7."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


ON_ONE_PROCESSOR = """
import os, runpy, sys
number = int(sys.argv.pop(1))
if hasattr(os, "sched_setaffinity"):
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {usable[number % len(usable)]})
runpy.run_module("dask", run_name="__main__", alter_sys=True)
"""
"""Starts dask so that a worker takes one thread, however many processors there are, and however few workers."""


def dask(*words: object, log: Path, environment: Mapping[str, str], number: int = 0) -> subprocess.Popen[bytes]:
    """Start ``dask scheduler`` or ``dask worker``, each worker on a processor by its number."""
    command = [sys.executable, "-c", ON_ONE_PROCESSOR, str(number), *map(str, words), "--no-dashboard"]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environment})


@dataclass
class Cluster:
    """The processes of a cluster, and where its scheduler is."""

    folder: Path
    environment: Mapping[str, str]
    scheduler: subprocess.Popen[bytes]
    options: tuple[str, ...] = ()
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    def add_worker(self, *options: str, nanny: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        """Start one more worker of one thread."""
        own = {**self.environment, **environment}
        words = ["worker", "--scheduler-file", self.file, "--nthreads", "1", *self.options, *options]
        words += [] if nanny else ["--no-nanny"]
        words += ["--local-directory", self.folder]
        worker = dask(*words, log=self.folder / "log", environment=own, number=len(self.workers))
        self.workers.append(worker)
        return worker

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def start_cluster(folder: Path, *options: str, protocol: str = "tcp", **environment: str) -> Cluster:
    """A scheduler without workers."""
    own = {"PYTHONPATH": str(ROOT), "PADIM_ZOO_CACHE": str(folder / "cache"), **environment}
    words = [
        "scheduler",
        "--host",
        f"{protocol}://127.0.0.1",
        "--port",
        "0",
        "--scheduler-file",
        folder / "scheduler.json",
    ]
    cluster = Cluster(folder, own, dask(*words, *options, log=folder / "log", environment=own), options)
    deadline = time.monotonic() + SECONDS
    while not cluster.file.exists():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)
    return cluster


def wait_for_workers(cluster: Cluster, count: int) -> None:
    from distributed import Client

    with Client(scheduler_file=str(cluster.file), set_as_default=False) as client:
        client.wait_for_workers(count, timeout=SECONDS)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler with two workers."""
    cluster = start_cluster(tmp_path_factory.mktemp("cluster"))
    for _ in range(2):
        cluster.add_worker()
    wait_for_workers(cluster, 2)  # a command says so where there is none yet
    yield cluster
    cluster.end()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small drawn categories."""
    root = tmp_path_factory.mktemp("data") / "images"
    generate(root, categories=["gear", "fabric"], train=8, good=3, defects_per_kind=1, size=64)
    return root
