"""The fastest runtime of a network here: measured once for each processor and shape of images, kept on disk.

One image alone and several at once are two shapes: torch gains more by a second image than other runtimes do.

Measuring takes a conversion for each runtime and less than a second. It is done only where the images at hand repay it,
and a runtime is opened only where they repay that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from padim_zoo.core.cpu import processor_name
from padim_zoo.runtimes.converted_network import TOLERANCE
from padim_zoo.runtimes.network_files import Entry, read_entry, write_entry
from padim_zoo.runtimes.runtime import RUNTIMES, TORCH

Run = Callable[[Tensor], Sequence[Tensor]]

OPENING_SECONDS = 0.5
"""What it takes to import a runtime and to open a network that is on disk."""
CONVERTING_SECONDS = 3.0
"""What it takes to convert a network for all runtimes, and to measure them."""
USUAL_GAIN = 0.25
"""Share of the time of torch that the fastest runtime saved where it was measured."""
LEAST_IMAGES = 20
"""Fewer repay nothing, whatever the network."""
LEAST_GAIN = 0.03
"""Share below which torch stays: so much differs from one measurement to the next."""
_SECONDS = 0.2
"""Of the measurement of one."""
_COMPARED = 5
"""Images by which the difference of maps is told, at least: in 16 bits it may be nothing for one of them."""


@dataclass(frozen=True)
class Choice:
    """What was measured of each runtime.

    Attributes
    ----------
    seconds : mapping of str to float
        Of an image in each, in torch among them.
    difference : float
        How far the maps of the fastest one are from those of torch, as a share of these: the largest of all layers.
    at_once : int
        How many images passed through the network together.
    """

    seconds: Mapping[str, float]
    difference: float
    at_once: int

    @property
    def fastest(self) -> str:
        """The fastest runtime; torch unless another is clearly faster."""
        return fastest_of(self.seconds)

    @property
    def saved(self) -> float:
        """Seconds of an image that the fastest one saves."""
        return self.seconds[TORCH] - self.seconds[self.fastest]

    def __str__(self) -> str:
        times = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in self.seconds.items())
        # In float32 they differ by rounding alone, which conversion has made sure of.
        apart = f", its maps {self.difference:.1%} from those of torch" if self.difference > TOLERANCE else ""
        alone = " for one image at a time" if self.at_once == 1 else ""
        return f"{self.fastest}, the fastest here{alone} ({times} ms an image){apart}"


def choose(
    identity: str, shape: tuple[int, int, int, int], images: int, run: Run, convert: Callable[[str], Run | None]
) -> Choice | None:
    """The measured choice, if the images repay it; None to stay with torch for now.

    Parameters
    ----------
    identity : str
        All that decides what the network computes, and in which precision.
    shape : (n, 3, H, W)
        Of as many images as pass through the network together.
    images : int
        How many there are.
    run : callable
        The network in torch.
    convert : callable
        The network in another runtime, by its name; None where it cannot be.
    """
    if images < LEAST_IMAGES:
        return None
    installed = {name: runtime for name, runtime in RUNTIMES.items() if runtime.is_installed}
    if not installed:
        return None
    versions = ", ".join(f"{name} {runtime.installed_version}" for name, runtime in installed.items())
    decisive = (
        f"choice {identity} {shape} {processor_name()} threads {torch.get_num_threads()} "
        f"torch {torch.__version__} {versions}"
    )
    entry = read_entry(decisive)
    if entry is not None:
        choice = Choice(entry.about["seconds"], entry.about["difference"], shape[0])
        return choice if images * choice.saved > OPENING_SECONDS else None

    def would_repay(seconds: float) -> bool:
        return images * seconds * USUAL_GAIN >= CONVERTING_SECONDS

    if not would_repay(seconds_of_first(run, shape)):
        return None
    at_once, *image = shape
    several = torch.rand(max(at_once, _COMPARED), *image, generator=torch.Generator().manual_seed(0))
    batch = several[:at_once]
    if not would_repay(seconds_per_image({TORCH: run}, batch)[TORCH]):
        return None
    converted = {name: convert(name) for name in installed}
    runs = {TORCH: run, **{name: other for name, other in converted.items() if other is not None}}
    seconds = seconds_per_image(runs, batch)
    choice = Choice(seconds, difference_of(runs[fastest_of(seconds)](several), run(several)), at_once)
    write_entry(decisive, Entry((), {"seconds": choice.seconds, "difference": choice.difference}))
    return choice


def fastest_of(seconds: Mapping[str, float]) -> str:
    """The runtime that takes the least seconds; torch unless another is clearly faster."""
    name = min(seconds, key=lambda name: seconds[name])
    return name if seconds[name] < (1 - LEAST_GAIN) * seconds[TORCH] else TORCH


def seconds_of_first(run: Run, shape: tuple[int, int, int, int]) -> float:
    """The time of one pass of one image, which takes too long at worst: most sets of images are too small by far."""
    image = torch.zeros(1, *shape[1:])
    start = time.perf_counter()
    run(image)
    return time.perf_counter() - start


def difference_of(maps: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """‖a − b‖/‖b‖ of maps a and b of some layers, the largest one."""
    pairs = [(one.float(), other.float()) for one, other in zip(maps, others, strict=True)]
    return max(float((one - other).norm() / other.norm().clamp_min(1e-30)) for one, other in pairs)


def seconds_per_image(runs: Mapping[str, Run], batch: Tensor) -> dict[str, float]:
    """The least time of a few passes of each, after one that warms up; they take turns.

    Whatever else the machine does only adds to a time, and to that of all.
    """
    for run in runs.values():
        run(batch)
    times: dict[str, list[float]] = {name: [] for name in runs}
    while min(map(len, times.values())) < 2 or sum(map(sum, times.values())) < _SECONDS * len(runs):
        for name, run in runs.items():
            start = time.perf_counter()
            run(batch)
            times[name].append(time.perf_counter() - start)
    return {name: min(spent) / len(batch) for name, spent in times.items()}
