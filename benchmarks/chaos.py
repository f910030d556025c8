"""Kill workers, the scheduler or the client of a cluster at random moments, and see what is lost.

    python benchmarks/chaos.py --kills 50

Starts a Dask scheduler and two workers on this machine, and a benchmark on them. Whatever is killed is started again,
until as many kills are done and all runs are recorded. Each kill waits for a run to be recorded since the last one.
Processes are forked from one that has imported all, so that they are up again within a second.
After ``--minutes`` nothing more is killed.

Then the store is compared with that of one process. It fails if a score differs, a row is lost, or more was done again
than was in flight.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from script_options import Parser, above, whole

from padim_zoo import registry
from padim_zoo.bench.plan import Plan, groups, make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite

TOYS = Path(__file__).parents[1] / "tests" / "bench" / "toy_zoo.py"
IMPORTED = ["padim_zoo.cli.main", "padim_zoo.bench.executors.dask", "padim_zoo.bench.executors.task", "dask.__main__"]
PORT = 18786
MOST_SECONDS = 3.0
"""After a run is recorded, until something is killed."""
IN_FLIGHT = 8
"""Groups: four for each of two workers."""


class Processes:
    """The scheduler, two workers and the client, each started again when it is gone."""

    def __init__(self, folder: Path, words: list[str]) -> None:
        scheduler = ["dask", "scheduler", "--host", "tcp://127.0.0.1", "--port", str(PORT), "--no-dashboard"]
        worker = ["dask", "worker", f"tcp://127.0.0.1:{PORT}", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        worker += ["--local-directory", str(folder)]
        client = ["padim-zoo", "bench", *words, "--cluster", f"tcp://127.0.0.1:{PORT}"]
        self.commands = {"scheduler": scheduler, "worker 1": worker, "worker 2": worker, "client": client}
        self.log = folder / "log"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(IMPORTED)
        self.running: dict[str, multiprocessing.process.BaseProcess] = {}

    def revive(self) -> None:
        """Start what is not there."""
        for name, command in self.commands.items():
            process = self.running.get(name)
            if process is None or not process.is_alive():
                self.running[name] = self.context.Process(target=run_command, args=(command, self.log))
                self.running[name].start()
                if name == "scheduler":
                    time.sleep(1.0)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].join()

    def end(self) -> None:
        for name in self.running:
            self.kill(name)


def run_command(command: list[str], log: Path) -> None:
    """Be a command line, with a log for what it prints."""
    from dask.__main__ import main as dask

    from padim_zoo.cli.main import main as padim_zoo

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = command
    if command[0] == "dask":
        dask()
    else:
        padim_zoo()


def main() -> None:
    parser = Parser(description="Kill parts of a cluster at random, and see what is lost.")
    parser.add_argument("--kills", type=whole(), default=50)
    parser.add_argument("--minutes", type=above(0), default=60, help="of killing, at most")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--categories", type=whole(), default=80, help="of eight runs each")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sys.exit(run(asked, Path(name)))


def run(asked: argparse.Namespace, folder: Path) -> int:
    registry.load_plugin(TOYS)
    toys = sys.modules["padim_zoo_plugin_toy_zoo"]
    images = toys.make_images(folder / "images", [f"part-{number:03d}" for number in range(asked.categories)])
    fits = folder / "fits"
    words = ["--dataset", "mvtec", "--data-root", str(images), "--detectors", "toy", "--backbones", "toy-linear"]
    words += ["--estimators", "full,tied", "--seeds", "0,1,2,3", "--resize", "none", "--crop", "none", "--no-gallery"]
    words += ["--plugin", str(TOYS), "--output", str(folder / "runs"), "--quiet"]
    suite = Suite(
        dataset="mvtec", data_root=images, detectors=("toy",), backbones=("toy-linear",), estimators=("full", "tied"),
        seeds=(0, 1, 2, 3), resize=None, crop=None, gallery=False, output=folder / "serial",
    )  # fmt: skip
    plan, serial = make_plan(suite), RunStore(suite.output)
    for _ in execute(suite, find_missing(plan, serial), serial):
        pass

    os.environ |= {"TOY_LOG": str(fits), "TOY_DELAY": "0.3"}
    processes, store, chance = Processes(folder, words), RunStore(folder / "runs"), random.Random(asked.seed)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    try:
        recorded = 0
        while recorded < len(plan):
            processes.revive()
            time.sleep(0.2)
            before, recorded = recorded, len(find_missing(plan, store).done)
            late = time.monotonic() - began > 60 * asked.minutes
            if recorded == before or late or counts.total() >= asked.kills:
                continue
            time.sleep(chance.uniform(0, MOST_SECONDS))
            victim = chance.choice(["worker 1", "worker 2", "worker 1", "worker 2", "scheduler", "client"])
            processes.kill(victim)
            counts[victim.split()[0]] += 1
            recorded = len(find_missing(plan, store).done)
            seconds = time.monotonic() - began
            print(f"{seconds:6.0f} s  killed {victim}, {recorded} of {len(plan)} runs are done", flush=True)
    finally:
        processes.end()
    return judge(plan, serial, store, fits, counts)


def judge(plan: Plan, serial: RunStore, store: RunStore, fits: Path, counts: Counter[str]) -> int:
    """Compare the stores, and tell."""
    contents = store.read_all()
    runs = [run.id for run in plan]
    lost = set(runs) - {document["id"] for document in contents.documents}
    different = [
        run_id
        for run_id in set(runs) - lost
        if {name: array.tobytes() for name, array in serial.scores(run_id).items()}
        != {name: array.tobytes() for name, array in store.scores(run_id).items()}
    ]
    failed = sum(document["status"] == "failed" for document in contents.documents)
    again = sum(line.startswith("fit ") for line in fits.read_text().splitlines()) - len(runs)
    per_group = max(len(group) for group in groups(plan))
    most = counts.total() * IN_FLIGHT * per_group
    print(f"kills: {', '.join(f'{count} of the {name}' for name, count in sorted(counts.items()))}")
    print(f"rows: {len(runs)}, lost {len(lost)}, damaged {len(contents.problems)}, failed {failed}")
    print(f"scores that differ from one process: {len(different)}")
    print(f"runs done again: {again}, at most {most} were in flight")
    return int(bool(lost or different or contents.problems or failed or again > most))


if __name__ == "__main__":
    main()
