"""Measure padim-zoo on a device; the last line of the output is one JSON object. See benchmarks/gpu.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial

import torch
from stopwatch import fit_figures, latencies, peak_mb

import padim_zoo
from padim_zoo.data.image import read_image
from padim_zoo.registry import datasets

root, backbone = sys.argv[1:3]
n_components, threads = map(int, sys.argv[3:5])
device = sys.argv[5]
precision = sys.argv[6]
on_gpu = device != "cpu"
torch.set_num_threads(threads)
category = datasets.create("mvtec", root=root).load("fabric")
detector = padim_zoo.PaDiM(
    backbone,
    weights="none",
    n_components=n_components,
    resize=256,
    crop=None,
    precision=precision,
    runtime="torch",
    device=device,
)
network = detector.build_backbone()


def fit() -> None:
    """With the Gaussians, which are made when they are first wanted."""
    detector.fit(category.train)
    detector.model_  # noqa: B018


def prepare() -> Callable[[], object]:
    """A fit forgets the one before."""
    return fit


def pass_through(images: torch.Tensor) -> None:
    """The network alone, from images on the device to maps there."""
    with torch.inference_mode():
        network.forward_native_dtype(images)
    if on_gpu:
        torch.cuda.synchronize()


found: dict[str, float | str | None] = {**fit_figures(prepare), "form": detector.gaussian_.form}
pictures = [read_image(sample.path) for sample in category.test[:32]]
latency = partial(latencies, times=5 if on_gpu else 1)
found |= latency(detector.predict, lambda size: pictures[:size])
found |= {"host_mb": peak_mb(), "gpu_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else 0.0}
of_network = latency(pass_through, lambda size: torch.rand(size, 3, 256, 256, device=device))
print(json.dumps(found | {f"network_{name}": value for name, value in of_network.items()}))
