"""A fit whose images pass through the backbone on the workers of a cluster. The model is that of one machine.

Workers send embeddings back, the channels that were drawn and no more. They come together in the order of names,
whoever made them and however often, so the statistics, and what is made of them, are those of a local fit.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from padim_zoo.bench.executors.cluster import Cluster, ClusterLostError, Note, connect
from padim_zoo.bench.executors.messages import absolute_weights, plugins_to_json
from padim_zoo.bench.executors.versions import describe_versions
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount
from padim_zoo.data.content import content_hash
from padim_zoo.data.pixel_limit import max_pixels
from padim_zoo.detectors.fit_in_parts import Part, embed_part, fit_parts, grid_of_fit
from padim_zoo.detectors.padim import PaDiM

LEAST_CHUNKS = 16
MOST_IMAGES = 256
"""Of a chunk. How many chunks there are depends on the number of images alone."""

_PER_WORKER = 2
_COPIES = 4
"""How often the embeddings of a chunk are in the memory of a worker: in parts, joined, as bytes, and on their way."""


def cut(paths: Sequence[Path], count: int) -> list[list[Path]]:
    """Chunks of paths in their order, that of their names: whoever cuts, wherever, gets the same ones."""
    bounds = [len(paths) * number // count for number in range(count + 1)]
    return [list(paths[start:end]) for start, end in pairwise(bounds)]


def part_of_shard(paths: Sequence[Path], shard: str) -> list[Path]:
    """The images of a shard such as ``3/16``.

    Raises
    ------
    InputError
        If there are fewer images than shards.
    """
    number, count = map(int, shard.split("/"))
    if count > len(paths):
        raise InputError(f"{len(paths)} images cannot make {count} shards: use at most {len(paths)}")
    return cut(paths, count)[number - 1]


def chunk_count(n: int) -> int:
    """The number of chunks of n images."""
    return min(n, max(LEAST_CHUNKS, math.ceil(n / MOST_IMAGES)))


@dataclass(frozen=True)
class ClusterFit:
    """How to fit a detector on a cluster.

    Attributes
    ----------
    address : str
    insecure : bool
        As of :func:`~padim_zoo.bench.executors.cluster.connect`.
    plugins : sequence of Path
    note : callable
        Is told what there is to say, and how many bytes will move.
    """

    address: str
    insecure: bool
    plugins: Sequence[Path]
    note: Note

    def fit(self, model: PaDiM, paths: Sequence[Path], parameters: Mapping[str, Any]) -> None:
        """Fit a detector that was made with some parameters.

        Raises
        ------
        InputError
            If it is no PaDiM of single views, or a worker refuses, or has too little memory.
        ClusterLostError
            If the scheduler is gone, or workers die as often as it allows.
        """
        options = (model.roi, model.augment, model.tta, model.register) if type(model) is PaDiM else ()
        if not options or any(value is not None for value in options):
            raise InputError(
                "--cluster fits padim, without --roi, --augment, --tta and --register: leave them out, or fit here"
            )
        grid = grid_of_fit(model, paths)
        depth = model.extractor.bit_depth
        embeddings = embed_part(model, paths[:1], grid, depth).embeddings
        chunks = cut(paths, chunk_count(len(paths)))
        root = Path(os.path.commonpath([path.absolute().parent for path in paths]))
        request = {
            "parameters": {name: _plain(name, value) for name, value in parameters.items()}
            | {"precision": model.precision_, "runtime": model.build_backbone().runtime},
            "plugins": plugins_to_json(self.plugins),
            "versions": describe_versions(),
            "features_key": model.features_key,
            "cache": Caches.of(model.cache).features is not None,
            "grid": grid,
            "bit_depth": depth,
            "max_pixels": max_pixels(),
            "root": str(root),
        }
        with connect(self.address, insecure=self.insecure, jobs=1, note=self.note) as cluster:
            n_bytes = embeddings.size_in_bytes() * max(map(len, chunks))
            self.note(
                f"{amount(embeddings.size_in_bytes() * len(paths))} will move here, in {len(chunks)} chunks of up to "
                f"{amount(n_bytes)}"
            )
            _refuse_large(cluster, n_bytes)
            requests = ({**request, "files": _described(chunk, root)} for chunk in chunks)
            fit_parts(model, _embedded(cluster, requests), depth, paths)


def _embedded(cluster: Cluster, requests: Iterator[dict[str, Any]]) -> Iterator[Part]:
    """What workers make of chunks, in order; only a few are on their way, or wait for their turn, at a time."""
    from distributed.scheduler import KilledWorker

    from padim_zoo.bench.executors.embedding_task import embed_chunk, read_chunk

    in_flight: deque[Any] = deque()
    waiting: Iterator[dict[str, Any] | None] = chain(requests, [None])
    following = next(waiting)
    while following is not None or in_flight:
        while following is not None and len(in_flight) < _PER_WORKER * max(1, len(cluster.threads_by_worker())):
            request = json.dumps({**following, "workers_by_host": cluster.workers_by_host()})
            in_flight.append(cluster.client.submit(embed_chunk, request, pure=False))
            following = next(waiting)
        future = in_flight.popleft()
        try:
            refusal, content = future.result()
        except KilledWorker as error:
            times = error.allowed_failures + 1
            raise ClusterLostError(f"{times} workers died while they were at one chunk; out of memory?") from error
        except CancelledError as error:
            raise ClusterLostError(f"the scheduler of {cluster.address} is gone: run the command again") from error
        future.release()
        if refusal:
            raise InputError(refusal)
        yield read_chunk(content)


def _refuse_large(cluster: Cluster, n_bytes: int) -> None:
    """Refuse a chunk that does not fit the memory of a worker."""
    workers = cluster.client.scheduler_info()["workers"].values()
    least = min((worker["memory_limit"] or math.inf for worker in workers), default=math.inf)
    if _COPIES * n_bytes > least:
        raise InputError(
            f"a chunk of {amount(n_bytes)} takes {amount(_COPIES * n_bytes)}, and a worker has {amount(least)}: give "
            "workers more memory, or use fewer components"
        )


def _described(chunk: Sequence[Path], root: Path) -> list[tuple[str, str]]:
    """Files by their path below the root, and what is in them."""
    return [(path.absolute().relative_to(root).as_posix(), content_hash(path)) for path in chunk]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if name == "weights":
        return absolute_weights(value)
    return list(value) if isinstance(value, tuple) else value
