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
import torch
from PIL import Image

from padim_zoo import PaDiM
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples
from tests.architecture.test_layering import PACKAGE, floors

MOST_FILES = 15
"""That the way of an image from a fit to its Gaussian may lead through."""

FLOORS = floors()
SERVANTS = {"core", "registry"}
"""Floors that call what they are given: blocks of arrays in threads, factories by name."""


@cache
def package_of(file: str) -> str | None:
    """The package of ours that a file is in."""
    return Path(file).relative_to(PACKAGE).parts[0] if file.startswith(str(PACKAGE)) else None


NOT_COUNTED = {"core", "cache", "registry"}
"""Packages that are no part of the way: what any floor uses, what is kept on disk, what makes things by name."""

ASIDE = {"data/image_hashes.py"}
"""Files that are handed an image, but nothing that the Gaussian depends on comes of it."""

HELD = (Image.Image, np.ndarray, torch.Tensor, Features, PatchEmbeddings, Samples, Moments, Gaussian)
"""The forms that an image takes on its way."""


def files_that_an_image_meets(action: Callable[[], Any]) -> list[str]:
    """Files of which a function is handed an image, or what has been made of it."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        package = package_of(frame.f_code.co_filename) if event == "call" else None
        if package is None or package in NOT_COUNTED or frame.f_code.co_name == "<module>":
            return
        if any(holds_image(value) for value in frame.f_locals.values()):
            files.add(str(Path(frame.f_code.co_filename).relative_to(PACKAGE)))

    profile(note, action)
    return sorted(files - ASIDE)


def holds_image(value: Any) -> bool:
    """Whether a value is one of :data:`HELD`, or a sequence of these."""
    return isinstance(value, HELD) or (isinstance(value, (tuple, list)) and any(map(holds_image, value)))


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

    profile(note, action)
    return calls


def profile(note: Callable[[FrameType, str, Any], None], action: Callable[[], Any]) -> None:
    """Call ``note`` at each call in all threads that the action starts."""
    before = sys.getprofile()
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 48, 48, 3), dtype=np.uint8)


def small() -> PaDiM:
    return PaDiM(n_components=6, resize=None, crop=None, precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, 72 × 80 pixels."""
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for number in range(100):
        Image.fromarray(rng.integers(0, 256, (72, 80, 3), dtype=np.uint8)).save(folder / f"{number:03}.png")
    return folder


# The built-in backbone has 64 components: the form differs below 36 images, from there to 64, and above.
@pytest.mark.parametrize(
    ("count", "form"), [(6, "dual"), (35, "dual"), (36, "samples"), (64, "samples"), (65, "nested"), (100, "nested")]
)
def test_the_way_to_the_gaussian_is_short(folder: Path, count: int, form: str) -> None:
    paths = sorted(folder.iterdir())[:count]
    detector = PaDiM(resize=64, crop=64)
    detector.build_backbone()
    files = files_that_an_image_meets(lambda: detector.fit(paths).gaussian_)
    print(f"{len(files)} files on the way to {form} Gaussians:", *files, sep="\n")
    assert detector.gaussian_.form == form
    assert len(files) <= MOST_FILES
    documented = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    assert [file for file in files if Path(file).name not in documented] == []


def test_a_fit_goes_down(images: np.ndarray) -> None:
    detector = small()
    assert upward_calls(lambda: detector.fit(images).gaussian_) == set()


def test_a_prediction_and_a_threshold_go_down(images: np.ndarray) -> None:
    detector = small().fit(images)
    assert upward_calls(lambda: (detector.predict(images), detector.calibrate())) == set()


def test_a_call_upward_is_found(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from padim_zoo.features.features import RandomChannels

    detector = small().fit(images)
    apply = RandomChannels.apply
    source = "def applied(self, features):\n    detector.check_parameters()\n    return apply(self, features)"
    names: dict[str, Any] = {"detector": detector, "apply": apply}
    exec(compile(source, str(PACKAGE / "features" / "features.py"), "exec"), names)
    monkeypatch.setattr(RandomChannels, "apply", names["applied"])
    assert upward_calls(lambda: detector.predict(images)) == {"features: applied -> detectors: check_parameters"}
