"""What a fitted detector costs: latency, and the memory of the process while it is made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import psutil

BATCH_SIZES = (1, 32)
MEGABYTE = 1e6
_SECONDS = 0.15
_REPEATS = 10
_AT_LEAST = 2
_LONG_SECONDS = 1.0
_SAMPLING_SECONDS = 0.01


class Scorer(Protocol):
    """Whatever scores images: a detector, or what one was exported to."""

    def predict(self, images: Any, /) -> Any:
        """Scores and maps of images."""


def milliseconds_per_image(detector: Scorer, images: Sequence[np.ndarray | Path], batch_size: int) -> float:
    """Least time of ``predict`` per image, from decoded images to scores and maps.

    A first call that is not counted warms caches up. Then calls are repeated for about 0.15 s, ten at most, and two at
    least unless the first takes a second: a benchmark of hundreds of runs cannot dwell on each. The least time counts,
    because whatever else the machine does only adds to it.

    Parameters
    ----------
    detector : Scorer
        Fitted.
    images : sequence of ndarray (H, W, 3), uint8, or Path
        Files are decoded too, which takes part of the time.
        Taken in turn, repeatedly if there are fewer than the batch holds.
    batch_size : int
        Images of one call.
    """
    batch = list(islice(cycle(images), batch_size))
    detector.predict(batch[:1] if batch_size > 1 else batch)
    return 1000 * least_seconds(lambda: detector.predict(batch)) / batch_size


def least_seconds(call: Callable[[], object], seconds: float = _SECONDS) -> float:
    """Least time of a call that is repeated for about ``seconds``; see :func:`milliseconds_per_image`."""
    times: list[float] = []
    while len(times) < _REPEATS and sum(times) < (seconds if len(times) >= _AT_LEAST else _LONG_SECONDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


class PeakMemory:
    """Highest resident memory of this process while the context is open, sampled every 10 ms.

    Attributes
    ----------
    megabytes : float
        In 10⁶ bytes. All of the process counts: the interpreter, its libraries, the features that runs share. What it
        takes while the context is closed does not: the process's own peak is higher.
    before : int
        Bytes when the context was opened.
    """

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self.before = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def megabytes(self) -> float:
        """The peak so far."""
        return self._peak / MEGABYTE

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLING_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)
