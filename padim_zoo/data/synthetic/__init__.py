"""A synthetic data set for anomaly detection: drawn, not downloaded, with exact masks.

Four textures and four objects in the layout of MVTec AD, with scratches, cracks, stains, missing and
misplaced parts at several contrasts and sizes. Every picture is a function of a seed and of its name.
"""

from __future__ import annotations

from padim_zoo.data.synthetic.dataset import generate, synthetic
from padim_zoo.data.synthetic.scene import CATEGORIES, KINDS, OBJECTS, TEXTURES

__all__ = ["CATEGORIES", "KINDS", "OBJECTS", "TEXTURES", "generate", "synthetic"]
