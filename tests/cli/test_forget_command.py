"""``padim-zoo forget``: images taken out of saved models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from padim_zoo.detectors.loading import load
from tests.command_line import run
from tests.image_files import write_noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    counts = {"first": 10, "second": 3}
    paths = (root / part / f"{number}.png" for part, count in counts.items() for number in range(count))
    write_noise(paths, seed=2)  # of no other test, for entries of the cache are counted
    return root


def fit(model: Path, images: list[Path], *options: str) -> str:
    return run("fit", *images, "-o", model, "--resize", "none", "--crop", "none", *options)


def images_of(folder: Path) -> list[Path]:
    return [*sorted((folder / "first").glob("*")), *sorted((folder / "second").glob("*"))]


def test_a_model_forgets_a_folder_and_makes_its_threshold_anew(folder, tmp_path):
    model, refit = tmp_path / "model.safetensors", tmp_path / "refit.safetensors"
    fit(model, images_of(folder), "--fpr", "0.2")
    fit(refit, [folder / "first"], "--fpr", "0.2")
    told = run("forget", model, folder / "second", "-o", tmp_path / "new.safetensors", "--fpr", "0.2")
    assert "3 normal images, 10 left" in told
    assert "made anew" in told
    assert "caches     6 entries removed" in told  # features and fingerprints
    new, expected = load(tmp_path / "new.safetensors"), load(refit)
    np.testing.assert_allclose(new.predict(images_of(folder)).scores, expected.predict(images_of(folder)).scores, 1e-5)
    assert new.threshold_ == pytest.approx(expected.threshold_, rel=1e-5)
    assert load(model).n_images_ == 13
    assert "1 normal image, 12 left" in run("forget", model, folder / "first" / "0.png", "--in-place")
    assert load(model).n_images_ == 12


def test_a_threshold_goes_where_no_samples_are_kept(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, images_of(folder), "--n-components", "4", "--resumable", "--fpr", "0.2")
    told = run("forget", model, folder / "second", "--in-place")
    assert "threshold  none: removed: cannot make a threshold without the samples" in told
    assert load(model).threshold_ is None
    assert "6 normal images, 4 left" in run(
        "forget", model, *sorted((folder / "first").glob("[0-5].png")), "--in-place"
    )


def test_a_bank_says_what_it_cannot_mend(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, images_of(folder), "--detector", "patchcore(coreset_ratio=0.2)")
    told = run("forget", model, folder / "second", "--in-place")
    assert "patches leave the memory bank, whose coreset was chosen with them present" in told
    assert load(model).n_images_ == 10


def test_refusals_leave_the_model_alone(folder, tmp_path):
    model = tmp_path / "model.safetensors"
    fit(model, [folder / "first"], "--n-components", "4")
    content, forget = model.read_bytes(), ("forget", model, folder / "first" / "1.png")
    assert "save with resumable=True" in run(*forget, "--in-place", code=2)
    assert "--in-place to replace" in run(*forget, code=2)
    assert "has not learned 3 of 3 images" in run("forget", model, folder / "second", "--in-place", code=2)
    assert model.read_bytes() == content
