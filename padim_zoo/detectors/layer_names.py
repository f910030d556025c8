"""The layers that a detector's parameters name and count, looked at before the backbone is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from padim_zoo.backbones.stages import default_layers
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.detectors.config import check_whole_number

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector


def check_names(layers: Any) -> None:
    """Refuse what names no layers.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    if layers is None or isinstance(layers, str):  # a text gets a line of its own
        return
    if not isinstance(layers, Sequence) or not layers or not all(isinstance(name, str) for name in layers):
        raise InputError(f"layers is {layers!r}: expected names of layers, or None for the usual ones")


def check_levels(detector: BackboneDetector[Any], levels: Any, default: int) -> None:
    """Refuse what does not count layers, and more than there are.

    The default may be more: then all layers are used. A backbone that does not name its layers is not checked.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    check_whole_number("levels", levels, 1)
    backbone, layers = detector.backbone, detector.layers
    if layers is None:
        if isinstance(backbone, str):
            layers = detector.layers_wanted(backbone) or default_layers(backbone)
        else:
            layers = getattr(backbone, "layers", None)  # what is no backbone is told when it is used
    if layers and levels > max(len(layers), default):
        raise InputError(
            f"levels is {levels}, but there are {number_of(len(layers), 'layer')} ({', '.join(layers)}): expected at "
            f"most {len(layers)}, or more --layers"
        )
