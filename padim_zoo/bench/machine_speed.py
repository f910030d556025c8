"""How fast this machine is just now: the time of one fixed piece of work, and how much of it other work leaves.

A time in milliseconds says as much of the machine as of the code. Its ratio to the time of a fixed workload in the same
process says much less of the machine: that is what a baseline made elsewhere can be compared with.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d

_SEED = 0
_SECONDS = 0.1
_REPEATS = 5
_SHARE_SECONDS = 0.2


@cache
def calibration_seconds() -> float:
    """Seconds that the calibration workload takes on one thread, measured once per process in about 0.4 s.

    The workload is what fitting and scoring are made of: a convolution, a batch of Cholesky factorizations, and a copy
    in memory. Each part is a few milliseconds long and counts with its least time of many, because whatever disturbs a
    measurement only adds to it. One thread, because on a busy machine the threads of a convolution wait for each other
    and its time varies thirtyfold: so this knows nothing of the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return sum(_least_time(part) for part in _workload())
    finally:
        torch.set_num_threads(threads)


@cache
def processor_share(threads: int) -> float:
    """The part of their time that so many busy threads are at work: 1 on a machine at rest, measured once in 0.2 s.

    The rest of the time they wait for a processor that other work has.
    """

    def keep_busy(data: bytes) -> float:
        start, cpu = time.monotonic(), time.thread_time()
        while time.monotonic() < start + _SHARE_SECONDS:
            hashlib.sha256(data)  # lets the other threads go on meanwhile
        return (time.thread_time() - cpu) / (time.monotonic() - start)

    with ThreadPoolExecutor(threads) as pool:
        return min(1.0, sum(pool.map(keep_busy, [bytes(2**20)] * threads)) / threads)


def _workload() -> list[Callable[[], Tensor]]:
    """The three parts. A change of any makes all older baselines incomparable: raise the baseline's format with it."""
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randn(1, 64, 56, 56, generator=generator)
    kernels = torch.randn(64, 64, 3, 3, generator=generator)
    samples = torch.randn(16, 128, 128, generator=generator)
    covariances = samples @ samples.mT + 128 * torch.eye(128)
    numbers = torch.ones(2**23)
    copy = torch.empty_like(numbers)
    return [
        lambda: conv2d(images, kernels, padding=1),
        lambda: torch.linalg.cholesky(covariances),
        lambda: copy.copy_(numbers),
    ]


@torch.inference_mode()
def _least_time(work: Callable[[], Tensor]) -> float:
    """Least seconds of one call, of as many as fit in 0.1 s and at least five, after one that warms up."""
    work()
    times: list[float] = []
    while len(times) < _REPEATS or sum(times) < _SECONDS:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
