"""A detector with a parameter of its own takes one short file, and works wherever a name does."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.base import clone

from padim_zoo import load, registry
from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate
from padim_zoo.testing import check_detector
from padim_zoo.testing.images import anomalous_images, normal_images

PLUGIN = Path(__file__).parent / "toy_detector.py"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plugin registers is forgotten after a test."""
    for kind in registry.REGISTRIES.values():
        kind.names()
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))
    registry.load_plugin(PLUGIN)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_is_short() -> None:
    assert len(PLUGIN.read_text(encoding="utf-8").splitlines()) < 80


def test_it_keeps_the_contract() -> None:
    check_detector("toy-nearest(k=3)", backbone="scattering")


def test_its_parameters_are_those_of_a_scikit_learn_estimator() -> None:
    detector = registry.detectors.create("toy-nearest(k=3)", backbone="scattering", sigma=1.0)
    assert (
        repr(detector)
        == repr(clone(detector))
        == "ToyNearest('scattering', sigma=1.0, k=3)".replace("'scattering'", "backbone='scattering'")
    )
    assert detector.config.k == detector.get_params()["k"] == 3
    assert len({detector, clone(detector)}) == 2
    assert detector.set_params(k=5).k == 5
    with pytest.raises(AttributeError, match="use set_params"):
        detector.config.k = 1


def test_it_is_saved_loaded_and_exported(tmp_path: Path) -> None:
    images = np.concatenate([normal_images(4, 48, 48, seed=7), anomalous_images(2, 48, 48)])
    detector = registry.detectors.create("toy-nearest", resize=None, crop=None).fit(normal_images(8, 48, 48))
    detector.calibrate(false_alarm_rate=0.3)
    detector.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    expected = detector.predict(images)
    np.testing.assert_allclose(loaded.predict(images).maps, expected.maps, rtol=1e-5)
    assert loaded.predict(images).threshold == expected.threshold
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None:
        pytest.skip("needs onnx: pip install 'padim-zoo[onnx]'")
    from padim_zoo.export.exporting import export
    from padim_zoo.export.runtimes import ExportedModel

    export(loaded, tmp_path / "model.onnx", "onnx", images=list(images))
    found = ExportedModel(tmp_path / "model.onnx").predict(list(images))
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3)
    np.testing.assert_array_equal(found.scores > expected.threshold, expected.anomalous)


def test_it_is_benchmarked(tmp_path: Path) -> None:
    generate(tmp_path / "images", categories=["gear"], train=4, good=2, defects_per_kind=1, size=48)
    sizes = ("--resize", "none", "--crop", "none", "--folds", 1)
    grid = ("--detectors", "toy-nearest,toy-nearest(k=1)", "--backbones", "scattering", "--output", tmp_path / "runs")
    run("bench", "--plugin", PLUGIN, "--data-root", tmp_path / "images", *grid, *sizes)
    table = pd.read_csv(io.StringIO(run("leaderboard", tmp_path / "runs", "--format", "csv")))
    assert set(table["detector"]) == {"toy-nearest", "toy-nearest(k=1)"}
    assert table["image_auroc"].notna().all()
