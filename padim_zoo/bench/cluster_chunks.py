"""Chunks of a distributed fit on their way to the workers of a cluster and back."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeVar

from padim_zoo.bench.executors.cluster import Cluster, ClusterLostError
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount
from padim_zoo.data.content import content_hash

LEAST_CHUNKS = 16
MOST_IMAGES = 256
"""Of a chunk. How many chunks there are depends on the number of images alone."""

_PER_WORKER = 2
_COPIES = 4
"""How often what a chunk becomes is in the memory of a worker: in parts, joined, as bytes, and on their way."""

Item = TypeVar("Item")


def cut(items: Sequence[Item], count: int) -> list[Sequence[Item]]:
    """Chunks of items in their order, that of names: whoever cuts, wherever, gets the same ones."""
    bounds = [len(items) * number // count for number in range(count + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]


def chunk_count(n: int) -> int:
    """The number of chunks of n images."""
    return min(n, max(LEAST_CHUNKS, math.ceil(n / MOST_IMAGES)))


@dataclass
class ChunkRunner:
    """Has workers do what a task makes of chunks.

    Attributes
    ----------
    cluster : Cluster
    request : mapping of str
        What is asked of all chunks.
    root : Path
        The folder of all images.
    processors : Counter of str
        Which processors did how many chunks so far.
    """

    cluster: Cluster
    request: Mapping[str, Any]
    root: Path
    processors: Counter[str] = field(default_factory=Counter)

    def results(
        self, task: Callable[..., Any], chunks: Iterable[Sequence[Path]], own: Iterable[Mapping[str, Any]], *given: Any
    ) -> Iterator[bytes]:
        """What workers make of chunks, in order; only a few are on their way, or wait for their turn, at a time.

        Parameters
        ----------
        task : callable
            Of :mod:`padim_zoo.bench.executors.fit_tasks`.
        chunks : iterable of sequence of Path
        own : iterable of mapping
            What is asked of each chunk beside.
        *given
            Further arguments of the task, of all chunks.

        Raises
        ------
        InputError
            If a worker refuses.
        ClusterLostError
            If the scheduler is gone, or workers die as often as it allows.
        """
        in_flight: deque[Any] = deque()
        waiting: Iterator[tuple[Sequence[Path], Mapping[str, Any]] | None] = chain(
            zip(chunks, own, strict=False), [None]
        )
        following = next(waiting)
        while following is not None or in_flight:
            while following is not None and len(in_flight) < _PER_WORKER * max(1, len(self._workers())):
                request = json.dumps(
                    {
                        **self.request,
                        **following[1],
                        "files": self._described(following[0]),
                        "workers_by_host": self.cluster.workers_by_host(),
                    }
                )
                in_flight.append(self.cluster.client.submit(task, request, *given, pure=False))
                following = next(waiting)
            yield self._received(in_flight.popleft())

    @contextmanager
    def given(self, content: bytes) -> Iterator[Any]:
        """What all tasks of a pass are given, as a future: it moves once to each worker."""
        import dask

        from padim_zoo.bench.executors.fit_tasks import keep

        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            future = self.cluster.client.submit(keep, content, pure=False)  # scattered bytes die with their worker
        try:
            yield future
        finally:
            future.release()

    def _received(self, future: Any) -> bytes:
        from distributed.scheduler import KilledWorker

        try:
            told, content = future.result()
        except KilledWorker as error:
            times = error.allowed_failures + 1
            raise ClusterLostError(f"{times} workers died while they were at one chunk; out of memory?") from error
        except Exception as error:
            if future.status == "error":
                raise
            reason = self.cluster.why_dropped(future, error)
            what = "is gone" if reason is None else f"dropped a chunk ({reason})"
            raise ClusterLostError(f"the scheduler of {self.cluster.address} {what}: run the command again") from error
        future.release()
        answer = json.loads(told)
        if answer["refusal"]:
            raise InputError(answer["refusal"])
        self.processors[answer["processor"]] += 1
        return bytes(content)

    def _workers(self) -> Mapping[str, int]:
        return self.cluster.threads_by_worker()

    def _described(self, chunk: Sequence[Path]) -> list[tuple[str, str]]:
        """Files by their path below the root, and what is in them."""
        return [(path.absolute().relative_to(self.root).as_posix(), content_hash(path)) for path in chunk]

    def refuse_large(self, n_bytes: int, what: str) -> None:
        """Refuse what does not fit the memory of a worker, of so many bytes."""
        workers = self.cluster.client.scheduler_info()["workers"].values()
        least = min((worker["memory_limit"] or math.inf for worker in workers), default=math.inf)
        if _COPIES * n_bytes > least:
            raise InputError(
                f"{what} of {amount(n_bytes)} take {amount(_COPIES * n_bytes)}, and a worker has {amount(least)}: give "
                "workers more memory, or use fewer components"
            )
