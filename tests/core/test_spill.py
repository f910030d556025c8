"""Fits beyond the memory allowed: the same results, on disk, in bounded resident memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from padim_zoo.core import spill as arrays
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.held_out import HeldOutScores, folds_of
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.registry import estimators
from padim_zoo.statistics.accumulator import Accumulator, largest_array
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path))
    return tmp_path / "scratch"


def draw(n: int, seed: int) -> PatchEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.randn(n, 4, 6, 6, generator=generator), torch.randn(n, 5, 3, 3, generator=generator))
    return PatchEmbeddings.of(Features(maps, (24, 24)))


def accumulated(parts, budget):
    accumulator = Accumulator(None, budget)
    for part in parts:
        accumulator.add(part)
    return accumulator.result()


def score(gaussian, embeddings):
    maps = gaussian.squared_distances(embeddings).sqrt().T.reshape(embeddings.n, *embeddings.grid).numpy()
    return Prediction(maps.max((1, 2)), maps, None)


def calibrated(estimator, samples, *, false_alarm_rate, folds, seed):
    """The threshold of an estimator on embeddings, fold by fold."""
    cut, scores = folds_of(samples.n, folds, seed), HeldOutScores(samples.n, false_alarm_rate)
    for rest, held_out in cut:
        gaussian = estimator.fit(Samples(samples.images(rest)))
        for images in held_out:
            scores.add(images, score(gaussian, samples.images(images)))
    return scores.calibration(len(cut))


@pytest.mark.parametrize("name", estimators.names())
@pytest.mark.parametrize("n", [8, 60])
def test_what_lies_on_disk_gives_the_distances_and_thresholds_of_memory(monkeypatch, scratch, name, n):
    monkeypatch.setattr(arrays, "PART_BYTES", 500)
    parts, test = [draw(4, seed) for seed in range(n // 4)], draw(5, 99)
    estimator = estimators.create(name)
    in_memory = accumulated(parts, 10**9)
    budget = 6000
    on_disk = accumulated(parts, budget)
    assert isinstance(on_disk, Samples)
    mapped = len(arrays._mapped)
    assert mapped >= 2
    assert list(scratch.iterdir()) == []
    expected = score(estimator.fit(in_memory), test)
    settings = {"false_alarm_rate": 0.3, "folds": 3, "seed": 0}
    with arrays.spill_above(largest_array(budget)):
        gaussian = estimator.fit(on_disk)
        calibration = calibrated(estimator, on_disk.embeddings, **settings)
    np.testing.assert_allclose(score(gaussian, test).maps, expected.maps, rtol=1e-5)
    literal = calibrated(estimator, in_memory.embeddings, **settings)
    np.testing.assert_allclose(calibration.scores, literal.scores, rtol=1e-5)
    assert calibration.threshold == pytest.approx(literal.threshold, rel=1e-5)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("part_bytes", [1, 300, 10**6])
def test_columns_are_joined_as_torch_joins_them(monkeypatch, on_disk, part_bytes):
    monkeypatch.setattr(arrays, "PART_BYTES", part_bytes)
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(7, columns, 4, generator=generator) for columns in (3, 1, 5)]
    with arrays.spill_above(0 if on_disk else 10**9):
        joined = arrays.join_columns(parts)
    assert torch.equal(joined, torch.cat(parts, 1))


def test_released_arrays_keep_their_content():
    with arrays.spill_above(0):
        array = arrays.empty(3000, 7, dtype=torch.float64)
        array[:] = torch.arange(7)
        arrays.release()
    assert torch.equal(array, torch.arange(7).double().expand(3000, 7))


def test_parts_beyond_the_open_files_allowed_are_joined(monkeypatch):
    monkeypatch.setattr("padim_zoo.statistics.accumulator.MOST_PARTS", 2)
    parts = [draw(2, seed) for seed in range(9)]
    found = accumulated(parts, 3 * parts[0].size_in_bytes())
    for layer, expected in zip(found.embeddings.layers, PatchEmbeddings.concatenate(parts).layers, strict=True):
        assert torch.equal(layer, expected)


def test_without_room_on_disk_moments_stand_in_or_one_line_says_why(monkeypatch):
    parts = [draw(4, seed) for seed in range(30)]
    expected = accumulated(parts, 10**9)
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000))
    moments = accumulated(parts, 3 * Moments.bytes_needed(36, 9))
    assert isinstance(moments, Moments)
    assert moments.n == 120
    np.testing.assert_allclose(moments.scatter(slice(None)), expected.scatter(slice(None)), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="has no room for") as caught:
        accumulated(parts, 6000)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="an image of 36 patches and 9 dimensions does not fit"):
        accumulated(parts, 100)


PEAK = """
import threading, time, sys
import torch
from padim_zoo.core.spill import spill_above
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import Accumulator, largest_array
from padim_zoo.statistics.samples import Samples
from padim_zoo.features.features import Features
from padim_zoo.registry import estimators

torch.set_num_threads(1)
def status():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return [int(lines[name].split()[0]) / 1000 for name in ("RssAnon", "VmRSS")]
def draw(n):
    return PatchEmbeddings.of(Features((torch.randn(n, 16, 32, 32), torch.randn(n, 24, 16, 16)), (128, 128)))
estimators.create("full").fit(Samples(draw(50)))
before, peak, done = status(), [0, 0], False
def watch():
    while not done:
        peak[:] = map(max, peak, status())
        time.sleep(0.002)
thread = threading.Thread(target=watch); thread.start()
budget = int(sys.argv[1])
accumulator = Accumulator(None, budget)
for _ in range(60):
    accumulator.add(draw(50))
statistics = accumulator.result()
with spill_above(largest_array(budget)):
    gaussian = estimators.create("full").fit(statistics)
done = True; thread.join()
print(statistics.embeddings.size_in_bytes() / 1e6, *(p - b for p, b in zip(peak, before)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_neither_anonymous_nor_resident_memory_grows_with_the_images():
    run = subprocess.run([sys.executable, "-c", PEAK, "50000000"], capture_output=True, text=True, check=True)
    size, anonymous, resident = map(float, run.stdout.split())
    assert size > 250
    assert anonymous < 130
    assert resident < 160


COUNT_FAULTS = """
import resource
import sys
import torch
from padim_zoo.core.spill import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.ones(2**21)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries know no such threshold")
def test_freed_memory_is_kept_where_a_nanny_gives_it_back() -> None:
    """Else each large array costs a page fault for each of its pages."""
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}

    def faults(word: str) -> int:
        command = [sys.executable, "-c", COUNT_FAULTS, word]
        return int(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)

    assert faults("keep") < faults("as it is") / 5
