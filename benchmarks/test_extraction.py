"""Time of the first stage: decoding and transforming files, and the backbone's forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PRECISIONS, Beside
from references import BareNetwork, decode

from padim_zoo import PaDiM
from padim_zoo.data.loading import batches
from padim_zoo.data.transform import Transform


def test_files(beside: Beside, category: Path) -> None:
    """Decode and resize 20 files, beside Pillow alone."""
    files = sorted((category / "gear" / "train" / "good").glob("*.png"))
    transform = Transform(resize=96, crop=None)
    loaded = beside(
        lambda: decode(files, 96),
        lambda: sum(len(batch) for batch in batches(files, transform, batch_size=32)),
        "Pillow",
    )
    assert loaded == len(files)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backbone", ["builtin", "resnet18"])
def test_features(beside: Beside, unseen: np.ndarray, backbone: str, precision: str) -> None:
    """Extract the features of 32 decoded images, beside torchvision's resnet18."""
    weights = "none" if backbone == "resnet18" else "default"
    detector = PaDiM(backbone, weights=weights, resize=None, crop=None, precision=precision)
    network = BareNetwork(getattr(torch, precision))
    features = beside(lambda: network(unseen), lambda: detector.extract(unseen), "bare resnet18")
    assert len(features) == len(unseen)
