"""Images and fitted detectors for tests of exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from padim_zoo import PaDiM

SMALL: dict[str, Any] = {"resize": 72, "crop": 64, "device": "cpu"}


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Noisy stripes, (16, 80, 80, 3), uint8; the last four with a dark square."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(80) / 3)[None, None, :, None]
    drawn = np.clip(stripes + rng.normal(0, 25, (16, 80, 80, 3)), 0, 255).astype(np.uint8)
    drawn[12:, 30:50, 20:40] = 10
    return drawn


@pytest.fixture(scope="session")
def files(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same as files."""
    folder = tmp_path_factory.mktemp("stripes")
    paths = [folder / f"{number:02d}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture(scope="session")
def model(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved PaDiM with a threshold."""
    detector = PaDiM(n_components=12, **SMALL).fit(images[:12])
    detector.calibrate(false_alarm_rate=0.2)
    path = tmp_path_factory.mktemp("model") / "stripes.safetensors"
    detector.save(path)
    return path
