"""A fit whose images pass through the backbone on the workers of a cluster. The model is that of one machine.

Workers send embeddings back, the channels that were drawn and no more. They come together in the order of names,
whoever made them and however often, so the statistics, and what is made of them, are those of a local fit. Where there
are so many images that moments are fewer bytes, workers send these (:mod:`padim_zoo.bench.cluster_moments`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from padim_zoo.bench.cluster_chunks import ChunkRunner, chunk_count, cut
from padim_zoo.bench.cluster_moments import MomentsFit, moments_move_less
from padim_zoo.bench.executors.cluster import Note, connect
from padim_zoo.bench.executors.messages import absolute_weights, plugins_to_json
from padim_zoo.bench.executors.versions import describe_versions
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount
from padim_zoo.core.provenance import tell_processors
from padim_zoo.core.shard import Shard
from padim_zoo.data.image_groups import ImageGroups
from padim_zoo.data.pixel_limit import max_pixels
from padim_zoo.detectors.fit_in_parts import Folds, embed_part, fit_parts, grid_of_fit
from padim_zoo.detectors.padim import PaDiM


def part_of_shard(paths: Sequence[Path], shard: str) -> list[Path]:
    """The images of a shard such as ``3/16``.

    Raises
    ------
    InputError
        If there are fewer images than shards.
    """
    asked = Shard.parse(shard)
    if asked.count > len(paths):
        raise InputError(f"{len(paths)} images cannot make {asked.count} shards: use at most {len(paths)}")
    return list(cut(paths, asked.count)[asked.number - 1])


@dataclass(frozen=True)
class Threshold:
    """What threshold a fit shall have.

    Attributes
    ----------
    false_alarm_rate : float or None
    folds : int
    groups : ImageGroups
        Of images that are held out together.
    """

    false_alarm_rate: float | None
    folds: int
    groups: ImageGroups


def refuse_what_is_not_spread(model: Any) -> None:
    """Refuse detectors that a cluster does not fit.

    Raises
    ------
    InputError
        If it is no PaDiM of single views.
    """
    if type(model) is not PaDiM:
        raise InputError(f"--cluster fits padim, and not {model.name}: leave out --cluster to fit it here")
    for name in ("roi", "augment", "tta", "register"):
        if getattr(model, name) is not None:
            raise InputError(f"--cluster fits padim without {name}: leave that out, or --cluster to fit here")


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

    def fit(
        self, model: PaDiM, paths: Sequence[Path], parameters: Mapping[str, Any], threshold: Threshold | None
    ) -> str | None:
        """Fit a detector that was made with some parameters.

        Parameters
        ----------
        model : PaDiM
        paths : sequence of Path
        parameters : mapping of str
        threshold : Threshold or None
            None where samples of all images are wanted.

        Returns
        -------
        str or None
            None if the detector holds samples, which :meth:`PaDiM.calibrate` makes a threshold of. Else why there is
            no threshold, and nothing where there is one.

        Raises
        ------
        InputError
            If it is no PaDiM of single views, or a worker refuses, or has too little memory.
        ClusterLostError
            If the scheduler is gone, or workers die as often as it allows.
        """
        refuse_what_is_not_spread(model)
        grid = grid_of_fit(model, paths)
        depth = model.extractor.bit_depth
        first = embed_part(model, paths[:1], grid, depth)
        image_bytes = first.embeddings.size_in_bytes()
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
            runner = ChunkRunner(cluster, request, root)
            by_moments = moments_move_less(len(paths), image_bytes, first.embeddings.P, first.embeddings.D)
            why_none = None
            if threshold is not None and by_moments:
                fit = MomentsFit(model, paths, runner, first, depth, self.note)
                folds = Folds.of(threshold.groups, threshold.folds, model.seed)
                self.note(fit.describe_bytes(folds))
                fit.refuse_too_little_memory(folds)
                why_none = fit.run(folds, threshold.folds, threshold.false_alarm_rate)
            else:
                self._fit_by_samples(model, paths, runner, depth, image_bytes)
        tell_processors(runner.processors)
        return why_none

    def _fit_by_samples(
        self, model: PaDiM, paths: Sequence[Path], runner: ChunkRunner, depth: int, image_bytes: int
    ) -> None:
        from padim_zoo.bench.executors.fit_tasks import embed_chunk, read_part

        chunks = cut(paths, chunk_count(len(paths)))
        n_bytes = image_bytes * max(map(len, chunks))
        self.note(
            f"{amount(image_bytes * len(paths))} will move here: embeddings of {len(chunks)} chunks of up to "
            f"{amount(n_bytes)}"
        )
        runner.refuse_large(n_bytes, "embeddings")
        received = runner.results(embed_chunk, chunks, repeat({}))
        fit_parts(model, map(read_part, received), depth, paths)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if name == "weights":
        return absolute_weights(value)
    return list(value) if isinstance(value, tuple) else value
