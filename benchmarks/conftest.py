"""What all benchmarks share: images, features of them, and the calibration time beside the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo import PaDiM
from padim_zoo.bench.environment import describe_environment
from padim_zoo.features import Features

TRAINING, SIZE = 60, 128


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Where ``padim-zoo check`` looks for the calibration time, measured in this process."""
    machine_info["padim_zoo"] = describe_environment(jobs=1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache folder that begins empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADIM_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Smooth random images (TRAINING, SIZE, SIZE, 3), uint8."""
    coarse = torch.rand(TRAINING, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    return (255 * smooth).byte().permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(scope="session")
def resnet18() -> PaDiM:
    """PaDiM on an unfitted resnet18 with random weights: 100 dimensions, more than there are training images."""
    detector = PaDiM("resnet18", weights="none", resize=None, crop=None)
    detector.build_backbone()
    return detector


@pytest.fixture(scope="session")
def features(resnet18: PaDiM, images: np.ndarray) -> Features:
    """Features of all images."""
    return resnet18.extract(images)


@pytest.fixture(scope="session")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small category of the synthetic data set, in the folder that is returned."""
    from padim_zoo.data.synthetic import generate

    root = tmp_path_factory.mktemp("synthetic")
    return generate(root, categories=["gear"], train=20, good=6, defects_per_kind=2, size=SIZE)
