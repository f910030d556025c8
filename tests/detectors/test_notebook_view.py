"""What a notebook shows of a prediction."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from padim_zoo.detectors.notebook_view import MOST
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.pictures.colormap import heat_map


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_scores_decisions_and_maps_on_the_scale_of_the_detector() -> None:
    maps = np.random.default_rng(0).uniform(0, 12, (3, 40, 60)).astype(np.float32)
    scores = np.array([4.0, 8.0, 8.5], dtype=np.float32)
    html = Prediction(scores, maps, 8.0, (2.0, 10.0), 8.0)._repr_html_()
    assert "3 images" in html
    assert "1 anomalous (score &gt; 8)" in html
    assert re.findall(r"<b>([^<]+)</b><br>(\w+)", html) == [("4", "normal"), ("8", "normal"), ("8.5", "anomalous")]
    for picture, anomaly_map in zip(pictures(html), maps, strict=True):
        drawn = np.asarray(picture.convert("RGB")).astype(int)
        # 255 colors instead of 256: half a step of difference, which is a few levels of a channel.
        assert np.abs(drawn - heat_map(anomaly_map, (2.0, 10.0))).max() <= 6
    assert "2 <" in html  # the ends of the scale
    assert "10</div>" in html


def test_size_is_bounded() -> None:
    maps = np.broadcast_to(np.random.default_rng(0).random((300, 1500), dtype=np.float32), (100, 300, 1500))
    html = Prediction(np.ones(100), maps, 1.0, (0.0, 1.0), 1.0)._repr_html_()
    assert f"… and {100 - MOST} more" in html
    assert len(html) < 200_000
    assert {picture.size for picture in pictures(html)} == {(96, 19)}


def test_a_pixel_without_a_score_is_transparent() -> None:
    maps = np.full((1, 8, 8), np.nan, dtype=np.float32)
    maps[0, :4] = 3.0
    inside = ~np.isnan(maps)
    for given, roi_masks in ((maps, None), (np.nan_to_num(maps), inside)):
        html = Prediction(np.ones(1), given, 1.0, (0.0, 3.0), 1.0, roi_masks)._repr_html_()
        [picture] = pictures(html)
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        assert (alpha[:4] == 255).all()
        assert (alpha[4:] == 0).all()


@pytest.mark.parametrize(
    ("prediction", "told"),
    [
        (Prediction(np.ones(1), None, 2.0), "no anomaly maps"),
        (Prediction(np.ones(2), np.ones((2, 4, 4))), "calibrate the detector"),
        (Prediction(np.empty(0), None), "0 images"),
    ],
)
def test_what_is_lacking_is_said(prediction: Prediction, told: str) -> None:
    html = prediction._repr_html_()
    assert told in html
    assert not pictures(html)
