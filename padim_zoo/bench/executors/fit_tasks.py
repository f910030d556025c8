"""What workers do for a distributed fit: a chunk of image files to embeddings, moments or scores.

JSON and bytes in, JSON and bytes out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distributed import get_worker
from distributed.comm.addressing import get_address_host
from safetensors import numpy as of_arrays
from safetensors import torch as of_tensors

from padim_zoo.bench.executors.messages import DATA_ROOT
from padim_zoo.bench.executors.task import LOADED, ONE_AT_A_TIME, undo_settings_of_nanny
from padim_zoo.bench.executors.versions import describe_versions, difference
from padim_zoo.cache.caches import Caches
from padim_zoo.core.cpu import processor_name
from padim_zoo.core.errors import InputError
from padim_zoo.data.content import content_hash
from padim_zoo.data.pixel_limit import pixels_limited
from padim_zoo.detectors.fit_in_parts import Part, PartMoments, Place, embed_part, score_part
from padim_zoo.detectors.model_file import embeddings_of, numbered
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.forms import FORMS
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.statistics.moments import Moments

Answer = tuple[str, bytes]
"""JSON with ``refusal``, why there is nothing, and ``processor``; and safetensors."""

Work = Callable[[PaDiM, list[Path], Place], bytes]


def embed_chunk(request: str) -> Answer:
    """Embed a chunk; :func:`read_part` reads the answer.

    Parameters
    ----------
    request : str
        JSON, as :class:`padim_zoo.bench.cluster_fit.ClusterFit` writes it.
    """
    return _answer(request, lambda *given: part_to_bytes(embed_part(given[0], given[1], *given[2])))


def add_up_chunk(request: str, reference: bytes) -> Answer:
    """Moments of a chunk about the embeddings of one image; :func:`read_moments` reads the answer."""

    def add_up(model: PaDiM, paths: list[Path], place: Place) -> bytes:
        part = PartMoments.of(model, paths, place, read_part(reference).embeddings)
        arrays = part.moments.arrays() | {
            "image_size": torch.tensor(part.image_size),
            "hashes": torch.from_numpy(part.hashes),
            "embedded": torch.from_numpy(part.embedded),
        }
        return bytes(of_tensors.save(arrays))

    return _answer(request, add_up)


def score_chunk(request: str, model: bytes) -> Answer:
    """What a threshold takes of the scores of a chunk by a model of other images, as safetensors.

    The request also holds ``image_size``, ``numbers`` and ``every``, as of
    :func:`~padim_zoo.detectors.fit_in_parts.score_part`.
    """
    asked = json.loads(request)
    height, width = asked["image_size"]
    numbers = np.array(asked["numbers"], dtype=np.int64)

    def score(detector: PaDiM, paths: list[Path], place: Place) -> bytes:
        gaussian = read_gaussian(model, asked["form"])
        kept = score_part(detector, gaussian, (height, width), paths, place, numbers, asked["every"])
        return bytes(of_arrays.save({name: np.ascontiguousarray(array) for name, array in kept.items()}))

    return _answer(request, score)


def keep(content: bytes) -> bytes:
    """What several tasks are given: made by a task, it is made again if its worker dies."""
    return content


def _answer(request: str, work: Work) -> Answer:
    """Do what a request asks for; one at a time in a process."""
    asked, worker = json.loads(request), get_worker()
    here = asked["workers_by_host"].get(get_address_host(worker.address), 1)
    refusal, content = "", b""
    with ONE_AT_A_TIME:
        undo_settings_of_nanny(here)
        try:
            with pixels_limited(asked["max_pixels"]):
                content = _work_on(asked, work)
        except InputError as error:
            refusal = f"the worker {worker.address} refuses: {error}"
    return json.dumps({"refusal": refusal, "processor": processor_name()}), content


def _work_on(asked: dict[str, Any], work: Work) -> bytes:
    differing = difference(asked["versions"], describe_versions())
    if differing is not None:
        raise InputError(f"its versions differ, {differing}")
    LOADED.use_plugins(asked["plugins"])
    root = Path(os.environ.get(DATA_ROOT) or asked["root"])
    paths = [root / name for name, _ in asked["files"]]
    for path, (name, content) in zip(paths, asked["files"], strict=True):
        if _hash_of(path) != content:
            raise InputError(f"its copy of the images differs: {name} is missing or has other content there")
    model = LOADED.get(asked["parameters"], _detector)
    model.cache = Caches.usual() if asked["cache"] else False
    model.extractor.facts = replace(model.extractor.facts, bit_depth=asked["bit_depth"])  # part of the key
    if model.features_key != asked["features_key"]:
        raise InputError(f"its backbone or weights differ: {model.features_key} there, {asked['features_key']} here")
    grid = asked["grid"]
    return work(model, paths, Place(grid and (grid[0], grid[1]), asked["bit_depth"]))


def _detector(parameters: dict[str, Any]) -> PaDiM:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()
    }
    return PaDiM(**values)


def part_to_bytes(part: Part) -> bytes:
    """A part of a fit as safetensors."""
    arrays = numbered("layer", part.embeddings) | {
        "image_size": torch.tensor(part.image_size),
        "grids": torch.tensor(part.embeddings.grids),
        "hashes": torch.from_numpy(part.hashes),
    }
    return bytes(of_tensors.save({name: array.contiguous() for name, array in arrays.items()}))


def read_part(content: bytes) -> Part:
    """The part of a fit that :func:`part_to_bytes` was given."""
    arrays = of_tensors.load(content)
    embeddings = embeddings_of(_within("layer.", arrays), arrays["grids"].tolist())
    return Part(embeddings, _size_in(arrays), arrays["hashes"].numpy())


def read_moments(content: bytes, reference: PatchEmbeddings) -> PartMoments:
    """The moments that :func:`add_up_chunk` has sent."""
    arrays = of_tensors.load(content)
    hashes = arrays["hashes"].numpy()
    moments = Moments.from_arrays(len(hashes), reference, arrays)
    return PartMoments(moments, _size_in(arrays), hashes, arrays["embedded"].numpy())


def gaussian_to_bytes(gaussian: Gaussian) -> bytes:
    """Gaussians as safetensors, in full precision; their form goes beside."""
    arrays = numbered("mean", gaussian.mean) | {"grids": torch.tensor(gaussian.mean.grids)}
    arrays |= {f"gaussian.{name}": array for name, array in gaussian.arrays().items()}
    return bytes(of_tensors.save({name: array.contiguous() for name, array in arrays.items()}))


def read_gaussian(content: bytes, form: str) -> Gaussian:
    """The Gaussians that :func:`gaussian_to_bytes` was given."""
    arrays = of_tensors.load(content)
    mean = embeddings_of(_within("mean.", arrays), arrays["grids"].tolist())
    return FORMS[form].from_arrays(mean, _within("gaussian.", arrays))


def _within(prefix: str, arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _size_in(arrays: dict[str, torch.Tensor]) -> tuple[int, int]:
    height, width = arrays["image_size"].tolist()
    return height, width


def _hash_of(path: Path) -> str | None:
    try:
        return content_hash(path)
    except OSError:
        return None
