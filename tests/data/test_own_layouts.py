"""The usual ways to lay out one's own photos, and images among them that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from padim_zoo import InputError, registry
from padim_zoo.cli.main import main
from padim_zoo.data.own_images import held_out_images
from padim_zoo.data.sample import Category

FIT = ("--resize", "none", "--crop", "none", "--n-components", 5, "--no-cache")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def photos(folder: Path, names: Sequence[str], seed: int = 0) -> Path:
    """Noise, each image another, so that none is a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, len(str(folder))))
    for name in names:
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / name)
    return folder


def numbered(count: int, pattern: str = "Teil ü {:02}.PNG") -> list[str]:
    return [pattern.format(number) for number in range(count)]


def load(**arguments: Path | str) -> Category:
    dataset = registry.datasets.create("folder", **arguments)
    (name,) = dataset.categories()
    return dataset.load(name)


def split(category: Category) -> tuple[int, int, int]:
    """Normal images to fit, and normal and anomalous ones to test."""
    labels = [sample.label for sample in category.test]
    return len(category.train), labels.count(0), labels.count(1)


@pytest.mark.parametrize(("good", "bad"), [("i.O.", "N.I.O."), ("OK", "ng"), ("Normal", "Defect"), ("GUT", "Kratzer")])
def test_folders_named_by_the_table(tmp_path: Path, good: str, bad: str) -> None:
    photos(tmp_path / good, numbered(10))
    photos(tmp_path / bad, numbered(3))
    category = load(root=tmp_path)
    assert split(category) == (8, 2, 3)
    assert {sample.kind for sample in category.test if sample.label} == {"Kratzer" if bad == "Kratzer" else "anomaly"}


def test_masks_beside_the_folders_and_kinds_below_them(tmp_path: Path) -> None:
    photos(tmp_path / "good", numbered(5))
    photos(tmp_path / "bad" / "scratch", numbered(2))
    photos(tmp_path / "masks" / "scratch", ["Teil ü 00.PNG"])
    test = [sample for sample in load(root=tmp_path).test if sample.label]
    assert [sample.kind for sample in test] == ["scratch", "scratch"]
    assert [len(sample.masks) for sample in test] == [1, 0]


def test_a_folder_of_categories_of_either_kind(tmp_path: Path) -> None:
    photos(tmp_path / "a" / "ok", numbered(5))
    photos(tmp_path / "b" / "train" / "good", numbered(4))
    dataset = registry.datasets.create("folder", root=tmp_path)
    assert dataset.categories() == ["a", "b"]
    assert split(dataset.load("a")) == (4, 1, 0)
    assert split(dataset.load("b")) == (4, 0, 0)


def test_flat_folders(tmp_path: Path) -> None:
    assert split(load(root=photos(tmp_path / "plain", numbered(10)))) == (8, 2, 0)
    flat = photos(tmp_path / "named", [*numbered(10, "{:02}_ok.jpg"), *numbered(3, "{:02}_NOK.jpg")])
    assert split(load(root=flat)) == (8, 2, 3)
    assert split(load(normal=flat / "*_ok.jpg", abnormal=flat / "*_NOK.jpg")) == (8, 2, 3)
    assert split(load(normal=str(flat / "*_ok.jpg"))) == (8, 2, 0)
    with pytest.raises(InputError, match="is both normal and abnormal"):
        load(normal=flat / "*.jpg", abnormal=flat / "*_NOK.jpg")
    with pytest.raises(InputError, match="matches nothing"):
        load(normal=flat / "*.gif")
    refused = run("fit", flat, "-o", tmp_path / "m.st")
    assert refused.exit_code == 2
    assert "images named as anomalous (00_NOK.jpg)" in refused.output
    same_word = photos(tmp_path / "defects", numbered(4, "no_defect_{:02}.png"))
    assert split(load(root=same_word)) == (3, 1, 0)


@pytest.mark.parametrize("way", ["folder", "options", "pattern"])
def test_check_ends_with_a_command_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.chdir(tmp_path)
    photos(Path("my photos", "OK"), numbered(10))
    photos(Path("my photos", "NOK"), numbered(3))
    sources = {
        "folder": ["my photos"],
        "options": ["--normal", "my photos/OK", "--abnormal", "my photos/NOK/*.PNG"],
        "pattern": ["my photos/OK/*.PNG"],
    }
    result = run("data", "check", *sources[way])
    assert result.exit_code == 0, result.output
    following = {
        "folder": "padim-zoo bench --data-root 'my photos'",
        "options": "padim-zoo bench --normal 'my photos/OK' --abnormal 'my photos/NOK/*.PNG'",
        "pattern": "padim-zoo fit --normal 'my photos/OK/*.PNG' --output model.safetensors",
    }
    assert result.output.splitlines()[-1] == f"next: {following[way]}"
    if way != "pattern":
        few = (
            "only 2 normal and 3 anomalous test images: even without a mistake the 95 % interval of AUROC is 0.22 to 1"
        )
        assert few in result.output


def test_check_says_what_it_knows_and_warns_of_sizes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = run("data", "check", tmp_path / "empty")
    assert refused.exit_code == 2
    assert "--normal DIR" in refused.output
    assert "n.i.O." in refused.output
    assert run("data", "check").exit_code == 2
    folder = photos(tmp_path / "two", numbered(10))
    Image.new("RGB", (64, 64), "red").save(folder / "other.png")
    result = run("data", "check", folder)
    assert "images have 2 sizes, 32x32 (10), 64x64 (1): all are resized to one grid" in result.output


