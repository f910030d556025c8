"""padim-zoo: a model zoo and benchmark suite for image anomaly detection from normal images only, around PaDiM.

Names are imported at first use, so that ``import padim_zoo`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from padim_zoo.core.openmp import spin_briefly

if TYPE_CHECKING:
    from padim_zoo.core.errors import InputError as InputError
    from padim_zoo.data.transform import Transform as Transform
    from padim_zoo.detectors.ensemble import Ensemble as Ensemble
    from padim_zoo.detectors.loading import load as load
    from padim_zoo.detectors.mahalanobis_ad import MahalanobisAD as MahalanobisAD
    from padim_zoo.detectors.padim import PaDiM as PaDiM
    from padim_zoo.detectors.patchcore import PatchCore as PatchCore
    from padim_zoo.detectors.prediction import Prediction as Prediction
    from padim_zoo.detectors.scorer import Scorer as Scorer
    from padim_zoo.detectors.spade import SPADE as SPADE
    from padim_zoo.detectors.stfpm import STFPM as STFPM
    from padim_zoo.detectors.subspace import Subspace as Subspace
    from padim_zoo.registry import load_plugin as load_plugin
    from padim_zoo.report.file_description import describe_file as describe_file
    from padim_zoo.report.notebook import Leaderboard as Leaderboard

__version__ = "0.1.0"

_HOME = {
    "Ensemble": "padim_zoo.detectors.ensemble",
    "InputError": "padim_zoo.core.errors",
    "Leaderboard": "padim_zoo.report.notebook",
    "MahalanobisAD": "padim_zoo.detectors.mahalanobis_ad",
    "PaDiM": "padim_zoo.detectors.padim",
    "PatchCore": "padim_zoo.detectors.patchcore",
    "Prediction": "padim_zoo.detectors.prediction",
    "STFPM": "padim_zoo.detectors.stfpm",
    "Subspace": "padim_zoo.detectors.subspace",
    "Scorer": "padim_zoo.detectors.scorer",
    "SPADE": "padim_zoo.detectors.spade",
    "Transform": "padim_zoo.data.transform",
    "describe_file": "padim_zoo.report.file_description",
    "load": "padim_zoo.detectors.loading",
    "load_plugin": "padim_zoo.registry",
}

__all__ = [*_HOME, "__version__"]

spin_briefly()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
