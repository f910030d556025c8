"""A fit and a prediction of PaDiM read from top to bottom: no call goes back up a floor of the house."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import sklearn.model_selection  # noqa: F401  its import takes a minute where every call is noted

from padim_zoo import PaDiM
from tests.architecture.test_layering import PACKAGE, floors

FLOORS = floors()
SERVANTS = {"core", "registry"}
"""Floors that call what they are given: blocks of arrays in threads, factories by name."""


@cache
def package_of(file: str) -> str | None:
    """The package of ours that a file is in."""
    return Path(file).relative_to(PACKAGE).parts[0] if file.startswith(str(PACKAGE)) else None


def upward_calls(action: Callable[[], Any]) -> set[str]:
    """The calls from a lower floor to a higher one, in all threads."""
    calls: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        package = package_of(frame.f_code.co_filename) if event == "call" else None
        caller = frame.f_back
        while caller is not None and package_of(caller.f_code.co_filename) is None:
            caller = caller.f_back
        if package not in FLOORS or caller is None:
            return
        origin = package_of(caller.f_code.co_filename)
        if origin in FLOORS and origin not in SERVANTS and FLOORS[package] < FLOORS[origin]:
            calls.add(f"{origin}: {caller.f_code.co_name} -> {package}: {frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    return calls


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 48, 48, 3), dtype=np.uint8)


def small() -> PaDiM:
    return PaDiM(n_components=6, resize=None, crop=None, precision="float32")


def test_a_fit_goes_down(images: np.ndarray) -> None:
    detector = small()
    assert upward_calls(lambda: detector.fit(images).gaussian_) == set()


def test_a_prediction_and_a_threshold_go_down(images: np.ndarray) -> None:
    detector = small().fit(images)
    assert upward_calls(lambda: (detector.predict(images), detector.calibrate())) == set()


def test_a_call_upward_is_found(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from padim_zoo.features.reduction import RandomChannels

    detector = small().fit(images)
    apply = RandomChannels.apply
    source = "def applied(self, features):\n    detector.check_parameters()\n    return apply(self, features)"
    names: dict[str, Any] = {"detector": detector, "apply": apply}
    exec(compile(source, str(PACKAGE / "features" / "reduction.py"), "exec"), names)
    monkeypatch.setattr(RandomChannels, "apply", names["applied"])
    assert upward_calls(lambda: detector.predict(images)) == {"features: applied -> detectors: check_parameters"}