def literal_hold_out(groups: Sequence[int]) -> set[int]:
    """The rule, image by image: a group is held out if all that are held out are then a fifth of those gone through."""
    gone_through: list[int] = []
    held_out: set[int] = set()
    for group in dict.fromkeys(groups):
        members = [index for index, one in enumerate(groups) if one == group]
        gone_through += members
        if 5 * (len(held_out) + len(members)) <= len(gone_through):
            held_out |= set(members)
    if not held_out:
        by_size = sorted(dict.fromkeys(groups), key=lambda one: (groups.count(one), -list(groups).index(one)))
        held_out = {index for index, one in enumerate(groups) if one == by_size[0]}
    return held_out if len(held_out) < len(groups) else {len(groups) - 1}


def test_whole_groups_are_held_out() -> None:
    assert np.flatnonzero(held_out_images(range(12))).tolist() == [4, 9]
    assert np.flatnonzero(held_out_images(range(3))).tolist() == [2]
    assert np.flatnonzero(held_out_images([0, 0, 0])).tolist() == [2]
    assert np.flatnonzero(held_out_images([0, 0, 0, 1])).tolist() == [3]
    rng = np.random.default_rng(0)
    for _ in range(200):
        groups = rng.integers(0, rng.integers(1, 12), rng.integers(2, 40)).tolist()
        assert set(np.flatnonzero(held_out_images(groups)).tolist()) == literal_hold_out(groups), groups


def test_bursts_are_held_out_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in range(10):
        picture = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((96, 96))
        for frame in range(3):
            noisy = np.asarray(picture).astype(int) + rng.integers(-3, 4, (96, 96, 3))
            (tmp_path / "fine").mkdir(exist_ok=True)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "fine" / f"{part}_{frame}.png")
    for category in (load(normal=tmp_path / "fine"), load(root=tmp_path / "fine")):
        train, test = ({sample.path.name[0] for sample in part} for part in (category.train, category.test))
        assert split(category) == (24, 6, 0)
        assert not train & test


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    photos(tmp_path / "b" / "good", numbered(12))
    photos(tmp_path / "b" / "bad", numbered(3))
    (tmp_path / "b" / "good" / "x.jpg").touch()
    (tmp_path / "b" / "good" / "y.jpg").write_bytes(b"no image")
    (tmp_path / "b" / "bad" / "z.jpg").touch()
    return tmp_path / "b"


def test_fit_names_all_unreadable_images_or_leaves_them_out(broken: Path, tmp_path: Path) -> None:
    refused = run("fit", broken / "good", *FIT, "-o", tmp_path / "m.st")
    assert refused.exit_code == 2
    assert len(refused.output.strip().splitlines()) == 1
    assert "2 of 14 images cannot be read" in refused.output
    assert all(part in refused.output for part in ("x.jpg is an empty file", "y.jpg is not", "--skip-unreadable"))
    done = run("fit", broken / "good", *FIT, "-o", tmp_path / "m.safetensors", "--skip-unreadable")
    assert done.exit_code == 0, done.output
    assert "2 of 14 images cannot be read and are left out" in done.output
    shown = run("show", tmp_path / "m.safetensors").output
    assert "left out, as they cannot be read: x.jpg, y.jpg" in shown


def test_bench_and_evaluate_name_them_too(broken: Path, tmp_path: Path) -> None:
    options = ("--data-root", broken, "--backbones", "builtin", "--estimators", "diagonal", "--n-components", 5)
    failed = run("bench", *options, "-o", tmp_path / "runs")
    assert failed.exit_code == 1
    assert "3 of 18 images cannot be read" in failed.output
    done = run("bench", *options, "-o", tmp_path / "skipped", "--skip-unreadable")
    assert done.exit_code == 0, done.output
    (document,) = [json.loads(path.read_text()) for path in (tmp_path / "skipped").glob("[!.]*.json")]
    assert any("3 of 18 images cannot be read and are left out" in note for note in document["notes"])
    fitted = run("fit", "--data-root", broken, *FIT, "-o", tmp_path / "m.st", "--skip-unreadable")
    assert fitted.exit_code == 0, fitted.output
    refused = run("evaluate", tmp_path / "m.st", "--data-root", broken, "--no-cache")
    assert refused.exit_code == 2
    assert "z.jpg is an empty file" in refused.output
    evaluated = run("evaluate", tmp_path / "m.st", "--data-root", broken, "--no-cache", "--skip-unreadable")
    assert evaluated.exit_code == 0, evaluated.output


def test_update_finetune_and_suspects_name_them_or_leave_them_out(broken: Path, tmp_path: Path) -> None:
    model, good = tmp_path / "m.safetensors", broken / "good"
    readable = [good / name for name in numbered(4)]
    assert run("fit", *readable, *FIT, "-o", model).exit_code == 0
    commands = (
        ("update", model, good, "-o", tmp_path / "more.safetensors"),
        ("finetune", good, "--resize", "64", "-o", tmp_path / "w.safetensors"),
        ("data", "suspects", good, "--estimator", "diagonal", "--resize", "none", "--crop", "none"),
    )
    for command in commands:
        refused = run(*command)
        assert refused.exit_code == 2, refused.output
        assert "2 of 14 images cannot be read" in refused.stderr, refused.stderr
        done = run(*command, "--skip-unreadable")
        assert done.exit_code in (0, 1), done.output
        assert "2 of 14 images cannot be read and are left out" in done.stderr
    assert "left out, as they cannot be read: x.jpg, y.jpg" in run("show", tmp_path / "more.safetensors").output
    assert "x.jpg, y.jpg" in run("show", tmp_path / "w.safetensors").output
