"""``padim-zoo update`` and ``merge``: bursts stay together, and rates are those that so many images can promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_zoo.detectors.loading import load
from tests.command_line import run
from tests.image_files import write_noise

DIFFERENT = 7
SHOTS = 4


@pytest.fixture(scope="module")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Four shots of each of seven things, which differ by a gray level in one pixel of twenty."""
    root = tmp_path_factory.mktemp("bursts")
    rng = np.random.default_rng(0)
    things = rng.integers(80, 160, (DIFFERENT, 40, 40, 3))
    paths = [[root / f"thing{thing}_shot{shot}.png" for shot in range(SHOTS)] for thing in range(DIFFERENT)]
    for thing, shots in zip(things, paths, strict=True):
        for path in shots:
            noisy = thing + (rng.random(thing.shape) < 0.05)
            Image.fromarray(noisy.astype(np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def singles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("singles")
    return write_noise((root / f"{number:02}.png" for number in range(30)), seed=1)


def fit(model: Path, images: list[Path], *options: str) -> Path:
    run("fit", *images, "-o", model, "--resize", "none", "--crop", "none", "--n-components", "40", *options)
    return model


def joined(bursts: list[list[Path]]) -> list[Path]:
    return [path for shots in bursts for path in shots]


def groups_in(model: Path) -> list[int]:
    calibration = load(model).calibration_
    assert calibration is not None
    assert calibration.groups is not None
    return calibration.groups.tolist()


def test_an_update_keeps_bursts_together_and_finds_new_ones(bursts, tmp_path):
    model = fit(tmp_path / "m.safetensors", joined(bursts[:6]))
    old = np.repeat(np.arange(6), SHOTS).tolist()
    assert groups_in(model) == old
    told = run("update", model, *bursts[6][:1], "-o", tmp_path / "one.safetensors")
    assert groups_in(tmp_path / "one.safetensors") == [*old, 6]
    assert "at most 0.125 (the least that 7 different of 25 images can promise)" in told
    assert "The threshold is based on 7 different of 25 images. Other rates would give:" in told
    run("update", model, *bursts[6], "--in-place")
    assert groups_in(model) == [*old, *[6] * SHOTS]
    expected = load(fit(tmp_path / "all.safetensors", joined(bursts)))
    assert load(model).calibration_.false_alarm_rate == expected.calibration_.false_alarm_rate


def test_groups_are_kept_where_there_was_no_threshold_yet(bursts, tmp_path):
    model = fit(tmp_path / "m.safetensors", bursts[0])
    assert load(model).calibration_ is None
    run("update", model, *bursts[1], "--in-place", "--fpr", "0.4")
    assert groups_in(model) == [0] * SHOTS + [1] * SHOTS


def test_a_pattern_of_the_fit_names_new_images_too(singles, tmp_path):
    folder = tmp_path / "named"
    folder.mkdir()
    names = ["a0", "b0", "c0", "a1", "b1", "c1", "d0", "a2", "plain"]
    paths = [folder / f"{name}.png" for name in names]
    for path, source in zip(paths, singles, strict=False):
        path.write_bytes(source.read_bytes())
    model = fit(tmp_path / "m.safetensors", paths[:6], "--groups", r"([a-d])\d\.png")
    assert groups_in(model) == [0, 1, 2, 0, 1, 2]
    run("update", model, *paths[6:8], "--in-place")
    assert groups_in(model) == [0, 1, 2, 0, 1, 2, 3, 0]
    told = run("update", model, paths[8], "--in-place")
    assert "match nothing in 1 of 1 paths" in told
    assert groups_in(model) == [0, 1, 2, 0, 1, 2, 3, 0, 4]


@pytest.mark.parametrize("overlap", [0, 1])
def test_a_merge_keeps_bursts_together(bursts, tmp_path, overlap):
    one = fit(tmp_path / "one.safetensors", joined(bursts[:3]))
    other = fit(tmp_path / "other.safetensors", joined(bursts[3 - overlap : 6]))
    told = run("merge", one, other, "-o", tmp_path / "merged.safetensors")
    assert groups_in(tmp_path / "merged.safetensors") == np.repeat(np.arange(6), SHOTS).tolist()
    assert "at most 0.143 (the least that 6 different of 24 images can promise)" in told
    assert "Other rates would give" in told


def test_a_merge_links_bursts_through_a_common_image(bursts, tmp_path):
    one = fit(tmp_path / "one.safetensors", [*bursts[0][:2], *bursts[1]])
    other = fit(tmp_path / "other.safetensors", [*bursts[0][1:], *bursts[2]])
    run("merge", one, other, "-o", tmp_path / "merged.safetensors")
    assert groups_in(tmp_path / "merged.safetensors") == [0, 0, 1, 1, 1, 1, 0, 0, 2, 2, 2, 2]


def test_a_merge_joins_groups_of_one_name(singles, tmp_path):
    folders = []
    for number, names in enumerate((["a0", "b0", "a1"], ["b1", "c0", "a2"])):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        for position, name in enumerate(names):
            (folders[-1] / f"{name}.png").write_bytes(singles[3 * number + position].read_bytes())
    models = [
        fit(tmp_path / f"{folder.name}.safetensors", sorted(folder.glob("*.png")), "--groups", r"([a-c])\d\.png")
        for folder in folders
    ]
    run("merge", *models, "-o", tmp_path / "merged.safetensors")
    assert groups_in(tmp_path / "merged.safetensors") == [0, 0, 1, 0, 1, 2]


def test_a_rate_that_was_not_asked_for_is_not_kept(singles, tmp_path):
    model = fit(tmp_path / "m.safetensors", singles[:6])
    told = run("update", model, *singles[6:], "-o", tmp_path / "new.safetensors")
    assert "for a false-alarm rate of at most 0.05\n" in told
    assert "The threshold is based on 30 images" in told
    merged = run("merge", model, fit(tmp_path / "rest.safetensors", singles[6:]), "-o", tmp_path / "both.safetensors")
    assert "for a false-alarm rate of at most 0.05\n" in merged


def test_a_rate_that_was_asked_for_is_kept(singles, tmp_path):
    model = fit(tmp_path / "m.safetensors", singles[:6], "--fpr", "0.3")
    for images in (singles[6:10], singles[10:]):
        assert "for a false-alarm rate of at most 0.3\n" in run("update", model, *images, "--in-place")
    parts = [fit(tmp_path / f"{n}.safetensors", singles[n : n + 6], "--fpr", "0.3") for n in (0, 6)]
    assert "at most 0.3\n" in run("merge", *parts, "-o", tmp_path / "both.safetensors")
    run("calibrate", parts[0], "--in-place")
    assert "at most 0.0769 (the least" in run("merge", *parts, "-o", tmp_path / "both.safetensors")


def test_a_kept_threshold_says_that_it_promises_nothing(singles, tmp_path):
    model = fit(tmp_path / "m.safetensors", singles[:6])
    told = run("update", model, *singles[6:10], "--in-place", "--keep-threshold")
    assert "as before; it promises nothing of the new model" in told
    assert "Other rates" not in told
