"""Small trees in the layout of every data set: what is listed, and what is refused."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import Category, Dataset, Sample


def write(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6), value, dtype=np.uint8)).save(path)
    return path


def create(name: str, **options: object) -> Dataset:
    return registry.datasets.create(name, **options)


def listed(samples: tuple[Sample, ...], root: Path) -> list[tuple[str, int, str, list[str]]]:
    return [
        (
            sample.path.relative_to(root).as_posix(),
            sample.label,
            sample.kind,
            [mask.relative_to(root).as_posix() for mask in sample.masks],
        )
        for sample in samples
    ]


def mvtec_tree(root: Path) -> Path:
    for index in range(3):
        write(root / "bottle" / "train" / "good" / f"{index:03}.png")
        write(root / "odd_name" / "train" / "good" / f"{index:03}.JPG")
    write(root / "bottle" / "test" / "good" / "000.png")
    write(root / "bottle" / "test" / "crack" / "000.png")
    write(root / "bottle" / "test" / "cut" / "007.png")
    write(root / "bottle" / "ground_truth" / "crack" / "000_mask.png", 255)
    write(root / "bottle" / "ground_truth" / "cut" / "007_mask.png", 255)
    write(root / "odd_name" / "test" / "bad" / "000.png")
    for junk in ("Thumbs.db", ".DS_Store", "._000.png"):
        (root / "bottle" / "test" / "crack" / junk).write_text("junk")
    (root / "bottle" / "test" / ".hidden").mkdir()
    (root / "readme.txt").touch()
    (root / "not_a_category").mkdir()
    return root


@pytest.mark.parametrize("name", ["mvtec", "folder"])
def test_mvtec_layout(tmp_path: Path, name: str) -> None:
    root = mvtec_tree(tmp_path)
    dataset = create(name, root=root)
    assert dataset.name == name
    assert dataset.categories() == ["bottle", "odd_name"]
    bottle = dataset.load("bottle")
    assert (bottle.dataset, bottle.name) == (name, "bottle")
    assert listed(bottle.train, root) == [(f"bottle/train/good/{i:03}.png", 0, "good", []) for i in range(3)]
    assert listed(bottle.test, root) == [
        ("bottle/test/crack/000.png", 1, "crack", ["bottle/ground_truth/crack/000_mask.png"]),
        ("bottle/test/cut/007.png", 1, "cut", ["bottle/ground_truth/cut/007_mask.png"]),
        ("bottle/test/good/000.png", 0, "good", []),
    ]
    odd = dataset.load("odd_name")
    assert len(odd.train) == 3
    assert listed(odd.test, root) == [("odd_name/test/bad/000.png", 1, "bad", [])]  # no ground truth at all


def test_fingerprint_changes_with_what_is_on_disk(tmp_path: Path) -> None:
    dataset = create("mvtec", root=mvtec_tree(tmp_path))
    before = dataset.load("bottle").fingerprint()
    assert dataset.load("bottle").fingerprint() == before
    write(tmp_path / "bottle" / "train" / "good" / "099.png")
    assert dataset.load("bottle").fingerprint() != before


def test_links_keep_the_name_they_were_given(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "real")
    (tmp_path / "linked").mkdir()
    os.symlink(tmp_path / "real" / "bottle", tmp_path / "linked" / "renamed")
    dataset = create("mvtec", root=tmp_path / "linked")
    assert dataset.categories() == ["renamed"]
    assert dataset.load("renamed").name == "renamed"
    assert len(dataset.load("renamed").test) == 3
    assert create("folder", root=tmp_path / "linked" / "renamed").categories() == ["renamed"]


def test_mvtec_wants_every_mask_and_folder_does_not(tmp_path: Path) -> None:
    (mvtec_tree(tmp_path) / "bottle" / "ground_truth" / "cut" / "007_mask.png").unlink()
    with pytest.raises(InputError, match=r"test.cut.007\.png has no mask: expected .*ground_truth.cut.007_mask\.png"):
        create("mvtec", root=tmp_path).load("bottle")
    assert [sample.masks != () for sample in create("folder", root=tmp_path).load("bottle").test] == [
        True,
        False,
        False,
    ]


def test_an_unknown_category_lists_the_closest(tmp_path: Path) -> None:
    dataset = create("mvtec", root=mvtec_tree(tmp_path))
    with pytest.raises(InputError, match=r"mvtec has no category 'botle': did you mean bottle\?"):
        dataset.load("botle")
    with pytest.raises(InputError, match="expected one of bottle, odd_name"):
        dataset.load("zzz")


def test_a_category_without_normal_images(tmp_path: Path) -> None:
    (tmp_path / "empty" / "train" / "good").mkdir(parents=True)
    with pytest.raises(InputError, match="'empty' of mvtec has no normal image to fit"):
        create("mvtec", root=tmp_path).load("empty")


def test_btad(tmp_path: Path) -> None:
    for suffix, category in ((".bmp", "01"), (".png", "02")):
        write(tmp_path / category / "train" / "ok" / f"0000{suffix}")
        write(tmp_path / category / "test" / "ok" / f"0000{suffix}")
        write(tmp_path / category / "test" / "ko" / f"0001{suffix}")
        write(tmp_path / category / "ground_truth" / "ko" / "0001.png", 255)
    write(tmp_path / "02" / "test" / "ko" / "0002.png")
    dataset = create("btad", root=tmp_path)
    assert dataset.categories() == ["01", "02"]
    category = dataset.load("01")
    assert listed(category.train, tmp_path) == [("01/train/ok/0000.bmp", 0, "good", [])]
    assert listed(category.test, tmp_path) == [
        ("01/test/ko/0001.bmp", 1, "ko", ["01/ground_truth/ko/0001.png"]),
        ("01/test/ok/0000.bmp", 0, "good", []),
    ]
    with pytest.raises(InputError, match=r"0002\.png has no mask"):
        dataset.load("02")
    write(tmp_path / "02" / "ground_truth" / "ko" / "0002.bmp", 255)
    assert [sample.masks[0].suffix for sample in dataset.load("02").test if sample.label] == [".png", ".bmp"]


def test_mvtec_loco(tmp_path: Path) -> None:
    box = tmp_path / "breakfast_box"
    write(box / "train" / "good" / "000.png")
    write(box / "validation" / "good" / "000.png")
    write(box / "test" / "good" / "000.png")
    write(box / "test" / "logical_anomalies" / "000.png")
    write(box / "test" / "structural_anomalies" / "000.png")
    write(box / "ground_truth" / "logical_anomalies" / "000" / "000.png", 255)
    write(box / "ground_truth" / "logical_anomalies" / "000" / "001.png", 250)
    write(box / "ground_truth" / "structural_anomalies" / "000" / "000.png", 255)
    dataset = create("mvtec_loco", root=tmp_path)
    category = dataset.load("breakfast_box")
    assert listed(category.train, box) == [("train/good/000.png", 0, "good", [])]  # validation is left out
    assert listed(category.test, box) == [
        ("test/good/000.png", 0, "good", []),
        (
            "test/logical_anomalies/000.png",
            1,
            "logical_anomalies",
            ["ground_truth/logical_anomalies/000/000.png", "ground_truth/logical_anomalies/000/001.png"],
        ),
        (
            "test/structural_anomalies/000.png",
            1,
            "structural_anomalies",
            ["ground_truth/structural_anomalies/000/000.png"],
        ),
    ]
    write(box / "test" / "structural_anomalies" / "001.png")
    with pytest.raises(InputError, match=r"001\.png has no mask: expected .*structural_anomalies.001.000\.png"):
        dataset.load("breakfast_box")


def test_mpdd(tmp_path: Path) -> None:
    plate = tmp_path / "metal_plate"
    write(plate / "train" / "good" / "000.png")
    write(plate / "test" / "good" / "000.png")
    write(plate / "test" / "scratches" / "007.png")
    mask = write(plate / "ground_truth" / "scratches" / "007_mask.png", 255)
    dataset = create("mpdd", root=tmp_path)
    assert dataset.categories() == ["metal_plate"]
    assert listed(dataset.load("metal_plate").test, plate) == [
        ("test/good/000.png", 0, "good", []),
        ("test/scratches/007.png", 1, "scratches", ["ground_truth/scratches/007_mask.png"]),
    ]
    mask.unlink()
    with pytest.raises(InputError, match=r"007\.png has no mask: expected .*007_mask\.png"):
        dataset.load("metal_plate")


def test_mvtec_ad_2(tmp_path: Path) -> None:
    can = tmp_path / "can"
    for part in ("train/good", "validation/good", "test_public/good", "test_public/bad"):
        write(can / part / "000_regular.png")
    mask = write(can / "test_public" / "ground_truth" / "bad" / "000_regular_mask.png", 255)
    write(tmp_path / "other" / "train" / "good" / "000.png")  # a category of another data set
    dataset = create("mvtec_ad_2", root=tmp_path)
    assert dataset.categories() == ["can"]
    assert dataset.load("can").notes == ()
    for index in range(2):
        write(can / "test_private" / f"{index:03}_regular.png")
    write(can / "test_private_mixed" / "000_mixed.png")
    category = dataset.load("can")
    assert listed(category.train, can) == [("train/good/000_regular.png", 0, "good", [])]
    assert listed(category.test, can) == [
        ("test_public/bad/000_regular.png", 1, "bad", ["test_public/ground_truth/bad/000_regular_mask.png"]),
        ("test_public/good/000_regular.png", 0, "good", []),
    ]
    assert category.notes == (
        "2 images of test_private and 1 image of test_private_mixed have no labels: padim-zoo predict scores them for "
        "the benchmark's server",
    )
    mask.unlink()
    with pytest.raises(InputError, match=r"000_regular\.png has no mask: expected .*bad.000_regular_mask\.png"):
        dataset.load("can")
    with pytest.raises(InputError, match="mvtec_ad_2 expects folders CATEGORY/train/good and CATEGORY/test_public"):
        create("mvtec_ad_2", root=mvtec_tree(tmp_path / "mvtec"))


def real_iad_tree(root: Path, splits: str = "realiad_jsons", images: str = "realiad_1024") -> Path:
    """Two cameras look at one good and one bad switch; one of them does not see the defect."""

    def entry(kind: str, item: str, camera: int, mask: bool = False) -> dict[str, object]:
        stem = f"{'OK' if kind == 'OK' else f'NG/{kind}'}/{item}/switch_{item}_{kind}_C{camera}_2023"
        write(root / images / "switch" / f"{stem}.jpg")
        if mask:
            write(root / images / "switch" / f"{stem}.png", 255)
        paths = {"image_path": f"{stem}.jpg", "mask_path": f"{stem}.png" if mask else None}
        return {"category": "switch", "anomaly_class": kind, **paths}

    content = {
        "meta": {"prefix": "switch/", "normal_class": "OK", "pre_transform": None},
        "train": [entry("OK", "S0001", 1), entry("OK", "S0001", 2)],
        "test": [entry("OK", "S0002", 1), entry("HS", "S0003", 1, mask=True), entry("HS", "S0003", 2)],
    }
    (root / splits).mkdir(parents=True)
    (root / splits / "switch.json").write_text(json.dumps(content), encoding="utf-8")
    return root


@pytest.mark.parametrize("splits", ["realiad_jsons", "realiad_jsons/realiad_jsons"])
def test_real_iad(tmp_path: Path, splits: str) -> None:
    dataset = create("real_iad", root=real_iad_tree(tmp_path, splits))
    assert (dataset.name, dataset.categories()) == ("real_iad", ["switch"])
    category, images = dataset.load("switch"), tmp_path / "realiad_1024" / "switch"
    assert listed(category.train, images) == [
        (f"OK/S0001/switch_S0001_OK_C{camera}_2023.jpg", 0, "good", []) for camera in (1, 2)
    ]
    assert listed(category.test, images) == [
        ("OK/S0002/switch_S0002_OK_C1_2023.jpg", 0, "good", []),
        ("NG/HS/S0003/switch_S0003_HS_C1_2023.jpg", 1, "HS", ["NG/HS/S0003/switch_S0003_HS_C1_2023.png"]),
        ("NG/HS/S0003/switch_S0003_HS_C2_2023.jpg", 0, "good", []),  # this camera does not see the defect
    ]
    (images / "NG" / "HS" / "S0003" / "switch_S0003_HS_C1_2023.png").unlink()
    with pytest.raises(InputError, match=r"HS_C1_2023\.jpg has no mask"):
        dataset.load("switch")


def test_other_splits_of_real_iad_are_other_data_sets(tmp_path: Path) -> None:
    root = real_iad_tree(tmp_path, "realiad_jsons_fuiad_0.1", "realiad_512")
    file = root / "realiad_jsons_fuiad_0.1" / "switch.json"
    content = json.loads(file.read_text())
    content["train"].append(content["test"].pop(1))
    file.write_text(json.dumps(content))
    dataset = create("real_iad(splits='realiad_jsons_fuiad_0.1', images='realiad_512')", root=root)
    category = dataset.load("switch")
    assert category.dataset == dataset.name == "real_iad(realiad_jsons_fuiad_0.1)"
    assert [sample.label for sample in category.train] == [0, 0, 0]  # the noise that the split is there for
    assert category.notes == ("1 of 3 images to fit show defects, as realiad_jsons_fuiad_0.1 has it",)


def test_real_iad_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"real_iad expects realiad_jsons/CATEGORY\.json and realiad_1024/CATEGORY"):
        create("real_iad", root=tmp_path)
    root = real_iad_tree(tmp_path)
    file = root / "realiad_jsons" / "switch.json"
    content = json.loads(file.read_text())
    next((root / "realiad_1024" / "switch" / "OK" / "S0002").iterdir()).unlink()
    with pytest.raises(InputError, match=r"S0002_OK_C1_2023\.jpg of .*switch\.json does not exist: restore it"):
        create("real_iad", root=root).load("switch")
    del content["test"][0]["anomaly_class"]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"cannot read .*switch\.json \(KeyError: 'anomaly_class'\): expected"):
        create("real_iad", root=root).load("switch")


VISA_ROWS = [
    ("candle", "train", "normal", "Normal/0000.JPG", ""),
    ("candle", "test", "normal", "Normal/0001.JPG", ""),
    ("candle", "test", "anomaly", "Anomaly/000.JPG", "Anomaly/000.png"),
    ("fryum", "train", "normal", "Normal/0000.JPG", ""),
]


def visa_tree(root: Path, rows: list[tuple[str, ...]] = VISA_ROWS) -> Path:
    table = []
    for name, split, label, image, mask in rows:
        image = f"{name}/Data/Images/{image}"
        write(root / image)
        if mask:
            mask = f"{name}/Data/Masks/{mask}"
            write(root / mask, 1)
        table.append((name, split, label, image, mask))
    (root / "split_csv").mkdir()
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *table])
    return root


def test_visa(tmp_path: Path) -> None:
    dataset = create("visa", root=visa_tree(tmp_path))
    assert dataset.categories() == ["candle", "fryum"]
    candle = dataset.load("candle")
    data = tmp_path / "candle" / "Data"
    assert listed(candle.train, data) == [("Images/Normal/0000.JPG", 0, "good", [])]
    assert listed(candle.test, data) == [
        ("Images/Normal/0001.JPG", 0, "good", []),
        ("Images/Anomaly/000.JPG", 1, "anomaly", ["Masks/Anomaly/000.png"]),
    ]
    mask = data / "Masks" / "Anomaly" / "000.png"
    mask.unlink()
    with pytest.raises(InputError, match=r"000\.JPG has no mask: expected .*Masks.Anomaly.000\.png"):
        dataset.load("candle")
    mask.parent.rmdir()
    mask.parent.parent.rmdir()
    assert dataset.load("candle").test[1].masks == ()
    (data / "Images" / "Normal" / "0000.JPG").unlink()
    with pytest.raises(InputError, match=r"0000\.JPG of VisA's 1cls\.csv does not exist"):
        dataset.load("candle")


def test_visa_tables_that_are_refused(tmp_path: Path) -> None:
    visa_tree(tmp_path, [("candle", "valid", "normal", "Normal/0.JPG", "")])
    with pytest.raises(InputError, match="the split 'valid' and the label 'normal': expected train or test"):
        create("visa", root=tmp_path).load("candle")
    table = tmp_path / "split_csv" / "1cls.csv"
    table.write_text("object,split,image\n")
    with pytest.raises(InputError, match="lacks the columns label, mask"):
        create("visa", root=tmp_path)
    table.write_text("object,split,label,image,mask\n")
    with pytest.raises(InputError, match="has no rows"):
        create("visa", root=tmp_path)


def test_kolektorsdd(tmp_path: Path) -> None:
    for item in range(1, 5):
        for part in range(2):
            write(tmp_path / f"kos{item:02}" / f"Part{part}.jpg", 100)
            label = np.zeros((4, 6), dtype=np.uint8)
            label[1, 2] = part == 0 and item in (1, 2)
            Image.fromarray(label).save(tmp_path / f"kos{item:02}" / f"Part{part}_label.bmp")
    dataset = create("kolektorsdd", root=tmp_path)
    assert dataset.categories() == ["kolektorsdd"]
    category = dataset.load("kolektorsdd")
    assert listed(category.train, tmp_path) == [
        ("kos01/Part1.jpg", 0, "good", []),
        ("kos03/Part0.jpg", 0, "good", []),
        ("kos03/Part1.jpg", 0, "good", []),
    ]
    assert listed(category.test, tmp_path) == [
        ("kos01/Part0.jpg", 1, "crack", ["kos01/Part0_label.bmp"]),
        ("kos02/Part0.jpg", 1, "crack", ["kos02/Part0_label.bmp"]),
        ("kos02/Part1.jpg", 0, "good", []),
        ("kos04/Part0.jpg", 0, "good", []),
        ("kos04/Part1.jpg", 0, "good", []),
    ]
    (tmp_path / "kos04" / "Part1_label.bmp").unlink()
    with pytest.raises(InputError, match=r"Part1\.jpg has no label: expected .*Part1_label\.bmp"):
        dataset.load("kolektorsdd")


def test_folder_that_is_itself_a_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mvtec_tree(tmp_path)
    assert create("folder", root=tmp_path / "bottle").categories() == ["bottle"]
    monkeypatch.chdir(tmp_path / "bottle")
    dataset = create("folder", root=".")
    assert dataset.categories() == ["bottle"]
    assert len(dataset.load("bottle").test) == 3


@pytest.mark.parametrize("mask", ["000.png", "000_mask.bmp", "000.TIF"])
def test_folder_finds_masks_by_stem(tmp_path: Path, mask: str) -> None:
    write(tmp_path / "train" / "good" / "0.png")
    write(tmp_path / "test" / "bad" / "000.jpg")
    write(tmp_path / "ground_truth" / "bad" / mask, 255)
    (sample,) = create("folder", root=tmp_path).load(tmp_path.name).test
    assert [path.name for path in sample.masks] == [mask]


def test_two_masks_of_one_image_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train" / "good" / "0.png")
    write(tmp_path / "test" / "bad" / "000.png")
    for name in ("000.png", "000_mask.png"):
        write(tmp_path / "ground_truth" / "bad" / name, 255)
    with pytest.raises(InputError, match=r"000\.png has two masks, .*000_mask\.png and .*000\.png: expected one"):
        create("folder", root=tmp_path).load(tmp_path.name)


def bare_tree(root: Path, normal: int = 11) -> Path:
    for index in range(normal):
        write(root / "ok" / f"{index:02}.png", index)
    write(root / "bad" / "dent" / "0.png")
    write(root / "bad" / "dent" / "1.png")
    write(root / "bad" / "2.png")
    write(root / "truth" / "dent" / "0_mask.png", 255)
    write(root / "truth" / "2.png", 255)
    return root


def load_bare(**folders: object) -> Category:
    dataset = create("folder", **folders)
    return dataset.load(dataset.categories()[0])


def test_bare_folders(tmp_path: Path) -> None:
    bare_tree(tmp_path)
    category = load_bare(normal=tmp_path / "ok", abnormal=tmp_path / "bad", masks=tmp_path / "truth")
    assert category.name == "ok"
    assert [sample.path.stem for sample in category.train] == ["00", "01", "02", "03", "05", "06", "07", "08", "10"]
    assert listed(category.test, tmp_path) == [
        ("ok/04.png", 0, "good", []),
        ("ok/09.png", 0, "good", []),
        ("bad/2.png", 1, "anomaly", ["truth/2.png"]),
        ("bad/dent/0.png", 1, "dent", ["truth/dent/0_mask.png"]),
        ("bad/dent/1.png", 1, "dent", []),
    ]
    without_masks = load_bare(normal=tmp_path / "ok", abnormal=str(tmp_path / "bad"))
    assert [sample.masks for sample in without_masks.test] == [()] * 5
    assert {sample.label for sample in load_bare(normal=tmp_path / "ok").test} == {0}


@pytest.mark.parametrize(("images", "held_out"), [(2, ["01"]), (4, ["03"]), (5, ["04"]), (10, ["04", "09"])])
def test_held_out_normal_images(tmp_path: Path, images: int, held_out: list[str]) -> None:
    category = load_bare(normal=bare_tree(tmp_path, images) / "ok")
    assert [sample.path.stem for sample in category.test] == held_out
    assert len(category.train) == images - len(held_out)


def test_bare_folders_that_are_refused(tmp_path: Path) -> None:
    bare_tree(tmp_path)
    write(tmp_path / "one" / "0.png")
    write(tmp_path / "mixed" / "good" / "0.png")
    (tmp_path / "nothing").mkdir()
    ok, bad, truth = (tmp_path / name for name in ("ok", "bad", "truth"))
    refused: list[tuple[dict[str, Path], str]] = [
        ({"normal": tmp_path / "one"}, "one has 1 images: expected at least 2"),
        ({"normal": tmp_path / "nowhere"}, "nowhere does not exist: .* expects normal images"),
        ({"normal": ok, "abnormal": tmp_path / "nothing"}, "nothing has no image in it"),
        ({"normal": ok, "abnormal": tmp_path / "nowhere"}, "nowhere does not exist"),
        ({"normal": ok, "abnormal": tmp_path / "mixed"}, "mixed has a subfolder good"),
        ({"normal": tmp_path, "abnormal": bad}, r"holds anomalous images \(bad\) too: expected normal images only"),
        ({"normal": ok, "abnormal": ok}, "is both normal and abnormal"),
        ({"normal": ok, "masks": truth}, "has masks .* but no abnormal images"),
        ({"normal": ok, "abnormal": bad, "masks": ok}, r"no file in .*ok is the mask .*2_mask\.png or 2\.png"),
        ({"normal": ok, "root": bad}, "both a root .* and normal images"),
        ({"abnormal": bad}, "no normal images: give --normal"),
    ]
    for folders, message in refused:
        with pytest.raises(InputError, match=message):
            load_bare(**folders)


DATASETS = ["mvtec", "visa", "btad", "mvtec_loco", "kolektorsdd", "folder"]


@pytest.mark.parametrize("name", DATASETS)
def test_roots_that_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    write(tmp_path / "other" / "pictures" / "0.png")
    for root, message in [
        (None, f"dataset {name} needs its folder .--data-root DIR.: expected"),
        (tmp_path / "missing", f"missing does not exist: dataset {name} expects"),
        (tmp_path / "file", f"file is not a folder: dataset {name} expects"),
        (tmp_path / "empty", f"empty holds nothing: dataset {name} expects"),
        (tmp_path / "other", f"other holds pictures/: dataset {name} expects"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            create(name, root=root)
        assert "\n" not in str(caught.value)


def build_btad(root: Path) -> None:
    write(root / "01" / "train" / "ok" / "0.png")


def build_kolektorsdd(root: Path) -> None:
    write(root / "kos01" / "Part0.jpg")


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "mvtec": mvtec_tree,
    "visa": visa_tree,
    "btad": build_btad,
    "kolektorsdd": build_kolektorsdd,
}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_root_of_another_layout_is_refused(tmp_path: Path, name: str, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    if name == layout or (name == "folder" and layout in ("mvtec", "btad")):
        create(name, root=tmp_path)
    else:
        with pytest.raises(InputError, match=f" holds .*: dataset {name} expects"):
            create(name, root=tmp_path)


def test_a_single_category_as_a_root_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="itself one category: give the folder above it, or use the dataset folder"):
        create("mvtec", root=mvtec_tree(tmp_path) / "bottle")


def test_real_mvtec_layout(shared: Path) -> None:
    dataset = create("mvtec", root=shared / "data" / "mvtec_reduced")
    assert dataset.categories() == ["hazelnut_reduced", "transistor_reduced"]
    for name in dataset.categories():
        category = dataset.load(name)
        assert len(category.train) == 50
        assert len(category.test) == 10
        assert all(bool(sample.masks) == bool(sample.label) for sample in category.test)
