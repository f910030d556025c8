"""anomalib's models in the zoo give what anomalib gives, time and again, and are saved without pickle or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from padim_zoo_anomalib.catalog import CATALOG, LEFT_OUT

import padim_zoo
from padim_zoo.cli.main import main
from padim_zoo.plugin import InputError, backbones, detectors

SMALL = {"resize": 64, "crop": None, "weights": "none"}


def made(name: str, **options):
    return detectors.create(f"anomalib/{name}", **{**SMALL, **options})


def test_the_catalog_has_every_model_that_learns_from_normal_images():
    import anomalib.models.image as image
    from anomalib.models.components import AnomalibModule

    models = {
        name
        for name, kind in vars(image).items()
        if isinstance(kind, type) and issubclass(kind, AnomalibModule) and kind is not AnomalibModule
    }
    assert models == {*CATALOG, *LEFT_OUT}


def test_padim_scores_as_anomalib_does(good, test_files):
    from anomalib.data.utils import read_image
    from anomalib.models import Padim

    detector = made("Padim", n_components=30, seed=1).fit(good)
    found = detector.predict(test_files)

    torch.manual_seed(1)
    model = Padim("resnet18", n_features=30, pre_trained=False, pre_processor=Padim.configure_pre_processor((64, 64)))
    network = backbones.create("resnet18", weights="none").state_in_use()
    model.model.feature_extractor.feature_extractor.load_state_dict(network, strict=False)
    model.model.idx = detector.model_.model.idx
    prepare = model.pre_processor.transform
    with torch.no_grad():
        model.model.train()
        model.model(prepare(torch.stack([read_image(path, as_tensor=True) for path in good])))
        model.model.fit()
        expected = model.model.eval()(prepare(torch.stack([read_image(path, as_tensor=True) for path in test_files])))
    np.testing.assert_allclose(found.scores, expected.pred_score.flatten(), rtol=1e-4)
    np.testing.assert_allclose(found.maps, expected.anomaly_map[:, 0], rtol=1e-4)


def test_padim_of_anomalib_and_of_the_zoo_are_one_method(good, test_files):
    """All channels, so that neither draws: they differ in anomalib's 1e-5 and its edges alone."""
    same = {"n_components": 64, "layers": ("layer1",)}
    theirs = made("Padim", **same).fit(good).predict(test_files)
    ours = padim_zoo.PaDiM("resnet18", "full(0.01001)", pad_mode="reflect", precision="float32", **same, **SMALL)
    ours.fit(good)
    np.testing.assert_allclose(ours.predict(test_files).scores, theirs.scores, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Padim", {"n_components": 20}),
        ("Patchcore", {}),
        ("Dfm", {}),
        ("Stfpm", {"max_epochs": 1}),
        ("Fastflow", {"max_epochs": 1}),
    ],
)
def test_fitted_twice_they_are_the_same_and_so_they_are_after_loading(name, options, good, test_files, tmp_path):
    detector, again = made(name, **options), made(name, **options)
    before = torch.get_rng_state()
    first = detector.fit(good).predict(test_files)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)  # what else draws plays no part
    second = again.fit(good).predict(test_files)
    np.testing.assert_allclose(first.scores, second.scores, rtol=1e-5)
    assert first.maps is None or first.maps.shape == (len(test_files), 64, 64)
    assert detector.size_in_bytes() > 0
    detector.save(tmp_path / "model.safetensors")
    loaded = padim_zoo.load(tmp_path / "model.safetensors").predict(test_files)
    np.testing.assert_allclose(loaded.scores, first.scores, rtol=1e-5)


def test_a_model_whose_state_is_not_in_tensors_is_not_saved(good, tmp_path, monkeypatch):
    detector = made("Padim", n_components=20).fit(good)
    forward = detector.model_.model.forward
    offset = 1.0

    def moved(images):
        found = forward(images)
        return found._replace(pred_score=found.pred_score + offset)

    monkeypatch.setattr(detector.model_.model, "forward", moved)
    with pytest.raises(InputError, match="cannot be saved without pickle"):
        detector.save(tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_a_threshold_from_folds(good, test_files, tmp_path):
    detector = made("Padim", n_components=20).fit(good)
    calibration = detector.calibrate(folds=2)
    assert len(calibration.scores) == len(good)
    detector.save(tmp_path / "model.safetensors")
    loaded = padim_zoo.load(tmp_path / "model.safetensors")
    assert loaded.predict(test_files).threshold == pytest.approx(calibration.threshold)
    with pytest.raises(InputError, match="fit again"):
        loaded.calibrate()


def test_groups_are_held_out_together(good):
    detector = made("Padim", n_components=20).fit(good)
    groups = np.arange(len(good)) // 2
    calibration = detector.calibrate(folds=2, groups=groups)
    assert calibration.n_groups == len(np.unique(groups))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Stfpm", {}, r"give the number of epochs, e.g. anomalib/Stfpm\(max_epochs=100\)"),
        ("Padim", {"backbone": "builtin"}, "timm, which has no 'builtin'"),
        ("Patchcore", {"max_epochs": 5}, "looks at each image once"),
        ("Patchcore", {"options": {"n_neighbors": 5}}, "n_neighbors"),
        ("Dfm", {"layers": ("layer1", "layer2")}, "takes one layer"),
        ("Patchcore", {"resize": 0}, "resize is 0"),
    ],
)
def test_bad_input_is_told_in_a_line(name, options, message, good):
    with pytest.raises(InputError, match=message):
        made(name, **options).fit(good)


def test_weights_that_lack_a_layer_are_refused(good, tmp_path):
    state = backbones.create("resnet18", layers=("layer1",), weights="none").state_in_use()
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(InputError, match=r"layer2|lack|missing"):
        made("Padim", weights=str(tmp_path / "part.pth")).fit(good)


def test_a_benchmark_of_both(images, folder):
    detectors = "padim,anomalib/Padim,anomalib/Patchcore(options={'num_neighbors': 1}),anomalib/Stfpm(max_epochs=1)"
    arguments = ["bench", "--dataset", "anomalib/MVTecAD", "--data-root", str(images), "--detectors", detectors]
    arguments += ["--backbones", "resnet18", "--weights", "none", "--estimators", "full", "--folds", "2"]
    result = CliRunner().invoke(main, [*arguments, "--resize", "64", "--crop", "none", "--output", "runs"])
    assert result.exit_code == 0, result.output
    table = CliRunner().invoke(main, ["leaderboard", "runs"]).output
    for name in ("padim", "anomalib/Padim", "anomalib/Stfpm"):
        assert name in table
    assert "failed" not in table


def test_fit_and_predict_on_the_command_line(images, folder):
    good, test = str(images / "gear" / "train" / "good"), str(images / "gear" / "test")
    fit = ["fit", good, "--detector", "anomalib/Patchcore", "--weights", "none", "--resize", "64", "--crop", "none"]
    result = CliRunner().invoke(main, [*fit, "--folds", "2", "-o", "model.safetensors"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["predict", "model.safetensors", test])
    assert result.exit_code in (0, 1), result.output
    assert "scratch/000.png" in result.output
