"""What a cluster costs: milliseconds for each task, and how busy workers are.

    python benchmarks/scaling.py

Three parts: the overhead of empty groups, with the store's time beside it; two one-thread workers against ``--jobs 2``;
and 64 workers on the plan of ``--suite paper`` with MVTec's image counts, simulated from task times measured here.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
import time
from pathlib import Path
from queue import Queue
from typing import Any

import psutil

from padim_zoo.bench.executors.cluster import connect
from padim_zoo.bench.executors.messages import Reply, suite_to_json
from padim_zoo.bench.executors.split_groups import split_groups
from padim_zoo.bench.executors.task import run_group
from padim_zoo.bench.executors.versions import describe_versions
from padim_zoo.bench.plan import groups, make_plan
from padim_zoo.bench.run import Run, RunConfig
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite, preset_settings
from padim_zoo.data.synthetic import generate

WINDOW = 8
"""Groups on their way to two workers."""
WORKERS = 64
IMAGES = {
    "bottle": (209, 83), "cable": (224, 150), "capsule": (219, 132), "carpet": (280, 117), "grid": (264, 78),
    "hazelnut": (391, 110), "leather": (245, 124), "metal_nut": (220, 115), "pill": (267, 167), "screw": (320, 160),
    "tile": (230, 117), "toothbrush": (60, 42), "transistor": (213, 100), "wood": (247, 79), "zipper": (240, 151),
}  # fmt: skip
"""Normal and test images of MVTec AD (Bergmann et al. 2019, table 2)."""


def overhead(count: int, document: dict[str, bytes], folder: Path) -> None:
    """Empty groups through a local cluster, as many in flight as a benchmark has; and the store alone."""
    request = json.dumps({"versions": describe_versions(), "runs": [], "suite": suite_to_json(Suite()), "plugins": [],
                          "precision": None, "workers_by_host": {}})  # fmt: skip
    with connect("local", insecure=False, jobs=2, note=lambda text: None) as cluster:
        client = psutil.Process()
        before, cpu, began = client.memory_info().rss, _processor_seconds(client), time.perf_counter()
        ended: Queue[tuple[Any, Any]] = Queue()
        sent = received = 0
        while received < count:
            batch = min(WINDOW - (sent - received), count - sent)
            if batch:  # what is free goes together, as in a benchmark
                requests, topics = [request] * batch, ["topic"] * batch
                for future in cluster.client.map(run_group, requests, topics, pure=False):
                    cluster.follow(future, lambda outcome, future=future: ended.put((future, outcome)))
                sent += batch
            for future, outcome in [ended.get(), *(ended.get_nowait() for _ in range(ended.qsize()))]:
                Reply.from_message(outcome)
                future.release()
                received += 1
        seconds, busy = time.perf_counter() - began, _processor_seconds(client) - cpu
        grown = client.memory_info().rss - before
    print(f"{count} empty groups: {1000 * seconds / count:.2f} ms each, of these {1000 * busy / count:.2f} ms of "
          f"processor time of client and scheduler; these grew by {grown / 1e6:.0f} MB; {_load()}")  # fmt: skip
    store = RunStore(folder / "store")
    store.folder.mkdir()
    began = time.perf_counter()
    for number in range(200):
        store.write_files(f"{number:016x}", document)
    print(f"the store: {1000 * (time.perf_counter() - began) / 200:.2f} ms for each run")


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _load() -> str:
    return f"the load of the machine is {psutil.getloadavg()[0]:.1f}"


def efficiency(folder: Path) -> dict[str, bytes]:
    """The same grid by ``--jobs 2`` and by two workers of one thread, twice each; the files of one run."""
    generate(folder / "images", categories=["gear", "fabric", "board", "capsule"], train=60, good=10, size=256)
    seconds: dict[str, list[float]] = {"--jobs 2": [], "--cluster local": []}
    for repeat in range(2):
        for name, settings in (("--jobs 2", {"jobs": 2}), ("--cluster local", {"jobs": 2, "cluster": "local"})):
            output = folder / f"{name.strip('-').replace(' ', '')}-{repeat}"
            suite = Suite(data_root=folder / "images", backbones=("builtin",), estimators=("full", "ledoit-wolf"),
                          folds=3, cache=False, output=output, **settings)  # fmt: skip
            plan, store = make_plan(suite), RunStore(output)
            began = time.perf_counter()
            for _ in execute(suite, find_missing(plan, store), store, lambda text: None):
                pass
            seconds[name].append(time.perf_counter() - began)
    pool, cluster = min(seconds["--jobs 2"]), min(seconds["--cluster local"])
    print(f"{len(plan)} runs: {pool:.1f} s with --jobs 2, {cluster:.1f} s on two workers, both with their start: "
          f"efficiency {pool / cluster:.2f}")  # fmt: skip
    run = next(iter(plan))
    return {suffix: (store.folder / f"{run.id}{suffix}").read_bytes() for suffix in (".safetensors", ".json")}


def simulate(folder: Path) -> None:
    """The plan of ``--suite paper`` on 64 workers: each takes the next task; image costs are measured here."""
    extract, fit = _seconds_per_image(folder)
    settings: dict[str, Any] = {key.replace("-", "_"): value for key, value in preset_settings("paper").items()}
    suite = Suite(**settings)
    runs = [
        Run(RunConfig(dataset="mvtec", category=category, detector=detector, backbone=backbone, estimator=estimator,
                      seed=seed, folds=suite.folds, data="0"))
        for backbone in suite.backbones for category in IMAGES for seed in suite.seeds
        for detector in suite.detectors for estimator in suite.estimators
    ]  # fmt: skip
    tasks = split_groups(groups(runs), WORKERS, 2)
    times = []
    for task in tasks:
        train, test = IMAGES[str(task[0].config.category)]
        times.append((train + test) * extract + sum(train * fit * max(1, run.config.folds or 1) for run in task))
    free = [0.0] * WORKERS
    for seconds in times:
        heapq.heapreplace(free, free[0] + seconds)
    makespan, bound = max(free), max(max(times), sum(times) / WORKERS)
    limit = "the longest task" if max(times) >= sum(times) / WORKERS else "the sum of all work"
    print(f"simulated, {len(runs)} runs in {len(tasks)} tasks on {WORKERS} workers: {makespan:.0f} s, at least "
          f"{bound:.0f} s ({limit}); {makespan / bound:.2f} times that; one worker: {sum(times):.0f} s")  # fmt: skip


def _seconds_per_image(folder: Path) -> tuple[float, float]:
    """Of extraction and of a fit, of the runs that :func:`efficiency` did."""
    [documents] = [RunStore(path).read_done() for path in folder.glob("jobs2-0")]
    timings = [document["timings"] for document in documents]
    n = documents[0]["n_train"]
    extract = sum(each["ms_per_image_b32"] for each in timings) / len(timings) / 1000
    return extract, max(0.0, sum(each["fit_seconds"] for each in timings) / len(timings) / n - extract)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a cluster costs.")
    parser.add_argument("--tasks", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        document = efficiency(Path(name))
        overhead(asked.tasks, document, Path(name))
        simulate(Path(name))


if __name__ == "__main__":
    main()
