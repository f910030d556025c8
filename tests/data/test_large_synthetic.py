"""Large synthetic images that are not square, with small defects: of the area that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from padim_zoo import InputError
from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import CATEGORIES, generate, scene
from padim_zoo.data.synthetic.scene import KINDS, Picture, take

AREA = (30, 90)


@pytest.mark.parametrize("category", CATEGORIES)
def test_defects_have_the_area_that_is_asked_for(category: str) -> None:
    for kind in KINDS:
        shot = take(Picture(category, "test", kind, 0), (160, 224), 0, AREA)
        assert shot.image.shape == (160, 224, 3)
        assert AREA[0] <= shot.mask.sum() <= AREA[1]
        far = ~shot.mask & (np.abs(shot.image.astype(int) - shot.clean).max(2) > 30)
        assert far.sum() <= 5  # the mask holds what changes


def test_a_scene_that_is_not_square_is_the_middle_of_a_square_one() -> None:
    picture = Picture("leather", "train", "good", 0)
    np.testing.assert_array_equal(take(picture, (64, 96), 0).image, take(picture, 96, 0).image[16:80])


def test_a_square_size_may_be_written_as_two(tmp_path: Path) -> None:
    few: dict[str, Any] = {"categories": ["wood"], "train": 1, "good": 0, "defects_per_kind": 0}
    generate(tmp_path / "set", size=(48, 48), **few)
    generate(tmp_path / "set", size=48, **few)  # is the same


def test_the_command(tmp_path: Path) -> None:
    options = ["--categories", "wood", "--train", "1", "--good", "0", "--defects", "1", "--size", "128x160"]
    command = ["data", "synthetic", str(tmp_path / "set"), *options, "--defect-area", "20..60"]
    for _ in range(2):  # the second finds the same set
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    masks = sorted((tmp_path / "set").glob("wood/ground_truth/*/*.png"))
    assert len(masks) == len(KINDS)
    for path in masks:
        mask = np.asarray(Image.open(path))
        assert mask.shape == (128, 160)
        assert 20 <= (mask > 0).sum() <= 60


@pytest.mark.parametrize("area", [(50, 60), (5, 50), (50, 5000), (50,), (50, 100.5)], ids=str)
def test_an_area_that_no_defect_has(area: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"defect_area is .*expected two numbers of pixels"):
        generate(tmp_path / "set", categories=["wood"], size=256, defect_area=area)


def test_text_that_is_no_range(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["data", "synthetic", str(tmp_path / "set"), "--defect-area", "50-500"])
    assert result.exit_code == 2
    assert "--defect-area is '50-500': expected two numbers of pixels, e.g. 50..500" in result.stderr


def test_an_area_that_cannot_be_drawn_is_refused_and_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene, "_MOST_PLACES", 2000)
    with pytest.raises(InputError, match=r"no \w+ of 10 to 40 pixels could be drawn at 64x80"):
        generate(tmp_path / "set", categories=["gear"], train=1, good=1, size=(64, 80), defect_area=(10, 40))
