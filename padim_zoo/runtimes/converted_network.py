"""A network that another runtime runs: converted once, held to the maps of torch, opened when it is first wanted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from padim_zoo.runtimes.network_files import Entry, read_entry, write_entry
from padim_zoo.runtimes.quiet import quiet_exporters
from padim_zoo.runtimes.runtime import Runtime, Session

TOLERANCE = 1e-4
"""Largest difference from the maps of torch, of the largest value of a map: float32 leaves 1e-6."""

_PADDING = 32
"""Pixels by which one of the examples is larger: what a trace took for constant differs there."""


class NotConvertible(Exception):
    """A network that a runtime cannot take; says why."""


class ConvertedNetwork:
    """A network in the files of a runtime.

    Parameters
    ----------
    runtime : Runtime
    entry : Entry
        The files, and what sizes of images they were held to torch with: ``any_size``, ``example_size``.
    precision : str
        What it computes in; maps are float32 all the same.
    """

    def __init__(self, runtime: Runtime, entry: Entry, precision: str) -> None:
        self.runtime = runtime
        self.precision = precision
        self._entry = entry
        self._sessions: dict[int, Session] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls, runtime: Runtime, network: nn.Module, identity: str, example: Tensor, precision: str
    ) -> ConvertedNetwork:
        """A network, converted now or before.

        Parameters
        ----------
        runtime : Runtime
        network : Module
            Gives a list or tuple of maps of images (n, 3, H, W), float32.
        identity : str
            All that decides what the network computes.
        example : Tensor (1, 3, H, W)
            Images that it takes.
        precision : str
            One that the runtime has.

        Raises
        ------
        NotConvertible
            If the runtime cannot take it, or gives other maps.
        MissingExtraError
            If the runtime is not installed.
        """
        versions = f"{runtime.name} {runtime.version()} torch {torch.__version__}"
        decisive = f"{versions} {identity} {tuple(example.shape)}"
        entry = read_entry(decisive)
        if entry is None:
            entry = _convert(runtime, network, example)
            write_entry(decisive, entry)
        return cls(runtime, entry, precision)

    def takes(self, images: Tensor) -> bool:
        """Whether images are of a size with which it was held to torch."""
        about = self._entry.about
        return bool(about["any_size"]) or list(images.shape[-2:]) == list(about["example_size"])

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Maps (n, C_l, H_l, W_l), float32, of images (n, 3, H, W), float32, in as many threads as torch has."""
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            with self._lock:
                if threads not in self._sessions:  # another thread may have opened it meanwhile
                    self._sessions[threads] = self.runtime.open(self._entry.files, self.precision, threads)
        session = self._sessions[threads]
        return [torch.from_numpy(layer) for layer in session(images.detach().contiguous().numpy())]

    def __getstate__(self) -> dict[str, Any]:
        return {"runtime": self.runtime, "precision": self.precision, "_entry": self._entry}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["runtime"], state["_entry"], state["precision"])  # type: ignore[misc]


@torch.no_grad()
def _convert(runtime: Runtime, network: nn.Module, example: Tensor) -> Entry:
    size = list(example.shape[-2:])
    try:
        with quiet_exporters():
            files = runtime.convert(network, torch.cat([example, example.flip(-1)]))
        run = ConvertedNetwork(runtime, Entry(files, {"any_size": True}), "float32")
        # Of three kinds: what depends on the numbers in an image was lost by the trace.
        same = _agrees(network, run, [example, -example, torch.cat([example, example / 4])])
    except Exception as error:  # exporters, and what traces the code of a network, raise whatever they like
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise NotConvertible(reason) from None
    if not same:
        raise NotConvertible("its maps would be others")
    larger = functional.pad(example, (0, _PADDING, 0, 2 * _PADDING), value=0.5)
    try:
        any_size = _agrees(network, run, [torch.cat([larger, -larger, larger / 2]), larger.mT])
    except Exception:  # either takes no other size, and says so each in its own way
        any_size = False
    return Entry(files, {"any_size": any_size, "example_size": size})


def _agrees(network: nn.Module, converted: ConvertedNetwork, examples: Sequence[Tensor]) -> bool:
    """Whether both give the same maps, but for rounding."""
    return all(
        one.shape == other.shape and float((one - other).abs().max()) <= TOLERANCE * float(one.abs().max())
        for images in examples
        for one, other in zip(network(images), converted(images), strict=True)
    )
