"""Saturation thresholds of MVTec LOCO AD as its defects_config.json has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.sample import Sample
from padim_zoo.data.saturation import saturation_shares
from padim_zoo.data.transform import Transform
from padim_zoo.metrics import evaluate

CONFIG = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 40, "relative_saturation": False},
    {"defect_name": "scratch", "pixel_value": 254, "saturation_threshold": 0.33, "relative_saturation": True},
]


def sample_of(root: Path, marks: dict[int, int]) -> Sample:
    """An image with a mask file for each pixel value, which marks as many pixels."""
    folder = root / "box" / "ground_truth" / "logical_anomalies" / "000"
    folder.mkdir(parents=True)
    for number, (value, count) in enumerate(marks.items()):
        pixels = np.zeros((10, 20), dtype=np.uint8)
        pixels.ravel()[:count] = value
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return Sample(root / "000.png", 1, "logical_anomalies", tuple(sorted(folder.iterdir())))


def test_thresholds_are_shares_of_the_area(tmp_path: Path) -> None:
    sample = sample_of(tmp_path, {255: 160, 254: 10})
    (tmp_path / "box" / "defects_config.json").write_text(json.dumps(CONFIG))
    normal = Sample(tmp_path / "001.png", 0)
    labels = np.ones((10, 20), dtype=np.int32)
    shares = saturation_shares([normal, sample, sample], [None, labels, labels > 0])
    assert shares is not None
    assert shares[0] is None
    assert shares[1] == pytest.approx([40 / 160, 3 / 10])  # 3.3 pixels are 3
    assert shares[2] is None  # a mask of bool numbers no regions


def test_regions_are_those_of_the_masks_as_they_are_read(tmp_path: Path) -> None:
    """A file that marks nothing has no region, and no share; sPRO takes both together."""
    sample = sample_of(tmp_path, {255: 160, 0: 0, 254: 170})
    (tmp_path / "box" / "defects_config.json").write_text(json.dumps(CONFIG))
    Image.fromarray(np.zeros((10, 20, 3), dtype=np.uint8)).save(sample.path)
    truth = masks([sample], Transform(resize=None, crop=None))
    assert truth[0] is not None
    assert sorted(np.unique(truth[0])) == [0, 1, 2]
    shares = saturation_shares([sample], truth)
    assert shares is not None
    assert shares[0] == pytest.approx([40 / 160, 56 / 170])
    maps = np.zeros((2, 10, 20), dtype=np.float32)
    maps[1].ravel()[:45] = 1  # more than enough of the first; the second lies beyond it and is not found
    result = evaluate(np.array([0, 1]), maps.max((1, 2)), maps, [None, truth[0]], saturation=[None, shares[0]])
    assert result.values["spro_05"] == pytest.approx((1 + 0.05 / 2) / 2, abs=0.02)
    assert result.values["aupro_05"] < result.values["spro_05"]


def test_an_absolute_threshold_beyond_the_area_takes_all_of_it(tmp_path: Path) -> None:
    sample = sample_of(tmp_path, {255: 12})
    (tmp_path / "box" / "defects_config.json").write_text(json.dumps(CONFIG))
    [share] = saturation_shares([sample], [np.ones((10, 20), dtype=np.int32)]) or [None]
    assert share == pytest.approx([1])


def test_other_data_sets_have_none(tmp_path: Path) -> None:
    assert saturation_shares([sample_of(tmp_path, {255: 5})], [None]) is None


@pytest.mark.parametrize(("text", "message"), [("[{}]", "expected a list of defects"), ("no json", "cannot read")])
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    sample = sample_of(tmp_path, {255: 5})
    (tmp_path / "box" / "defects_config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        saturation_shares([sample], [np.ones((10, 20), dtype=np.int32)])


def test_an_unknown_kind_of_defect_is_refused(tmp_path: Path) -> None:
    sample = sample_of(tmp_path, {77: 5})
    (tmp_path / "box" / "defects_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(InputError, match="no defect with the pixel value 77"):
        saturation_shares([sample], [np.ones((10, 20), dtype=np.int32)])
