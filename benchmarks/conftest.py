"""What all benchmarks share: images, features of them, and a stopwatch that a stage and a reference take turns on."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from padim_zoo import PaDiM
from padim_zoo.backbones.device import has_fast_bfloat16
from padim_zoo.bench.environment import describe_environment
from padim_zoo.features.features import Features

TRAINING, FEW, UNSEEN, SIZE = 120, 60, 32, 96
SECONDS, ROUNDS = 1.0, (5, 40)
"""How long a stage and its reference take turns, and how often at least and at most."""

NO_BFLOAT16 = "no fast bfloat16 on this processor"
PRECISIONS = [
    "float32",
    pytest.param("bfloat16", marks=pytest.mark.skipif(not has_fast_bfloat16(torch.device("cpu")), reason=NO_BFLOAT16)),
]
"""For parametrize: both precisions, one where the processor has but one."""

Beside = Callable[[Callable[[], object], Callable[[], Any], str], Any]
_skipped = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is skipped yet."""
    config.stash[_skipped] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Take note of what this machine cannot measure."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        item.config.stash[_skipped][item.nodeid] = report.longrepr[2].removeprefix("Skipped: ")
    return report


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Where ``padim-zoo check`` looks for the calibration time, measured in this process."""
    machine_info["padim_zoo"] = describe_environment(jobs=1)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Where ``padim-zoo check`` looks for what was left out, and why."""
    output_json["skipped"] = config.stash[_skipped]


def cpu_seconds() -> float:
    """Seconds that this process, and those that it has waited for, kept processors busy."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@pytest.fixture
def beside(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> Beside:
    """``beside(reference, stage, name)`` measures both in turns, prints their ratio, and gives what the stage gave.

    The ratio is that of processor times: what else runs on the machine takes turns with both, and is not counted. It is
    nearly the same on all machines, as times are not, and ``padim-zoo check`` holds it to that of the baseline. The
    table that pytest-benchmark prints is of times as a clock on the wall shows them.
    """

    def measure(reference: Callable[[], object], stage: Callable[[], Any], name: str) -> Any:
        spent: dict[str, list[float]] = {"stage": [], "reference": []}

        def timed(which: str, work: Callable[[], Any]) -> Any:
            start = cpu_seconds()
            found = work()
            spent[which].append(cpu_seconds() - start)
            return found

        def take_turn() -> None:
            timed("reference", reference)

        rounds = 1
        if not benchmark.disabled:
            for _ in range(2):  # the first call of each warms up
                start = time.perf_counter()
                reference()
                stage()
                turn = time.perf_counter() - start
                if turn > SECONDS:
                    break
            rounds = min(max(int(SECONDS / turn), ROUNDS[0] if turn < SECONDS else 3), ROUNDS[1])
        found = benchmark.pedantic(lambda: timed("stage", stage), setup=take_turn, rounds=rounds)
        if benchmark.stats is not None:
            cpu = {w: {"min": round(min(t), 7), "median": round(statistics.median(t), 7)} for w, t in spent.items()}
            ratio = cpu["stage"]["min"] / cpu["reference"]["min"]
            benchmark.extra_info |= {"cpu_seconds": cpu, "ratio": ratio}
            ours, its = (1000 * cpu[which]["min"] for which in ("stage", "reference"))
            with capsys.disabled():
                print(f"\n{benchmark.name}: {ours:.4g} ms, {name} {its:.4g} ms: × {ratio:.2f} ", end="")
        return found

    return measure


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder that begins empty, and one precision on all machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADIM_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Times in bfloat16 are no measure for machines that have none.
        patch.setenv("PADIM_ZOO_PRECISION", "float32")
        yield


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Smooth random images (TRAINING + UNSEEN, SIZE, SIZE, 3), uint8."""
    coarse = torch.rand(TRAINING + UNSEEN, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    return (255 * smooth).byte().permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(scope="session")
def unseen(images: np.ndarray) -> np.ndarray:
    """Images (UNSEEN, SIZE, SIZE, 3) that nothing is fitted on: those of a fit are scored in another way."""
    return images[TRAINING:]


@pytest.fixture(scope="session")
def make_padim() -> Callable[..., PaDiM]:
    """Makes PaDiMs on one resnet18 with random weights for each precision, which keeps 100 dimensions."""
    backbones: dict[str, Any] = {}

    def make(estimator: str = "full", precision: str = "float32") -> PaDiM:
        if precision not in backbones:
            detector = PaDiM("resnet18", weights="none", resize=None, crop=None, precision=precision)
            backbones[precision] = detector.build_backbone()
        return PaDiM(backbones[precision], estimator, resize=None, crop=None, precision=precision)

    return make


@pytest.fixture(scope="session")
def features(make_padim: Callable[..., PaDiM], images: np.ndarray) -> Features:
    """Features of the TRAINING images, in float32: more than there are dimensions, so fits are in the primal form."""
    return make_padim().extract(images[:TRAINING])


@pytest.fixture(scope="session")
def few(features: Features) -> Features:
    """Those of FEW images: fewer than there are dimensions, so that models keep samples."""
    return features.images(slice(FEW))


@pytest.fixture(scope="session")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small category of the synthetic data set, in the folder that is returned."""
    from padim_zoo.data.synthetic import generate

    root = tmp_path_factory.mktemp("synthetic")
    return generate(root, categories=["gear"], train=20, good=6, defects_per_kind=2, size=SIZE)
