"""Parameters of PaDiM: what is refused, and what a change of one leaves of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo import SPADE, InputError, PaDiM, PatchCore, Subspace
from padim_zoo.detectors.loading import load
from padim_zoo.registry import detectors

SMALL = {"weights": "none", "resize": 40, "crop": 32, "n_components": 12}
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 40, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("seed", -1, "from 0 to 4294967295"),
        ("seed", 2**32, "from 0 to 4294967295"),
        ("seed", 0.5, "whole number"),
        ("seed", None, "whole number"),
        ("sigma", -1, "number of pixels"),
        ("sigma", float("nan"), "number of pixels"),
        ("sigma", float("inf"), "number of pixels"),
        ("sigma", "4", "number of pixels"),
        ("sigma", 1e9, "at most 32"),
        ("n_components", 0, "at least 1"),
        ("n_components", 2.5, "whole number"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", True, "whole number"),
        ("memory", 0, "at least 1"),
        ("memory", 1e9, "whole number"),
        ("layers", "layer1", "sequence of names"),
        ("layers", 2, "names of layers"),
        ("layers", (1, 2), "names of layers"),
        ("layers", (), "names of layers"),
        ("weights", 2, "text"),
        ("device", 1.5, "text"),
        ("precision", [], "text"),
        ("pad_mode", [], "symmetric"),
        ("estimator", 0.1, "registered name"),
        ("resize", -3, "an integer from 1"),
    ],
)
def test_what_is_refused(parameter, value, words):
    detector = PaDiM(**{**SMALL, parameter: value})
    with pytest.raises(InputError, match=f"{parameter} is .*{words}") as caught:
        detector.fit(IMAGES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        *((f"{name}(levels=9)", "levels is 9, but there are 3 layers") for name in ("patchcore", "spade", "subspace")),
        ("subspace(levels=3, layers=('stage1', 'stage2'))", r"there are 2 layers \(stage1, stage2\)"),
        ("patchcore(levels=4, backbone='resnet18')", "there are 3 layers"),
        ("mahalanobis-ad(covariance=9)", "covariance is 9: expected text"),
        ("stfpm(learning_rate='x')", "learning_rate is 'x': expected a number"),
        ("stfpm(checkpoint=9)", "checkpoint is 9: expected text"),
    ],
)
def test_what_specs_are_refused(spec, words):
    """In one line, before the backbone is made and any image is read."""
    detector = detectors.create(spec)
    with pytest.raises(InputError, match=words) as caught:
        detector.fit(iter([]))
    assert "\n" not in str(caught.value)
    assert detector.backbone_ is None


@pytest.mark.parametrize("spec", ["subspace(layers=('stage3',))", "spade(levels=3)", "patchcore(levels=3)"])
def test_all_layers_may_be_used(spec):
    """And the default number of levels goes with fewer layers."""
    assert len(detectors.create(spec, resize=40).fit(IMAGES[:4]).predict(IMAGES[:2])) == 2


@pytest.mark.parametrize("folds", [1, 2.5, "five"])
def test_folds_are_two_or_more(folds):
    with pytest.raises(InputError, match=r"folds is .*at least 2"):
        PaDiM(**SMALL).fit(IMAGES).calibrate(folds=folds)


def test_numbers_of_numpy_are_numbers(tmp_path):
    detector = PaDiM(**SMALL, seed=np.int64(3), sigma=np.float32(2), batch_size=np.int32(4)).fit(IMAGES)
    detector.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").get_params()["seed"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"n_components": 7},
        {"reduction": "orthogonal"},
        {"resize": 36},
        {"layers": ("stage1",)},
        {"backbone": "resnet18"},
        {"precision": "bfloat16"},
    ],
)
def test_a_changed_parameter_drops_the_fit_and_holds_in_the_next(change):
    detector = PaDiM(**SMALL).fit(IMAGES)
    detector.calibrate()
    detector.set_params(**change)
    assert detector.threshold_ is None
    with pytest.raises(InputError, match="not fitted"):
        detector.predict(IMAGES)
    fresh = PaDiM(**{**SMALL, **change}).fit(IMAGES).predict(IMAGES)
    np.testing.assert_array_equal(detector.partial_fit(IMAGES).predict(IMAGES).scores, fresh.scores)


def test_another_sigma_or_estimator_needs_no_images_but_a_new_threshold(tmp_path):
    loaded_from = tmp_path / "model.safetensors"
    detector = PaDiM(**SMALL).fit(IMAGES)
    detector.save(loaded_from)
    for change in ({"sigma": 1.0}, {"estimator": "ledoit-wolf"}):
        fresh = PaDiM(**{**SMALL, **change}).fit(IMAGES)
        for changed in (PaDiM(**SMALL).fit(IMAGES), load(loaded_from)):
            changed.calibrate()
            changed.set_params(**change)
            assert changed.threshold_ is None
            np.testing.assert_allclose(changed.predict(IMAGES).scores, fresh.predict(IMAGES).scores, rtol=1e-5)
            assert changed.calibrate().threshold == pytest.approx(fresh.calibrate().threshold, rel=1e-5)


def test_equal_values_and_those_of_speed_change_nothing():
    detector = PaDiM(**SMALL).fit(IMAGES)
    detector.calibrate()
    threshold = detector.threshold_
    detector.set_params(seed=0, resize=40, batch_size=3, memory=10**9)
    assert detector.predict(IMAGES).threshold == threshold is not None


def test_an_unknown_parameter_changes_none():
    detector = PaDiM(**SMALL)
    with pytest.raises(ValueError, match="no parameter 'color'"):
        detector.set_params(seed=3, color="red")
    assert detector.seed == 0


@pytest.mark.parametrize("backbone", [None, 3, torch.nn.Identity()])
@pytest.mark.parametrize("detector", [PatchCore, SPADE, Subspace])
def test_what_is_no_backbone_is_told_in_one_line(detector: Any, backbone: Any) -> None:
    with pytest.raises(InputError, match="the backbone is a"):
        detector(backbone=backbone).build_backbone()
