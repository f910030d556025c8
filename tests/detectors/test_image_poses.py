"""Poses of predictions: as the registration has them, and in every table of scores."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from padim_zoo import InputError, PaDiM
from padim_zoo.detectors.image_poses import POSE_COLUMNS
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.report.score_file import Row, ScoreFile
from tests.command_line import run
from tests.wedges import SIDE, wedge

SMALL: dict[str, Any] = {"resize": None, "n_components": 6, "backbone": "builtin", "precision": "float32"}


POSES = np.random.default_rng(0).uniform([-25, -4, -4], [25, 4, 4], (24, 3))
FAR = (70.0, 0.0, 0.0)
NOISE = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def fitted() -> PaDiM:
    images = np.stack([wedge(*pose, seed) for seed, pose in enumerate(POSES)])
    return PaDiM(register="rigid", **SMALL).fit(images)


def test_turn_and_shift_are_those_that_were_drawn(fitted: PaDiM) -> None:
    poses = np.array([(0, 0, 0), (20, 0, 0), (0, 3, 0), (0, 0, 3)])
    found = fitted.predict([wedge(*pose, 100) for pose in poses]).poses
    assert found is not None
    of_first = np.stack([found.turn, found.shift_x, found.shift_y], 1)
    np.testing.assert_allclose(of_first[1:] - of_first[0], poses[1:], atol=0.8)


def test_p_values_are_those_of_the_registration(fitted: PaDiM) -> None:
    found = fitted.predict([wedge(*POSES[0], 100), wedge(*FAR, 100)]).poses
    assert found is not None
    assert found.pose_p_value[0] > 0.05 > 0.002 > found.pose_p_value[1] > 0


def test_poses_of_parts_are_those_of_all_images(fitted: PaDiM) -> None:
    images = [wedge(*pose, 100) for pose in POSES[:5]]
    whole = fitted.predict(images)
    parts = [fitted.predict(images[:2]), fitted.predict(images[2:])]
    for together in (Prediction.concatenate(parts), Prediction.gather(parts, 5)):
        assert together.poses is not None
        np.testing.assert_array_equal(together.poses.turn, whole.poses.turn)
    assert whole.poses is not None
    some = whole.images(np.array([3, 1])).poses
    assert some is not None
    np.testing.assert_array_equal(some.shift_x, whole.poses.shift_x[[3, 1]])
    frame = whole.to_frame()
    np.testing.assert_array_equal(frame["pose_p_value"], whole.poses.pose_p_value)
    plain = PaDiM(**SMALL).fit(np.stack(images)).predict(images)
    assert plain.poses is None
    assert not set(POSE_COLUMNS) & set(plain.to_frame())


def test_the_command_writes_poses(fitted: PaDiM, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model.safetensors")
    images = {"a": wedge(*POSES[0], 100), "b": wedge(*FAR, 100), "c": NOISE}
    for name, image in images.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no image")
    poses = fitted.predict(list(images.values())).poses
    assert poses is not None
    predict = ["predict", tmp_path / "model.safetensors", *sorted(tmp_path.glob("*.png"))]
    run(*predict, "--scores", tmp_path / "scores.csv", code=1)
    run(*predict, "--scores", tmp_path / "scores.json", code=1)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    as_json = json.loads((tmp_path / "scores.json").read_text())
    assert [list(row) for row in rows] == [list(row) for row in as_json]
    for name in POSE_COLUMNS:
        expected, atol = poses.columns()[name], 0 if name == "pose_p_value" else 1e-4
        np.testing.assert_allclose([float(row[name]) for row in rows[:2]], expected[:2], rtol=1e-5, atol=atol)
        np.testing.assert_allclose([row[name] for row in as_json[:2]], expected[:2], rtol=1e-5, atol=atol)
        assert [row[name] for row in rows[2:]] == ["", ""]  # no pose was found, and no image
        assert [row[name] for row in as_json[2:]] == [None, None]


@pytest.mark.parametrize("as_json", [False, True])
def test_rows_from_before_keep_their_poses(tmp_path: Path, as_json: bool) -> None:
    pose = dict.fromkeys(POSE_COLUMNS, 0.5) | {"turn": None}
    target = tmp_path / "scores"
    for resume in (False, True):
        file = ScoreFile(target, as_json=as_json, poses=True)
        file.begin({"model": "", "options": {}}, resume=resume)
        if not resume:
            file.add(Row("a.png", 1.5, 1.0, True, pose=pose))
            assert file.keep_or_remove()
    assert file.finish([Path("a.png")]) == [Row("a.png", 1.5, 1.0, True, pose=pose)]


@pytest.mark.parametrize("as_json", [False, True])
def test_rows_of_a_version_without_poses_are_not_gone_on_with(tmp_path: Path, as_json: bool) -> None:
    """Their poses would be empty, as if none had been found."""
    target = tmp_path / "scores"
    old = ScoreFile(target, as_json=as_json)
    old.begin({"model": "", "options": {}}, resume=False)
    old.add(Row("a.png", 1.5, 1.0, True))
    assert old.keep_or_remove()
    words = r"scores\.part was begun by an earlier version, without turn, .*: delete it, and begin anew$"
    with pytest.raises(InputError, match=words):
        ScoreFile(target, as_json=as_json, poses=True).begin({"model": "", "options": {}}, resume=True)
    same = ScoreFile(target, as_json=as_json)
    same.begin({"model": "", "options": {}}, resume=True)
    assert "a.png" in [row.path for row in same.finish([Path("a.png")])]
