"""``padim-zoo update``: fits continued on saved models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from padim_zoo import InputError, Subspace
from padim_zoo.core.file_lock import FileLock
from padim_zoo.detectors.loading import load
from padim_zoo.statistics.moments import Moments
from tests.command_line import run
from tests.image_files import write_noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    counts = {"old": 8, "new": 6, "more": 4}
    write_noise(root / part / f"{number}.png" for part, count in counts.items() for number in range(count))
    return root


def fit(model: Path, images: list[Path], *options: str) -> str:
    return run("fit", *images, "-o", model, "--resize", "none", "--crop", "none", *options)


@pytest.mark.parametrize("detector", ["padim", "spade", "mahalanobis-ad"])
def test_an_updated_model_is_one_fitted_on_all(folder, tmp_path, detector):
    part, whole = tmp_path / "part.safetensors", tmp_path / "whole.safetensors"
    assert "8 normal images" in fit(part, [folder / "old"], "--detector", detector)
    fit(whole, [folder / "old", folder / "new"], "--detector", detector, "--fpr", "0.2")
    told = run("update", part, folder / "new", "--fpr", "0.2", "-o", tmp_path / "new.safetensors")
    assert "6 normal images, 14 in all" in told
    new, expected = load(tmp_path / "new.safetensors"), load(whole)
    images = sorted((folder / "new").glob("*.png"))
    np.testing.assert_allclose(new.predict(images).scores, expected.predict(images).scores, rtol=1e-4)
    assert new.threshold_ == pytest.approx(expected.threshold_, rel=0.2)
    assert load(part).n_images_ == 8


def test_a_coreset_grows_in_place_and_keeps_its_threshold_only_if_told_to(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, [folder / "old"], "--detector", "patchcore(coreset_ratio=0.2)")
    before = load(model)
    assert "as before" in run("update", model, folder / "new", "--in-place", "--keep-threshold")
    assert load(model).threshold_ == before.threshold_
    assert len(load(model).model_) > len(before.model_)
    assert "threshold  none: cannot make a threshold" in run("update", model, folder / "more", "--in-place")
    assert load(model).threshold_ is None


def test_a_resumable_model_stays_one(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, [folder / "old"], "--n-components", "4", "--resumable")
    for part in ("new", "more"):
        run("update", model, folder / part, "--in-place")
    assert load(model).n_images_ == 18


def test_the_last_update_that_can_make_a_threshold_says_so(folder, tmp_path, monkeypatch):
    model = tmp_path / "model.safetensors"
    fit(model, [folder / "old"], "--n-components", "4", "--resumable")
    of_an_image = load(model).statistics_.embeddings.size_in_bytes() // 8
    monkeypatch.setattr(Moments, "bytes_needed", lambda P, D: 10 * of_an_image)
    told = run("update", model, folder / "new", "--in-place")
    assert "the next update or forget can make no threshold" in told
    assert load(model).threshold_ is not None
    told = run("update", model, folder / "more", "--in-place")
    assert "threshold  none: cannot make a threshold without the samples" in told
    assert "can make no threshold" not in told


def test_what_a_subspace_says_of_its_threshold_comes_true(folder, tmp_path):
    model, whole = tmp_path / "model.safetensors", tmp_path / "whole.safetensors"
    told = fit(model, [folder / "old"], "--detector", "subspace", "--resumable")
    assert "keeps      moments and no samples: the next update or forget can make no threshold" in told
    for command in (["update", model, folder / "new"], ["forget", model, folder / "old" / "0.png"]):
        told = run(*command, "-o", tmp_path / "next")
        assert "which moments do not replace: fit again on all images at once" in told
        assert load(tmp_path / "next").threshold_ is None
    fit(whole, [folder / "old", folder / "new"], "--detector", "subspace")
    assert load(whole).threshold_ is not None
    told = fit(model, [folder / "old"], "--detector", "subspace")
    assert "keeps" not in told
    with pytest.raises(InputError, match="make a threshold without the samples of the normal images"):
        load(model).calibrate()  # not: save with resumable=True
    with pytest.raises(InputError, match="cannot make a threshold: the detector is not fitted"):
        Subspace().calibrate()


def test_a_detector_of_whole_images_has_nothing_to_draw(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, [folder / "old"], "--detector", "mahalanobis-ad")
    for options in (["--pictures", "overlay"], ["--maps", "npy"]):
        told = run("predict", model, folder / "new", "-o", tmp_path / "found", *options, code=2)
        assert "makes no anomaly maps" in told
    assert not (tmp_path / "found").exists()


def test_refusals_leave_the_model_alone(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, [folder / "old"], "--n-components", "4")
    content, update = model.read_bytes(), ("update", model, folder / "new")
    assert "save with resumable=True" in run(*update, "--in-place", code=2)
    assert "exclude each other" in run(*update, "--in-place", "--keep-threshold", "--fpr", "0.1", code=2)
    assert "is not a file" in run("update", tmp_path / "none", folder / "new", "--in-place", code=2)
    assert "--in-place to replace" in run(*update, code=2)
    assert "is the model itself" in run(*update, "-o", model, code=2)
    assert "exclude each other" in run(*update, "-o", tmp_path / "new", "--in-place", code=2)
    assert model.read_bytes() == content


def test_two_updates_of_one_model_at_once_lose_none(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, [folder / "old"])
    other = FileLock(model)
    assert other.take()
    told = run("update", model, folder / "new", "--in-place", code=2)
    assert "is being updated by another process" in told
    other.release()
    run("update", model, folder / "new", "--in-place")
    assert load(model).n_images_ == 14
