from __future__ import annotations

import torch

from padim_zoo.bench import machine_speed as calibration
from padim_zoo.bench.environment import describe_environment


def test_measured_once_on_one_thread_that_is_given_back(monkeypatch):
    threads = []

    def measure(work):
        threads.append(torch.get_num_threads())
        return 0.25

    monkeypatch.setattr(calibration, "_least_time", measure)
    calibration.calibration_seconds.cache_clear()
    try:
        before = torch.get_num_threads()
        assert [describe_environment(jobs=1)["calibration_seconds"] for _ in range(2)] == [0.75, 0.75]
        assert threads == [1, 1, 1]
        assert torch.get_num_threads() == before
    finally:
        calibration.calibration_seconds.cache_clear()


def test_the_workload_is_the_same_every_time():
    first, second = ([part().clone() for part in calibration._workload()] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_least_time_counts(monkeypatch):
    clock = iter([0.0, 3.0, 3.0, 4.0, 4.0, 9.0, 9.0, 11.0, 11.0, 15.0])
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(clock))
    calls = []
    assert calibration._least_time(lambda: calls.append(0)) == 1.0
    assert len(calls) == 1 + 5


def test_the_share_of_the_processor_is_that_of_threads_at_work(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(calibration.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(calibration.time, "thread_time", iter([0.0, 0.5]).__next__)
    # Two looks at the clock around the work, and one at its end: two seconds, of which half a second was given.
    assert calibration.processor_share.__wrapped__(1) == 0.25
    monkeypatch.undo()
    assert 0 < calibration.processor_share.__wrapped__(2) <= 1
