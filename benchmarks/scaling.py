"""What a cluster costs: milliseconds for each task, and how busy workers are.

    python benchmarks/scaling.py

Three parts, of which ``--parts`` does some: ``overhead`` of empty groups, with the store's time beside it;
``efficiency`` of two one-thread workers against ``--jobs 2``, in pairs; and ``simulation`` of 64 workers on the plan of
``--suite paper`` with MVTec's image counts and random weights, from the processor time of tasks measured here. The two
others take a minute each where nothing else runs.
"""

from __future__ import annotations

import heapq
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from queue import Queue
from statistics import median
from typing import Any, NamedTuple

import psutil
import torch
from script_options import Parser, whole

from padim_zoo import registry
from padim_zoo.bench.build import create_detector
from padim_zoo.bench.executors.cluster import connect
from padim_zoo.bench.executors.messages import Reply, suite_to_json
from padim_zoo.bench.executors.task import run_group
from padim_zoo.bench.executors.versions import describe_versions
from padim_zoo.bench.plan import groups, make_plan
from padim_zoo.bench.run import Run, RunConfig
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.shard import split_groups
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite, preset_settings
from padim_zoo.data.synthetic import generate

WINDOW = 8
"""Groups on their way to two workers."""
_LOOKS = 10
"""How often the memory is looked at."""
WORKERS = 64
MEASURED = (4, 12)
"""Images of the two fits that are measured of each detector; those of larger ones are counted up from these."""
NEIGHBORS = 50
"""Images that a prediction of ``spade`` searches; those of the larger fit are fewer."""
LATENCY = 36
"""Images that a run predicts to measure its latency: alone twice, 32 at a time once, and one before either."""
GRIDS = (0,), (0, 1, 2, 3)
"""Seeds of a small grid and of a large one."""
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

        def arrive(future: Any, outcome: Any) -> None:
            ended.put((future, outcome))

        sent = received = 0
        while received < count:
            batch = min(WINDOW - (sent - received), count - sent)
            if batch:  # what is free goes together, as in a benchmark
                requests, topics = [request] * batch, ["topic"] * batch
                for future in cluster.client.map(run_group, requests, topics, pure=False):
                    cluster.follow(future, partial(arrive, future))
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
    """Two grids by ``--jobs 2`` and by two workers of one thread, one after the other.

    How much longer the larger grid takes is what work costs, without the start. Images are small, so that the part ends
    in minutes: tasks of half a second show more of what a cluster costs than usual ones.
    """
    generate(folder / "images", categories=CATEGORIES, train=24, good=5, defects_per_kind=1, size=128)
    ratios: dict[str, list[float]] = {}
    for pair in range(pairs):
        took: dict[str, list[float]] = {"pool": [], "cluster": []}
        for seeds in GRIDS:
            for name in ("pool", "cluster") if pair % 2 else ("cluster", "pool"):
                suite = Suite(data_root=folder / "images", backbones=("builtin",), estimators=("full", "ledoit-wolf"),
                              seeds=seeds, folds=3, resize="128", crop="128", cache=False, jobs=2,
                              output=folder / f"{name}-{pair}-{len(seeds)}",
                              cluster="local" if name == "cluster" else None)  # fmt: skip
                plan, store = make_plan(suite), RunStore(suite.output)
                began = time.perf_counter()
                for event in execute(suite, find_missing(plan, store), store, lambda text: None):
                    if event.document is not None:
                        assert event.document["status"] == "done", event.document["error"]
                took[name].append(time.perf_counter() - began)
            seconds = {name: each[-1] for name, each in took.items()}
            ratios.setdefault(f"of {len(plan)} runs with their start", []).append(seconds["pool"] / seconds["cluster"])
            print(f"{len(plan)} runs: {seconds['pool']:.1f} s with --jobs 2, {seconds['cluster']:.1f} s on two "
                  f"workers; {_load()}", flush=True)  # fmt: skip
        pool, cluster = (each[-1] - each[0] for each in took.values())
        ratios.setdefault("without the start", []).append(pool / cluster)
    for what, values in ratios.items():
        print(f"efficiency {what}: {median(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})")


class Cost(NamedTuple):
    """Processor seconds of a run: of a fit on no images, and of each image to fit and to test."""

    start: float
    of_train: float
    of_test: float

    def seconds(self, normal: int, test: int) -> float:
        """Of a run on so many images."""
        return self.start + self.of_train * normal + self.of_test * (test + LATENCY)


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
        normal, test = IMAGES[str(task[0].config.category)]
        each = [costs[str(run.config.backbone), str(run.config.detector)] for run in task]
        times.append(sum(cost.seconds(normal, test) for cost in each))
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


def _measure(folder: Path, suite: Suite, backbone: str, detector: str) -> Cost:
    """A fit on two numbers of images makes a line; a prediction of some is that of all in proportion.

    A prediction of ``spade`` grows with the images that it searches, as far as these go. Fits of ``patchcore`` grow
    faster than by a line, so their real share is larger.
    """
    one = suite.replace(dataset="synthetic", data_root=_images(folder), categories=("gear",), backbones=(backbone,),
                        detectors=(detector,), weights=("none",), cache=False)  # fmt: skip
    [run] = make_plan(one).runs
    network = registry.backbones.create(backbone, layers=run.config.layers, weights="none")
    paths = sorted((folder / "images" / "gear" / "train" / "good").glob("*.png"))
    seconds = []
    for count in (2, *MEASURED):  # the first one warms up
        model = create_detector(one, run, network)
        model.cache = False
        began = time.process_time()
        model.fit(paths[:count])
        model.size_in_bytes()  # estimation may be put off until it is asked
        seconds.append(time.process_time() - began)
    model.predict(paths[:1])
    began = time.process_time()
    model.predict(paths[: MEASURED[0]])
    of_test = (time.process_time() - began) / MEASURED[0]
    if detector == "spade":
        of_test *= NEIGHBORS / MEASURED[1]
    of_train = max(0.0, seconds[-1] - seconds[-2]) / (MEASURED[1] - MEASURED[0])
    cost = Cost(max(0.0, seconds[-1] - of_train * MEASURED[1]), of_train, of_test)
    print(f"{backbone}, {detector}: {cost.start:.1f} s, and {cost.of_train:.2f} s for each image to fit and "
          f"{cost.of_test:.2f} s to test", flush=True)  # fmt: skip
    return cost


def _images(folder: Path) -> Path:
    root = folder / "images"
    if not root.exists():
        generate(root, categories=["gear"], train=MEASURED[1], good=1, defects_per_kind=1, size=256)
    return root


def main() -> None:
    parser = Parser(description="What a cluster costs.")
    parser.add_argument("--tasks", type=whole(), default=10_000)
    parser.add_argument("--pairs", type=whole(), default=3)
    parts = ["overhead", "efficiency", "simulation"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
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
