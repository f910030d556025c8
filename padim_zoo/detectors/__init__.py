"""Detectors: images to anomaly scores and maps.

Names are imported at first use, so that :mod:`padim_zoo.detectors.config` is read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_zoo.detectors.detector import Detector as Detector
    from padim_zoo.detectors.ensemble import Ensemble as Ensemble
    from padim_zoo.detectors.loading import load as load
    from padim_zoo.detectors.loading import verify as verify
    from padim_zoo.detectors.mahalanobis_ad import MahalanobisAD as MahalanobisAD
    from padim_zoo.detectors.padim import PaDiM as PaDiM
    from padim_zoo.detectors.patchcore import PatchCore as PatchCore
    from padim_zoo.detectors.prediction import Prediction as Prediction
    from padim_zoo.detectors.spade import SPADE as SPADE
    from padim_zoo.detectors.stfpm import STFPM as STFPM

_HOME = {
    "Detector": "detector",
    "Ensemble": "ensemble",
    "MahalanobisAD": "mahalanobis_ad",
    "PaDiM": "padim",
    "PatchCore": "patchcore",
    "Prediction": "prediction",
    "SPADE": "spade",
    "STFPM": "stfpm",
    "load": "loading",
    "verify": "loading",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
