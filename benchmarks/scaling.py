"""What a cluster costs: milliseconds for each task, and how busy workers are.

    python benchmarks/scaling.py

Three parts, of which ``--parts`` does some: ``overhead`` of empty groups, with the store's time beside it;
``efficiency`` of two one-thread workers against ``--jobs 2``, in pairs; and ``simulation`` of 64 workers on the plan of
``--suite paper`` with MVTec's image counts and random weights, from the processor time of tasks measured here.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from queue import Queue
from statistics import median
from typing import Any

import psutil
import torch

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
_LOOKS = 10
"""How often the memory is looked at."""
WORKERS = 64
MEASURED = (12, 36)
"""Images of the two runs that are measured of each detector: two thirds of them normal ones to fit on."""
CATEGORIES = ("gear", "fabric", "board", "capsule")
IMAGES = {
    "bottle": (209, 83), "cable": (224, 150), "capsule": (219, 132), "carpet": (280, 117), "grid": (264, 78),
    "hazelnut": (391, 110), "leather": (245, 124), "metal_nut": (220, 115), "pill": (267, 167), "screw": (320, 160),
    "tile": (230, 117), "toothbrush": (60, 42), "transistor": (213, 100), "wood": (247, 79), "zipper": (240, 151),
}  # fmt: skip
"""Normal and test images of MVTec AD (Bergmann et al. 2019, table 2)."""


def overhead(count: int, folder: Path) -> None:
    """Empty groups through a local cluster, as many in flight as a benchmark has; and the store alone."""
    request = json.dumps({"versions": describe_versions(), "runs": [], "suite": suite_to_json(Suite()), "plugins": [],
                          "precision": None, "workers_by_host": {}})  # fmt: skip
    with connect("local", insecure=False, jobs=2, note=lambda text: None) as cluster:
        client = psutil.Process()
        cpu, began = _processor_seconds(client), time.perf_counter()
        resident: list[float] = []
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
                if received % max(1, count // _LOOKS) == 0:
                    resident.append(client.memory_info().rss / 1e6)
        seconds, busy = time.perf_counter() - began, _processor_seconds(client) - cpu
    print(f"{count} empty groups: {1000 * seconds / count:.2f} ms each, of these {1000 * busy / count:.2f} ms of "
          f"processor time of client and scheduler; {_load()}")  # fmt: skip
    print(f"they took, in MB, after each {100 // _LOOKS} % of the groups: "
          f"{', '.join(f'{megabytes:.0f}' for megabytes in resident)}")  # fmt: skip
    store = RunStore(folder / "store")
    store.folder.mkdir()
    document = {".safetensors": bytes(20_000), ".json": b'"' + bytes(4_000).replace(b"\0", b" ") + b'"'}
    began = time.perf_counter()
    for number in range(200):
        store.write_files(f"{number:016x}", document)
    print(f"the store: {1000 * (time.perf_counter() - began) / 200:.2f} ms for each run")


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _load() -> str:
    return f"the load of the machine is {psutil.getloadavg()[0]:.1f}"


def efficiency(folder: Path, pairs: int) -> None:
    """The same grid by ``--jobs 2`` and by two workers of one thread, one after the other.

    The quotient of times is what counts, on a quiet machine. The quotient of processor times hears less of others.
    """
    generate(folder / "images", categories=CATEGORIES, train=24, good=5, defects_per_kind=1, size=128)
    ratios: dict[str, list[float]] = {}
    for pair in range(pairs):
        took = {}
        for name in ("pool", "cluster") if pair % 2 else ("cluster", "pool"):
            suite = Suite(data_root=folder / "images", backbones=("builtin",), estimators=("full", "ledoit-wolf"),
                          seeds=(0, 1), folds=3, resize="128", crop="128", cache=False, jobs=2,
                          output=folder / f"{name}-{pair}", cluster="local" if name == "cluster" else None)  # fmt: skip
            plan, store = make_plan(suite), RunStore(suite.output)
            times = [(time.perf_counter(), _seconds_of_all())]
            for event in execute(suite, find_missing(plan, store), store, lambda text: None):
                if event.document is not None:
                    assert event.document["status"] == "done", event.document["error"]
                    times.append((time.perf_counter(), _seconds_of_all()))
            took[name] = times[0], times[1], times[-1]
        for what, first in (("with their start", 0), ("from the first run that is recorded to the last", 1)):
            for number, kind in enumerate(("time", "processor time")):
                pool, cluster = (took[name][2][number] - took[name][first][number] for name in ("pool", "cluster"))
                ratios.setdefault(f"{kind}, {what}", []).append(pool / cluster)
                print(f"{len(plan)} runs, {kind}, {what}: {pool:.1f} s with --jobs 2, {cluster:.1f} s on two workers; "
                      f"{_load()}", flush=True)  # fmt: skip
    for what, values in ratios.items():
        print(f"efficiency, {what}: {median(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})")


def _seconds_of_all() -> float:
    """Processor seconds of this process and of those that it has started and that are still there."""
    process, seconds = psutil.Process(), 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            seconds += _processor_seconds(each)
    return seconds


def simulate(folder: Path) -> None:
    """The plan of ``--suite paper`` on 64 workers: each takes the next task."""
    suite = Suite(**{key.replace("-", "_"): value for key, value in preset_settings("paper").items()})
    costs = {(backbone, detector): _measure(folder, suite, backbone, detector)
             for backbone in suite.backbones for detector in suite.detectors}  # fmt: skip
    runs = [
        Run(RunConfig(dataset="mvtec", category=category, detector=detector, backbone=backbone, estimator=estimator,
                      seed=seed, folds=suite.folds, data="0"))
        for backbone in suite.backbones for category in IMAGES for seed in suite.seeds
        for detector in suite.detectors for estimator in suite.estimators
    ]  # fmt: skip
    tasks = split_groups(groups(runs), WORKERS, 2)
    times = []
    for task in tasks:
        images = sum(IMAGES[str(task[0].config.category)])
        each = [costs[str(run.config.backbone), str(run.config.detector)] for run in task]
        times.append(sum(start + per_image * images for start, per_image in each))
    free = [0.0] * WORKERS
    for seconds in times:
        heapq.heapreplace(free, free[0] + seconds)
    makespan, longest, share = max(free), max(times), sum(times) / WORKERS
    first = tasks[times.index(longest)][0].config
    print(f"simulated, {len(runs)} runs in {len(tasks)} tasks on {WORKERS} workers: {makespan:.0f} s; one worker: "
          f"{sum(times):.0f} s, a share of {share:.0f} s; the longest task: {longest:.0f} s ({first.category}, "
          f"{first.backbone}, {first.detector})")  # fmt: skip
    print(f"{makespan / max(longest, share):.2f} times the critical path; the limit is "
          f"{'the longest task' if longest >= share else 'the sum of all work'}")  # fmt: skip


def _measure(folder: Path, suite: Suite, backbone: str, detector: str) -> tuple[float, float]:
    """Processor seconds of a run on no images, and for each image: a line through two runs.

    The coreset of ``patchcore`` grows faster than by a line, so its real share is larger.
    """
    seconds = []
    for count in MEASURED:
        root = folder / f"images-{count}"
        if not root.exists():
            generate(root, categories=["gear"], train=2 * count // 3, good=count // 3, defects_per_kind=0, size=256)
        output = folder / f"{backbone}-{detector}-{count}"
        one = suite.replace(dataset="synthetic", data_root=root, backbones=(backbone,), detectors=(detector,),
                            weights=("none",), cache=False, output=output)  # fmt: skip
        plan, store = make_plan(one), RunStore(output)
        began = time.process_time()
        for event in execute(one, find_missing(plan, store), store):
            if event.document is not None:
                assert event.document["status"] == "done", event.document["error"]
        seconds.append(time.process_time() - began)
    per_image = max(0.0, seconds[1] - seconds[0]) / (MEASURED[1] - MEASURED[0])
    print(f"{backbone}, {detector}: {seconds[0]:.1f} s for {MEASURED[0]} images, {seconds[1]:.1f} s for "
          f"{MEASURED[1]}", flush=True)  # fmt: skip
    return seconds[1] - per_image * MEASURED[1], per_image


def main() -> None:
    parser = argparse.ArgumentParser(description="What a cluster costs.")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["overhead", "efficiency", "simulation"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if "overhead" in asked.parts:
            overhead(asked.tasks, Path(name))
        if "efficiency" in asked.parts:
            efficiency(Path(name), asked.pairs)
        if "simulation" in asked.parts:
            torch.set_num_threads(1)
            simulate(Path(name))


if __name__ == "__main__":
    main()
