"""check_detector passes the package's own detectors, and says in words what is wrong with broken ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo import InputError, MahalanobisAD, PaDiM, Prediction, registry
from padim_zoo.testing import ContractError, check_detector


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registry.detectors.names()
    monkeypatch.setattr(registry.detectors, "_entries", dict(registry.detectors._entries))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("padim", {"backbone": "scattering", "n_components": 20}),
        ("padim", {"estimator": "diagonal", "layers": ("stage1", "stage2")}),
        ("patchcore(coreset_ratio=0.5)", {"layers": ("stage2",)}),
        ("patchcore(coreset_ratio=0.5, radius=1)", {"layers": ("stage2",)}),
        ("padim(register='auto')", {"backbone": "scattering", "n_components": 20}),
        ("spade", {}),
        ("subspace", {"layers": ("stage2",), "levels": 1}),
        ("patchcore(coreset_ratio=0.5, score='mean(0.01)')", {"layers": ("stage2",)}),
        ("mahalanobis-ad", {}),
        (
            "stfpm(epochs=12, learning_rate=0.05, train_batch=4)",
            {"backbone": "timm/resnet10t", "weights": "none", "layers": ("layer1",)},
        ),
    ],
    ids=str,
)
def test_own_detectors_keep_the_contract(spec: str, options: dict[str, Any]) -> None:
    check_detector(spec, **options)


SMALL = {"backbone": "scattering", "n_components": 6, "layers": ("scale2",)}
"""A detector that takes no time."""


class PlainClass:
    pass


class Sound(PaDiM):
    name = "broken"


class OtherName(PaDiM):
    name = "padim"


class Opposite(Sound):
    def score_embeddings(self, model, embeddings):
        found = super().score_embeddings(model, embeddings)
        return Prediction(-found.scores, -found.maps, found.threshold)


class Transposed(Sound):
    def score_embeddings(self, model, embeddings):
        found = super().score_embeddings(model, embeddings)
        return Prediction(found.scores, found.maps.swapaxes(1, 2), found.threshold)


class OfTheBatch(Sound):
    score_is_map_maximum = False

    def score_embeddings(self, model, embeddings):
        found = super().score_embeddings(model, embeddings)
        return Prediction(found.scores / found.scores.max(), found.maps, found.threshold)


class NoMaximum(Sound):
    def score_embeddings(self, model, embeddings):
        found = super().score_embeddings(model, embeddings)
        return Prediction(found.maps.mean((1, 2)), found.maps, found.threshold)


class Double(Sound):
    def score_embeddings(self, model, embeddings):
        found = super().score_embeddings(model, embeddings)
        return Prediction(found.scores.astype(np.float64), found.maps, found.threshold)


class ShortFit(Sound):
    def fit(self, images):
        return super().fit(images)


class NoSelf(Sound):
    def fit(self, images, y=None):
        super().fit(images, y)


class Gathering(Sound):
    def fit(self, images, y=None):
        return self.partial_fit(images)


class Keeping(Sound):
    def fit(self, images, y=None):
        calibration = self.calibration_
        super().fit(images, y)
        self.calibration_ = calibration
        return self


class Altered(Sound):
    def model_arrays(self, *, resumable, half):
        arrays, own = super().model_arrays(resumable=resumable, half=half)
        return {name: array * 2 if name.startswith("mean") else array for name, array in arrays.items()}, own


class OneKey(Sound):
    @property
    def features_key(self):
        return "key"


class Eager(MahalanobisAD):
    name = "broken"

    def __init__(self, backbone="scattering", *, layers=("scale2",), n_components=6, resize=None, crop=None):
        super().__init__(backbone, layers=list(layers), resize=resize, crop=crop)
        self.n_components = n_components * 2


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (OtherName, "registration", "its name is 'padim': expected the registered one, 'broken'"),
        (Eager, "parameters", "n_components=6 was given, and 12 is kept: expected it unchanged"),
        (Opposite, "anomalies", "expected a larger score to be more anomalous"),
        (Transposed, "predictions", r"maps have the shape \(6, 64, 48\): expected \(6, 48, 64\)"),
        (OfTheBatch, "batch invariance", "another score when it is scored alone"),
        (NoMaximum, "predictions", "scores are not the maxima of the maps: set score_is_map_maximum = False"),
        (Double, "predictions", "scores are float64: expected float32"),
        (ShortFit, "labeled images", r"fit takes no labels .*: expected fit\(images, y=None\)"),
        (NoSelf, "predictions", "fit does not return the detector"),
        (Gathering, "determinism", "a fit does not forget an earlier fit"),
        (Gathering, "labeled images", "images labeled -1 change the fit: leave them out"),
        (Keeping, "calibration", "a new fit keeps the threshold of the old one"),
        (Altered, "model file", "after loading it scores .* before"),
        (OneKey, "features", "features_key is the same with another resize"),
    ],
)
def test_what_is_wrong_is_told(broken: Any, check: str, words: str) -> None:
    registry.detectors.register("broken", summary="for tests")(broken)
    with pytest.raises(ContractError) as caught:
        check_detector("broken", **SMALL)
    found = [each.message for each in caught.value.violations if each.check == check]
    assert re.search(words, "; ".join(found)), str(caught.value)


def test_a_sound_detector_passes_and_others_are_told_at_once() -> None:
    registry.detectors.register("broken", summary="for tests")(Sound)
    check_detector("broken", **SMALL)
    with pytest.raises(
        ContractError, match=r"creation: cannot be made with .*no_such_option=1.*has no parameter 'no_such_option'"
    ):
        check_detector("broken", no_such_option=1)
    registry.detectors.register("no-detector", summary="for tests")(PlainClass)
    with pytest.raises(
        ContractError, match=r"creation: is a PlainClass: expected a padim_zoo.detectors.detector.Detector"
    ):
        check_detector("no-detector")
    with pytest.raises(InputError, match="unknown detector 'brokem'"):
        check_detector("brokem")
