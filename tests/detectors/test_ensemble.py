"""Ensembles against their definition, member by member."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.optimize import minimize

from padim_zoo import Ensemble, InputError, MahalanobisAD, PaDiM, PatchCore
from padim_zoo.cli.main import main
from padim_zoo.detectors.combining import least_variance_weights
from padim_zoo.detectors.loading import load

SIZE = {"resize": 48, "crop": None}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (16, 48, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def members(images):
    made = [PaDiM(n_components=8, **SIZE), PatchCore(coreset_ratio=0.2, **SIZE), MahalanobisAD(**SIZE)]
    for member in made:
        member.fit(images[:12]).calibrate(false_alarm_rate=0.2)
    return made


@pytest.mark.parametrize("weights", ["uniform", "learned", [1, 2, 5]])
@pytest.mark.parametrize("rule", ["mean", "max", "rank"])
def test_combines_as_defined(images, members, rule, weights):
    ensemble = Ensemble(members, rule=rule, weights=weights)
    found = ensemble.predict(images)
    w = ensemble.weights_
    assert w.sum() == pytest.approx(1)
    scores, maps = [], []
    for member in members:
        one, own = member.predict(images), member.calibration_
        if rule == "rank":
            scores.append([np.mean(own.scores <= score) for score in one.scores])
        else:
            scores.append((one.scores - own.scores.mean()) / own.scores.std(ddof=1))
        if one.maps is not None:
            maps.append((one.maps - own.map_low) / (own.map_high - own.map_low))
    expected = np.max(scores, 0) if rule == "max" else w @ np.array(scores)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-4)
    together = np.max(maps, 0) if rule == "max" else (w[0] * maps[0] + w[1] * maps[1]) / (w[0] + w[1])
    np.testing.assert_allclose(found.maps, together, rtol=1e-3, atol=1e-4)


def test_learned_weights_are_those_of_least_variance():
    rng = np.random.default_rng(0)
    common = rng.normal(size=2000)
    noise = np.array([0.3, 1.0, 2.0, 0.5])
    scores = common + noise[:, None] * rng.normal(size=(4, 2000))
    scores = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    covariance = np.corrcoef(scores) + 0.01 * np.eye(4)
    best = minimize(
        lambda w: w @ covariance @ w,
        np.full(4, 0.25),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    ).x
    np.testing.assert_allclose(least_variance_weights(scores), best, atol=2e-3)


def test_the_threshold_holds_for_the_normal_images_that_made_it(members):
    ensemble = Ensemble(members)
    calibration = ensemble.calibrate(false_alarm_rate=0.2)
    assert np.mean(calibration.scores > calibration.threshold) <= 0.2


@pytest.mark.parametrize("weights", ["learned", [1, 2, 5]])
def test_a_file_scores_like_the_ensemble(images, members, tmp_path, weights):
    ensemble = Ensemble(members, weights=weights)
    ensemble.calibrate(false_alarm_rate=0.2)
    ensemble.save(tmp_path / "ensemble.safetensors")
    loaded = load(tmp_path / "ensemble.safetensors")
    assert loaded.threshold_ == pytest.approx(ensemble.threshold_, rel=1e-5)
    one, other = ensemble.predict(images), loaded.predict(images)
    np.testing.assert_allclose(other.scores, one.scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(other.maps, one.maps, rtol=1e-3, atol=1e-3)


def test_fits_all_members_at_once(images, members):
    fresh = Ensemble([PaDiM(n_components=8, **SIZE), PatchCore(coreset_ratio=0.2, **SIZE), MahalanobisAD(**SIZE)]).fit(
        images[:12]
    )
    expected = Ensemble(members).predict(images).scores
    np.testing.assert_allclose(fresh.predict(images).scores, expected, rtol=1e-3, atol=1e-3)


def test_refuses_members_that_do_not_go_together(images, members):
    with pytest.raises(InputError, match="are PaDiM: expected two or more"):
        Ensemble(members[:1]).predict(images)
    with pytest.raises(InputError, match="differ in their transforms"):
        Ensemble([members[0], PaDiM(resize=64)]).predict(images)
    with pytest.raises(InputError, match="no out-of-fold scores"):
        Ensemble([members[0], PaDiM(n_components=4, **SIZE).fit(images)]).predict(images)
    fewer = PaDiM(n_components=4, **SIZE).fit(images[:7])
    fewer.calibrate()
    with pytest.raises(InputError, match="7 and 12 normal images"):
        Ensemble([members[0], fewer]).predict(images)
    with pytest.raises(InputError, match="expected 3 numbers"):
        Ensemble(members, weights=[1, 2]).predict(images)
    with pytest.raises(InputError, match="rule is 'median'"):
        Ensemble(members, rule="median").predict(images)


def test_combine_makes_a_file_that_predicts(images, members, tmp_path):
    for number, member in enumerate(members):
        member.save(tmp_path / f"{number}.safetensors")
    for number, image in enumerate(images[12:]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, [part.replace("@", str(tmp_path)) for part in arguments])
        assert result.exit_code == code, result.output
        return result.output

    models = [f"@/{number}.safetensors" for number in range(3)]
    told = run("combine", *models, "-o", "@/all.safetensors", "--weights", "learned", "--fpr", "0.2")
    assert "mean of" in told
    assert "patchcore (builtin)" in told
    run("predict", "@/all.safetensors", "@/*.png", "-o", "@/found", "--pictures", "overlay", "--maps", "npy")
    assert len((tmp_path / "found" / "scores.csv").read_text().splitlines()) == 5
    assert len(list((tmp_path / "found").rglob("*.npy"))) == 4
    assert "expected two or more" in run("combine", models[0], "-o", "@/one.safetensors", code=2)
    assert not (tmp_path / "one.safetensors").exists()
    assert "is an ensemble" in run("combine", "@/all.safetensors", models[0], "-o", "@/x.safetensors", code=2)
    largest = run("combine", *models, "-o", "@/max.safetensors", "--rule", "max", "--fpr", "0.2")
    assert "max of padim (builtin), patchcore (builtin)" in largest
    weighted = ["-o", "@/x.safetensors", "--rule", "max", "--weights", "1,2,3"]
    assert "--rule max takes no --weights" in run("combine", *models, *weighted, code=2)
    twice = [models[0], models[1], models[0]]
    assert "0.safetensors is given twice" in run("combine", *twice, "-o", "@/x.safetensors", code=2)
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "copy.safetensors")
    copy = run("combine", models[0], "@/copy.safetensors", "-o", "@/x.safetensors", code=2)
    assert "copy.safetensors is the same detector as" in copy
    assert not (tmp_path / "x.safetensors").exists()
    assert "expected uniform, learned" in run("combine", *models, "-o", "@/x.safetensors", "--weights", "best", code=2)


@pytest.mark.parametrize("weights", [3, ["a", "b"], [1], [0, 0], [1, math.inf], [1, math.nan], [True, True]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InputError, match=r"weights are .*: expected 2 numbers, none negative and not all 0"):
        Ensemble([PaDiM(), PaDiM(seed=1)], weights=weights).check_parameters()
