"""padim-zoo in anomalib, and anomalib in padim-zoo.

``PadimZoo`` is a model of anomalib: ``from padim_zoo_anomalib import PadimZoo``. anomalib is imported with it and no
sooner, since that takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_zoo_anomalib.lightning_model import PadimZoo as PadimZoo

__all__ = ["PadimZoo"]


def __getattr__(name: str) -> Any:
    if name == "PadimZoo":
        from padim_zoo_anomalib.lightning_model import PadimZoo

        return PadimZoo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
