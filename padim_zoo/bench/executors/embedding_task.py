"""What a worker does for a distributed fit: a chunk of image files to their embeddings, JSON in, bytes out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker
from distributed.comm.addressing import get_address_host
from safetensors.torch import load, save

from padim_zoo.bench.executors.messages import DATA_ROOT
from padim_zoo.bench.executors.task import LOADED, ONE_AT_A_TIME
from padim_zoo.bench.executors.versions import describe_versions, difference
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.data.content import content_hash
from padim_zoo.data.loading import usable_processors
from padim_zoo.data.pixel_limit import pixels_limited
from padim_zoo.detectors.fit_in_parts import Part, embed_part
from padim_zoo.detectors.model_file import embeddings_of, numbered
from padim_zoo.detectors.padim import PaDiM


def embed_chunk(request: str) -> tuple[str, bytes]:
    """Embed a chunk; one at a time in a process.

    Parameters
    ----------
    request : str
        JSON, as :func:`padim_zoo.bench.cluster_fit.fit_on_cluster` writes it.

    Returns
    -------
    refusal : str
        Why there is nothing; else empty.
    content : bytes
        Safetensors, as :func:`read_chunk` reads them.
    """
    asked, worker = json.loads(request), get_worker()
    here = asked["workers_by_host"].get(get_address_host(worker.address), 1)
    with ONE_AT_A_TIME:
        torch.set_num_threads(max(1, usable_processors() // here))
        try:
            with pixels_limited(asked["max_pixels"]):
                return "", _embed(asked)
        except InputError as error:
            return f"the worker {worker.address} refuses: {error}", b""


def _embed(asked: dict[str, Any]) -> bytes:
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
    grid = asked["grid"]
    embeddings, image_size, hashes = embed_part(model, paths, grid and (grid[0], grid[1]), asked["bit_depth"])
    if model.features_key != asked["features_key"]:
        raise InputError(f"its backbone or weights differ: {model.features_key} there, {asked['features_key']} here")
    described = {"image_size": torch.tensor(image_size), "grids": torch.tensor(embeddings.grids)}
    arrays = numbered("layer", embeddings) | described | {"hashes": torch.from_numpy(hashes)}
    return bytes(save({name: array.contiguous() for name, array in arrays.items()}))


def _detector(parameters: dict[str, Any]) -> PaDiM:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()
    }
    return PaDiM(**values)


def read_chunk(content: bytes) -> Part:
    """A chunk as a part of the fit."""
    arrays = load(content)
    height, width = arrays["image_size"].tolist()
    layers = {name.partition(".")[2]: layer for name, layer in arrays.items() if name.startswith("layer.")}
    return Part(embeddings_of(layers, arrays["grids"].tolist()), (height, width), arrays["hashes"].numpy())


def _hash_of(path: Path) -> str | None:
    try:
        return content_hash(path)
    except OSError:
        return None
