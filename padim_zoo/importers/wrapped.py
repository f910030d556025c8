"""A detector of padim-zoo inside a checkpoint of anomalib, where the plugin padim-zoo-anomalib put it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.loading import detector_in
from padim_zoo.detectors.storage import DetectorInMemory

_HEADER = "model.header"
_ARRAYS = "model.arrays."


@dataclass
class WrappedDetector:
    """Header and arrays of a detector, as a model file of padim-zoo holds them."""

    path: Path
    header: dict[str, Any]
    arrays: dict[str, Tensor]
    source: str = "padim-zoo in anomalib"
    notes: list[str] = field(default_factory=list)

    def detector(self) -> Detector:
        """The fitted detector."""
        absent = [name for name in ("detector", "parameters", "image_size", "n_images") if name not in self.header]
        if absent:
            raise InputError(f"{self.path} is damaged: its header has no {', '.join(absent)}; save it again")
        return detector_in(DetectorInMemory(self.path, self.header, tensors=self.arrays))


def is_wrapped(content: Any) -> bool:
    """Whether what a file holds is such a checkpoint."""
    return isinstance(content, Mapping) and _HEADER in (content.get("state_dict") or {})


def read_wrapped(content: Mapping[str, Any], path: Path) -> WrappedDetector:
    """The detector in a checkpoint, with the transform of the pre-processor around it.

    Raises
    ------
    InputError
        If the checkpoint is damaged.
    """
    state, settings = content["state_dict"], content.get("hyper_parameters", {})
    try:
        header = read_json(bytes(state[_HEADER].tolist()))
        header["parameters"] |= {name: settings[name] for name in ("resize", "crop")}
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds a detector whose header cannot be read: {error}") from None
    arrays = {name.removeprefix(_ARRAYS): array for name, array in state.items() if name.startswith(_ARRAYS)}
    return WrappedDetector(path, header, arrays)
