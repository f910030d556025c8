"""The synthetic data set: the same pictures every time, exact masks, and folders that are whole or not there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.data import png
from padim_zoo.data.synthetic import CATEGORIES, KINDS, OBJECTS, TEXTURES, dataset, generate
from padim_zoo.data.synthetic.canvas import mix, tint
from padim_zoo.data.synthetic.scene import TOLERANCE, Picture, severity, take, visible_change

FEW = {"train": 2, "good": 1, "defects_per_kind": 1, "size": 48}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def difference(picture: Picture, size: int) -> tuple[np.ndarray, np.ndarray]:
    shot = take(picture, size, seed=0)
    return np.abs(shot.image.astype(int) - shot.clean.astype(int)).max(axis=-1), shot.mask


def test_four_textures_and_four_objects_at_least() -> None:
    assert len(TEXTURES) >= 4
    assert len(OBJECTS) >= 4
    assert set(KINDS) == {"scratch", "crack", "stain", "missing", "misplaced"}


def test_bytes_depend_on_the_parameters_only(tmp_path: Path) -> None:
    together = generate(tmp_path / "together", categories=["gear", "wood", "cable"], **FEW)
    alone = generate(tmp_path / "alone", categories=["cable"], **FEW)
    more = generate(tmp_path / "more", categories=["cable"], **{**FEW, "train": 3, "defects_per_kind": 2})
    expected = contents(alone / "cable")
    assert contents(together / "cable") == expected
    assert expected.items() <= contents(more / "cable").items()
    other_seed = generate(tmp_path / "seed", categories=["cable"], seed=1, **FEW)
    changed = contents(other_seed / "cable")
    assert all(changed[name] != data for name, data in expected.items())


def test_pixels_do_not_depend_on_the_processor(tmp_path: Path) -> None:
    script = (
        "import hashlib; from padim_zoo.data.synthetic.scene import Picture, take;"
        "shots = [take(Picture('gear', 'train', 'good', number), 64, seed=0).image for number in range(24)];"
        "print(hashlib.sha256(b''.join(shot.tobytes() for shot in shots)).hexdigest())"
    )
    features: dict[str, bool] = np._core._multiarray_umath.__cpu_features__ if hasattr(np, "_core") else {}
    newer = [name for name, here in features.items() if here and name.startswith(("AVX512", "X86_V4"))]
    if not newer:
        pytest.skip("NumPy has no instructions here that it could do without")
    hashes = set()
    for without in ("", " ".join(newer)):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": without}
        hashes.add(subprocess.check_output([sys.executable, "-c", script], env=environment, text=True))
    assert len(hashes) == 1


def test_regenerated_data_have_the_same_fingerprint(tmp_path: Path) -> None:
    for name in ("first", "second"):
        generate(tmp_path / name, categories=["wood"], **FEW)
    first, second = (registry.datasets.create("synthetic", root=tmp_path / name) for name in ("first", "second"))
    assert first.load("wood").fingerprint() == second.load("wood").fingerprint()


def test_colors_are_mixed_the_same_however_they_lie_in_memory() -> None:
    rng = np.random.default_rng(0)
    below, above = rng.random((2, 9, 7, 3), dtype=np.float32)
    alpha, color = rng.random((9, 7), dtype=np.float32), rng.random(3, dtype=np.float32)
    for image in (below, np.moveaxis(np.moveaxis(below, -1, 0).copy(), 0, -1)):
        np.testing.assert_array_equal(mix(image, above, alpha), below + alpha[..., None] * (above - below))
        np.testing.assert_array_equal(mix(image, color, alpha), below + alpha[..., None] * (color - below))
    np.testing.assert_array_equal(tint(color, alpha), color * alpha[..., None])


def test_pictures_of_one_category_differ() -> None:
    pictures = [Picture("fabric", split, "good", number) for split in ("train", "test") for number in range(3)]
    assert len({take(picture, 32, seed=0).image.tobytes() for picture in pictures}) == 6


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_exactly_what_changed(category: str, kind: str) -> None:
    for number in range(3):
        changed, mask = difference(Picture(category, "test", kind, number), size=96)
        # Rounding to whole gray levels can add one to the tolerance.
        assert changed[~mask].max(initial=0) <= 255 * TOLERANCE + 1
        assert 0 < mask.mean() <= 0.5
        assert np.mean(changed[mask] >= 255 * TOLERANCE - 1) > 0.5


def test_a_good_picture_has_no_mask() -> None:
    changed, mask = difference(Picture("board", "test", "good", 0), size=48)
    assert changed.max() == 0
    assert not mask.any()


def test_closing_fills_gaps_but_never_drops_a_changed_pixel() -> None:
    clean = np.zeros((256, 256, 3))
    spoilt = clean.copy()
    spoilt[100:120, 100:120, 1] = 0.5
    spoilt[110, 110] = 0  # a gap inside
    spoilt[0, 0, 2] = 0.5  # a lone pixel in the corner
    spoilt[200, 200] = 0.9 * TOLERANCE
    mask = visible_change(clean, spoilt)
    expected = np.zeros((256, 256), dtype=bool)
    expected[100:120, 100:120] = expected[0, 0] = True
    np.testing.assert_array_equal(mask, expected)


def test_the_same_scene_at_every_size() -> None:
    picture = Picture("capsule", "test", "missing", 0)
    large = Image.fromarray(take(picture, 128, seed=0).image).resize((64, 64), Image.Resampling.BOX)
    small = take(picture, 64, seed=0).image
    assert np.abs(np.asarray(large, dtype=float) - small).mean() < 8


def test_defects_range_from_faint_to_plain() -> None:
    pictures = [Picture("wood", "test", kind, number) for kind in KINDS for number in range(9)]
    for kind in KINDS:
        met = {(severity(picture).contrast, severity(picture).extent) for picture in pictures if picture.kind == kind}
        assert len(met) == 9
    measured = [difference(picture, size=64) for picture in pictures if picture.kind in ("crack", "stain", "missing")]
    contrast = [changed[mask].mean() for changed, mask in measured]
    area = [mask.mean() for _, mask in measured]
    assert np.percentile(contrast, 90) > 2.5 * np.percentile(contrast, 10)
    assert np.percentile(area, 90) > 3 * np.percentile(area, 10)


def test_layout(tmp_path: Path) -> None:
    generate(tmp_path, categories=["terrazzo"], **FEW)
    names = set(contents(tmp_path))
    expected = {"synthetic.json", *(f"terrazzo/{split}/good/000.png" for split in ("train", "test"))}
    expected |= {"terrazzo/train/good/001.png"}
    expected |= {f"terrazzo/test/{kind}/000.png" for kind in KINDS}
    expected |= {f"terrazzo/ground_truth/{kind}/000_mask.png" for kind in KINDS}
    assert names == expected
    with Image.open(tmp_path / "terrazzo/test/stain/000.png") as image:
        assert (image.mode, image.size) == ("RGB", (48, 48))
    mask = np.asarray(Image.open(tmp_path / "terrazzo/ground_truth/stain/000_mask.png"), dtype=np.uint8)
    assert mask.shape == (48, 48)
    assert json.loads((tmp_path / "synthetic.json").read_text())["parameters"]["size"] == 48


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 1), (48, 64)])
def test_written_pixels_are_read_again(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png.encoded(pixels))) as image:
        image.verify()  # the checksums too
    with Image.open(io.BytesIO(png.encoded(pixels))) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_other_readers_of_the_layout_see_the_same_samples(tmp_path: Path) -> None:
    generate(tmp_path, categories=["gear"], **FEW)
    mvtec = registry.datasets.create("mvtec", root=tmp_path).load("gear")
    synthetic = registry.datasets.create("synthetic", root=tmp_path).load("gear")
    assert (synthetic.train, synthetic.test) == (mvtec.train, mvtec.test)
    assert {sample.kind for sample in synthetic.test} == {"good", *KINDS}
    assert all(len(sample.masks) == sample.label for sample in synthetic.test)


def test_a_killed_generation_is_resumed(tmp_path: Path) -> None:
    generate(tmp_path, categories=["wood"], **FEW)
    kept = tmp_path / "wood/train/good/000.png"
    before = kept.stat().st_ino
    torn = tmp_path / ".fabric.killed" / "train" / "good"
    torn.mkdir(parents=True)
    (torn / "000.png").write_bytes(b"half a pict")
    generate(tmp_path, categories=["wood", "fabric"], **FEW)
    assert kept.stat().st_ino == before
    assert len(list((tmp_path / "fabric").rglob("*.png"))) == 2 + 1 + 2 * len(KINDS)
    assert registry.datasets.create("mvtec", root=tmp_path).categories() == ["fabric", "wood"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(InputError, match="No space left"):
            generate(tmp_path, categories=["wood"], **FEW)
    assert set(contents(tmp_path)) == {"synthetic.json"}


def test_two_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(generate, tmp_path / "both", categories=["wood", "gear"], **FEW) for _ in range(4)]
        for run in runs:
            run.result()
    once = generate(tmp_path / "once", categories=["wood", "gear"], **FEW)
    assert contents(tmp_path / "both") == contents(once)


def test_one_that_begins_while_another_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []

    def look_and_wait(root: Path) -> dataset.Parameters | None:
        found = read_manifest(root)
        looks.append(root)
        if len(looks) == 1:  # of the outer call; the inner one looks next
            generate(root, categories=["wood"], **FEW)
        return found

    read_manifest = dataset.read_manifest
    monkeypatch.setattr(dataset, "read_manifest", look_and_wait)
    generate(tmp_path / "both", categories=["gear"], **FEW)
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["gear", "synthetic.json", "wood"]


def test_two_at_once_that_ask_for_different_data(tmp_path: Path) -> None:
    asked = [{**FEW, "seed": seed} for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(generate, tmp_path / "all", categories=["wood"], **each) for each in asked]
    failed = [run.exception() for run in runs]
    made = failed.index(None)
    assert [type(each) for each in failed if each is not None] == [InputError] * 3
    assert contents(tmp_path / "all") == contents(generate(tmp_path / "once", categories=["wood"], **asked[made]))


def test_foreign_folders_are_refused_and_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "holiday"
    foreign.mkdir()
    (foreign / "beach.jpg").write_bytes(b"sand")
    with pytest.raises(InputError, match="not empty"):
        generate(foreign, categories=["wood"], **FEW)
    assert contents(foreign) == {"beach.jpg": b"sand"}
    with pytest.raises(InputError, match="is a file"):
        generate(foreign / "beach.jpg", categories=["wood"], **FEW)
    (foreign / "synthetic.json").write_text("{}")
    with pytest.raises(InputError, match="not a manifest"):
        generate(foreign, categories=["wood"], **FEW)


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    generate(tmp_path, categories=["wood"], **FEW)
    with pytest.raises(InputError, match=r"seed 0 \(asked for: 7\)"):
        generate(tmp_path, categories=["wood"], seed=7, **FEW)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"categories": "wood"}, "categories is 'wood': expected a list of names, or None for all"),
        ({"categories": 3}, "categories is 3: expected a list of names"),
        ({"images": 3}, "synthetic has no parameter 'images': expected train, good, "),
        ({"train": True}, "train is True, expected a whole number of at least 1"),
    ],
)
def test_what_says_no_data_is_refused(tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        generate(tmp_path / "new", **{"categories": ["wood"], **FEW, **asked})
    assert not (tmp_path / "new").exists()


def test_a_category_with_lost_files_is_named(tmp_path: Path) -> None:
    generate(tmp_path, categories=["wood"], **FEW)
    (tmp_path / "wood/train/good/001.png").unlink()
    with pytest.raises(InputError, match="wood lacks 1 of its files"):
        generate(tmp_path, categories=["wood"], **FEW)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"train": 0}, {"seed": -1}, {"good": 1.5}, {"categories": ["woood"]}])
def test_wrong_parameters_write_nothing(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="synthetic"):
        generate(tmp_path / "new", **{**FEW, **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_without_a_root_it_lies_in_the_cache(cache: Path) -> None:
    dataset = registry.datasets.create("synthetic(size=32)")
    assert dataset.categories() == sorted(CATEGORIES)
    assert not list(cache.glob("synthetic/*size32*"))  # nothing is drawn before it is asked for
    category = dataset.load("wood")
    assert (len(category.train), len(category.test)) == (40, 12 + 3 * len(KINDS))
    assert all(cache in sample.path.parents for sample in (*category.train, *category.test))
    with pytest.raises(InputError, match="woood"):
        dataset.load("woood")


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("needs a user whom permissions bind")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write"):
        generate(tmp_path / "new", categories=["wood"], **FEW)
