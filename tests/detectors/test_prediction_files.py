"""A prediction in the hand: a table, files, a figure, and its maps on the photos themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from padim_zoo import InputError, PaDiM
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.metrics.region_peak import region_peaks
from padim_zoo.pictures.drawing import frame as frame_of
from padim_zoo.pictures.overlays import grayed

SMALL = {"n_components": 5, "backbone": "builtin", "cache": False}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = [folder / f"Teil <{number}>.png" for number in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (96, 160, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def fitted(photos: list[Path]) -> PaDiM:
    detector = PaDiM(resize=64, crop=48, **SMALL).fit(photos)
    detector.threshold_ = 1e-3
    return detector


def test_a_map_on_the_photo_is_where_the_crop_was() -> None:
    transform = Transform(resize=48, crop=32)
    photo = np.zeros((96, 160), dtype=np.float32)  # resized to 48 × 80
    values = np.full((32, 32), 2.0)
    values[0] = np.nan
    whole = transform.on_original(values, *photo.shape)
    seen = np.zeros(photo.shape, dtype=bool)
    seen[16 + 2 : 80, 48:112] = True
    np.testing.assert_array_equal(~np.isnan(whole), seen)
    np.testing.assert_allclose(whole[seen], 2.0, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 997), (997, 1), (2, 3)])
def test_an_image_that_is_thinner_than_the_crop_has_a_pixel_that_is_looked_at(height: int, width: int) -> None:
    transform = Transform(resize=48, crop=32)
    whole = transform.on_original(np.full((32, 32), 2.0), height, width)
    seen = whole[~np.isnan(whole)]
    assert 1 <= seen.size <= height * width
    np.testing.assert_allclose(seen, 2.0, rtol=1e-6)


@pytest.mark.parametrize("resize", [None, 40, (40, 60)])
def test_a_map_that_rises_is_laid_on_by_position(resize: object) -> None:
    transform = Transform(resize=resize, crop=None)
    height, width = transform.output_size(80, 120)
    columns = (np.arange(width) + 0.5) / width
    whole = transform.on_original(np.tile(columns, (height, 1)), 80, 120)
    expected = (np.arange(120) + 0.5) / 120
    np.testing.assert_allclose(whole[:, 3:-3], np.tile(expected, (80, 1))[:, 3:-3], atol=0.01)


def test_a_table_of_files_and_of_arrays(fitted: PaDiM, photos: list[Path]) -> None:
    prediction = fitted.predict(photos)
    frame = prediction.to_frame()
    assert list(frame.columns) == ["image", "score", "threshold", "anomalous"]
    assert frame["image"].tolist() == list(map(str, photos))
    np.testing.assert_array_equal(frame["score"], prediction.scores)
    assert frame["anomalous"].all()
    arrays = np.stack([np.asarray(Image.open(path)) for path in photos])
    of_arrays = fitted.predict(arrays)
    assert of_arrays.names[:2] == ["image 0", "image 1"]
    assert fitted.predict(iter(list(arrays))).originals is None
    assert fitted.predict(photos[0].parent).names == sorted(map(str, photos))
    some = prediction.images(np.array([4, 1]))
    assert some.names == [str(photos[4]), str(photos[1])]
    assert Prediction(np.ones(2), None).to_frame()["anomalous"].isna().all()


def test_saved_pictures_are_the_photos_in_their_size(fitted: PaDiM, photos: list[Path], tmp_path: Path) -> None:
    prediction = fitted.predict(photos)
    prediction.save(tmp_path, ["overlay", "frame", "panel"])
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 6
    overlays = sorted((tmp_path / "overlay").iterdir())
    assert len(overlays) == 6
    drawn = np.asarray(Image.open(overlays[0]))
    assert drawn.shape == (96, 160, 3)
    beside = drawn[:, :20].astype(int)
    assert (np.ptp(beside, axis=2) == 0).all()  # what the crop leaves out is gray
    assert np.ptp(drawn[40:50, 70:90].astype(int), axis=2).max() > 0
    with pytest.raises(InputError, match="unknown kind of picture 'overly'"):
        prediction.save(tmp_path, ["overly"])


def test_a_figure_and_a_notebook_show_names_and_photos(fitted: PaDiM, photos: list[Path]) -> None:
    prediction = fitted.predict(photos[:3])
    html = prediction._repr_html_()
    assert "Teil &lt;1&gt;.png" in html
    assert html.count("data:image/jpeg") == 3
    assert html.count("data:image/png") == 3
    pytest.importorskip("matplotlib")
    figure = prediction.plot(most=2)
    assert figure._repr_png_().startswith(b"\x89PNG")  # which a notebook shows
    assert [ax.get_title() for ax in figure.axes][::2] == ["Teil <0>.png", "Teil <1>.png"]
    assert len(figure.axes[0].images) == 1


def test_what_is_shown_is_the_score_that_decides(photos: list[Path], tmp_path: Path) -> None:
    detector = PaDiM(resize=64, crop=48, **SMALL).fit(photos)
    detector.calibrate()
    detector.calibration_ = detector.calibration_.for_regions(0.5, 64).deciding_by("region")
    prediction = detector.predict(photos)
    peaks = [region_peaks(one, (64,))[0] for one in prediction.maps]
    assert (prediction.scores > peaks).all()
    frame = prediction.to_frame()
    np.testing.assert_array_equal(frame["score"], np.array(peaks, dtype=np.float32))
    np.testing.assert_array_equal(frame["anomalous"], frame["score"] > frame["threshold"])
    for position, peak in enumerate(peaks):
        assert f"<b>{peak:.4g}</b>" in prediction._repr_html_(), position
    pytest.importorskip("matplotlib")
    assert prediction.plot(most=1).axes[1].get_title().startswith(f"{peaks[0]:.4g}")
    prediction.save(tmp_path, ["frame"])
    for position, picture in enumerate(sorted((tmp_path / "frame").iterdir())):
        photo = np.asarray(Image.open(photos[position]))
        seen = prediction.transform.on_original(prediction.maps[position], *photo.shape[:2])
        expected = frame_of(grayed(photo, np.isnan(seen)), peaks[position], prediction.threshold)
        np.testing.assert_array_equal(np.asarray(Image.open(picture)), expected)


def test_a_fitted_detector_says_on_what(fitted: PaDiM) -> None:
    told = repr(fitted)
    assert told.endswith("# fitted on 6 normal images of 48x48, threshold 0.001")
    assert eval(told, {"PaDiM": PaDiM}).resize == 64
    assert "fitted" not in repr(PaDiM())
