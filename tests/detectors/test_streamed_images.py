"""Detectors on large images: in bands they score as on whole images, in the memory that is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from padim_zoo import SPADE, STFPM, InputError, MahalanobisAD, PaDiM, PatchCore
from padim_zoo.cli.main import main
from padim_zoo.detectors.loading import load

KINDS = [(PaDiM, {}), (PatchCore, {"coreset_ratio": 0.01}), (SPADE, {"layers": None}), (MahalanobisAD, {})]
OPTIONS: dict[str, Any] = {"resize": None, "backbone": "scattering", "precision": "float32"}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Stripes of no even size, (5, 131, 175, 3), uint8."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(175) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 25, (5, 131, 175, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("kind", "own"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
def test_bands_change_no_score(kind: Any, own: dict[str, Any], images: np.ndarray, tmp_path: Path) -> None:
    whole = kind(**OPTIONS | own, stream=1).fit(images[:4])
    bands = kind(**OPTIONS | own, stream=3).fit(images[:4])
    assert len(bands.extractor.plans.latest) == 3
    one, other = whole.predict(images[3:]), bands.predict(images[3:])
    np.testing.assert_allclose(other.scores, one.scores, rtol=1e-4, atol=1e-4)
    if one.maps is not None:
        np.testing.assert_allclose(other.maps, one.maps, rtol=1e-3, atol=1e-3)
    bands.save(tmp_path / "bands")
    loaded = load(tmp_path / "bands")
    assert loaded.config.stream == "auto"  # no property of a model
    np.testing.assert_allclose(loaded.predict(images[3:]).scores, one.scores, rtol=1e-4, atol=1e-4)


def test_stream_leaves_a_fit_as_it_is(images: np.ndarray) -> None:
    detector = PaDiM(**OPTIONS).fit(images[:4])
    model = detector.model_
    key = detector.features_key
    detector.set_params(stream=2, memory=10**9)
    assert detector.model_ is model
    assert detector.features_key == key


def test_one_image_is_scored_without_asking_for_memory(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = PaDiM(**OPTIONS, cache=False).fit(images[:4])
    expected = detector.predict(images[4:])
    asked: list[int] = []
    monkeypatch.setattr("padim_zoo.detectors.block_plans.default_budget", lambda: asked.append(1) or 10**9)
    detector.predict(images[3:])
    assert asked
    asked.clear()
    np.testing.assert_array_equal(detector.predict([images[4]]).maps, expected.maps)
    assert not asked


@pytest.mark.parametrize("stream", [0, 1.5, "some"])
def test_a_number_of_bands_that_is_none(stream: Any, images: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"stream is .*expected a whole number of at least 1"):
        PaDiM(**OPTIONS, stream=stream).fit(images)


def test_stfpm_takes_whole_images(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="stream is 2, but stfpm passes whole images"):
        STFPM(stream=2).fit(images)


def test_the_commands_say_how_images_were_cut(images: np.ndarray, tmp_path: Path) -> None:
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(5)]
    model = str(tmp_path / "model")
    options = ["--resize", "none", "--backbone", "scattering", "--no-cache", "--precision", "float32"]
    fitted = CliRunner().invoke(main, ["fit", *paths[:4], "-o", model, *options, "--stream", "2"])
    assert fitted.exit_code == 0, fitted.output
    assert "streams    in 2 bands, with halos 1." in fitted.stdout
    scores = []
    for stream in ("1", "3"):
        predicted = CliRunner().invoke(main, ["predict", model, paths[4], "--stream", stream, "--memory", "1GB"])
        assert predicted.exit_code == 0, predicted.output
        assert ("streams in 3 bands" in predicted.stderr) == (stream == "3")
        scores.append(float(predicted.stdout.splitlines()[1].split(",")[1]))
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    updated = CliRunner().invoke(main, ["update", model, paths[4], "--in-place", "--stream", "2"])
    assert "streams    in 2 bands" in updated.stdout, updated.output


def test_any_number_of_images_is_scored_a_few_at_a_time(images: np.ndarray) -> None:
    detector = PaDiM(**OPTIONS, batch_size=2).fit(images[:4])
    together = detector.predict(images)
    taken: list[int] = []

    def stream() -> Any:
        for number, image in enumerate(images):
            taken.append(number)
            yield image

    parts = detector.predict_iter(stream())
    first = next(parts)
    assert len(first) == 2
    assert taken == [0, 1]
    rest = list(parts)
    assert [len(part) for part in rest] == [2, 1]
    scores = np.concatenate([part.scores for part in (first, *rest)])
    np.testing.assert_allclose(scores, together.scores, rtol=1e-5)
    np.testing.assert_allclose(rest[-1].maps, together.maps[4:], rtol=1e-4, atol=1e-4)  # type: ignore[index]


def test_maps_are_written_in_the_pixels_of_the_original(images: np.ndarray, tmp_path: Path) -> None:
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(5)]
    model, output = str(tmp_path / "model"), tmp_path / "out"
    size = ["--resize", "64", "--crop", "48"]
    assert CliRunner().invoke(main, ["fit", *paths[:4], "-o", model, *size, "--no-cache"]).exit_code == 0
    for kind in ("npy", "original"):
        options = ["--maps", kind, "--output", str(output / kind)]
        assert CliRunner().invoke(main, ["predict", model, paths[4], *options, "--threshold", "1"]).exit_code == 0
    small, original = (np.load(output / kind / "maps" / "4.npy") for kind in ("npy", "original"))
    assert small.shape == (48, 48)
    assert original.shape == images[4].shape[:2]
    assert np.isnan(original[:10]).all()  # outside of the crop
    rows, columns = np.nonzero(~np.isnan(original))
    peak = np.array(np.unravel_index(np.nanargmax(original), original.shape))
    found = (peak - [rows.min(), columns.min()] + 0.5) / [np.ptp(rows) + 1, np.ptp(columns) + 1]
    wanted = (np.array(np.unravel_index(small.argmax(), small.shape)) + 0.5) / 48
    np.testing.assert_allclose(found, wanted, atol=0.03)
    assert np.nanmax(original) == pytest.approx(small.max(), rel=0.05)
