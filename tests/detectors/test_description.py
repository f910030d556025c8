"""What a detector at work says of the runtime that it asked to be chosen."""

from __future__ import annotations

import numpy as np
import pytest

from padim_zoo import PaDiM
from padim_zoo.detectors.description import describe_runtime
from padim_zoo.runtimes.runtime import Runtime

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("is_installed", "told"),
    [(True, "torch: these images do not repay another"), (False, "torch: no other is installed")],
)
def test_why_auto_stays_with_torch(monkeypatch: pytest.MonkeyPatch, is_installed: bool, told: str) -> None:
    monkeypatch.setattr(Runtime, "is_installed", is_installed)
    asked, usual = (PaDiM(resize=64, precision="float32", runtime=runtime).fit(IMAGES) for runtime in ("auto", None))
    assert describe_runtime(asked) == told
    assert describe_runtime(usual) == ""


def test_why_auto_stays_with_torch_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "is_installed", True)
    options = {"precision": "float32", "runtime": "auto", "n_components": 4}
    large = np.repeat(IMAGES, 9, axis=1).repeat(9, axis=2)
    told = "torch: images of more than 512x512 pixels take less memory there"
    assert describe_runtime(PaDiM(resize=576, crop=None, **options).fit(large)) == told
    in_tiles = PaDiM(resize=576, crop=None, tiles="192+0", **options).fit(large)
    assert describe_runtime(in_tiles) == "torch: these images do not repay another"
