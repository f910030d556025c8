"""Folders that mean something other than they seem: taken as people mean them, or refused by name."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from padim_zoo import PaDiM, registry
from padim_zoo.core.errors import InputError
from padim_zoo.data.files import image_files, normal_image_files, paths_of
from padim_zoo.data.kinds import is_abnormal_kind, is_normal_kind
from padim_zoo.data.sample import Category
from padim_zoo.data.validate import check
from tests.traps.drawing import write, write_mask

NORMAL = ("good", "OK", "Ok", "i.O.", "IO", "Normal", "norm", "pass", "defect-free", "no_defect", "Defect Free")
ABNORMAL = ("bad", "NG", "KO", "n.i.O.", "NOK", "Anomaly", "defects", "Defective", "rejected")


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A category of 4 + 2 + 2 images with masks."""
    folder = tmp_path / "root" / "part"
    for index in range(4):
        write(folder / f"train/good/{index}.png", index)
    for index in range(2):
        write(folder / f"test/good/{index}.png", 10 + index)
        write(folder / f"test/crack/{index}.png", 20 + index)
        write_mask(folder / f"ground_truth/crack/{index}_mask.png")
    return folder


def load(folder: Path) -> Category:
    dataset = registry.datasets.create("folder", root=folder)
    return dataset.load(dataset.categories()[0])


def counts(category: Category) -> tuple[int, int, int, int]:
    """Images to fit, normal and anomalous ones to test, and masks."""
    anomalous = [sample for sample in category.test if sample.label]
    masked = sum(bool(sample.masks) for sample in anomalous)
    return len(category.train), len(category.test) - len(anomalous), len(anomalous), masked


def test_names_of_kinds() -> None:
    assert all(map(is_normal_kind, NORMAL))
    assert not any(map(is_normal_kind, (*ABNORMAL, "crack", "abnormal", "not_ok")))
    assert all(map(is_abnormal_kind, ABNORMAL))
    assert not any(map(is_abnormal_kind, (*NORMAL, "crack")))


# -- defects learned as normal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "other", "problem"),
    [
        ("good", "bad/0.png", r"anomalous images \(bad\)"),
        ("OK", "NG/0.png", r"anomalous images \(NG\)"),
        ("normal", "scratch/0.png", "images in scratch beside normal"),
        ("good", "loose.png", "images beside good"),
        ("train/good", "test/crack/0.png", r"test images \(test\)"),
        ("train/good", "ground_truth/crack/0.png", r"masks \(ground_truth\)"),
        ("good", "good/3_mask.png", r"masks \(3_mask\.png\)"),
    ],
)
def test_a_fit_refuses_a_folder_that_holds_more_than_normal_images(
    tmp_path: Path, good: str, other: str, problem: str
) -> None:
    for index in range(4):
        write(tmp_path / good / f"{index}.png", index)
    write(tmp_path / other, 9)
    message = f"holds {problem} too: expected normal images only, e.g. .*{good}"
    for sources in ([str(tmp_path)], [f"{tmp_path}/**/*.png"]):
        with pytest.raises(InputError, match=message):
            normal_image_files(sources)
    for images in (tmp_path, str(tmp_path), [tmp_path]):
        with pytest.raises(InputError, match=message):
            PaDiM().fit(images)


def test_sources_that_lie_side_by_side_are_told_by_their_own_names(tmp_path: Path) -> None:
    for name in ("good", "bad", "scratch"):
        write(tmp_path / name / "0.png")
    for other in ("bad", "scratch"):
        with pytest.raises(InputError, match=f"{other}.* too: expected normal images only"):
            normal_image_files([f"{tmp_path}/good", f"{tmp_path}/{other}"])
    with pytest.raises(InputError, match="bad"):
        normal_image_files([f"{tmp_path}/good/0.png", f"{tmp_path}/bad/0.png"])


def test_folders_of_normal_images_in_parts_are_taken(tmp_path: Path) -> None:
    flat = [write(tmp_path / f"flat/{index}.png", index) for index in range(2)]
    by_date = [write(tmp_path / f"train/good/2026-01-0{index}/shift/0.png", index) for index in range(1, 3)]
    assert normal_image_files([str(tmp_path / "flat")]) == flat
    assert normal_image_files([str(tmp_path / "train" / "good")]) == by_date
    assert normal_image_files([str(tmp_path / "train")]) == by_date
    assert normal_image_files([str(tmp_path / "flat"), str(tmp_path / "train" / "good")]) == [*flat, *by_date]


# -- kinds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMAL)
def test_any_name_of_normal_images(part: Path, name: str) -> None:
    for split in ("train", "test"):
        shutil.move(part / split / "good", part / split / name)
    assert counts(load(part)) == (4, 2, 2, 2)


def test_ok_beside_good_is_normal_and_said(part: Path) -> None:
    write(part / "test" / "OK" / "0.png", 30)
    category = load(part)
    assert counts(category) == (4, 3, 2, 2)
    assert category.notes == (
        "test/OK and test/good all count as normal, as their names say: rename a folder that holds defects",
    )


# -- images passed over or doubled ---------------------------------------------------------------------------------


def test_images_at_any_depth_with_masks_at_the_same_path(part: Path) -> None:
    for split in ("train/good", "test/good", "test/crack"):
        (part / split / "day2").mkdir()
        shutil.move(part / split / "1.png", part / split / "day2" / "1.png")
    (part / "ground_truth/crack/day2").mkdir()
    shutil.move(part / "ground_truth/crack/1_mask.png", part / "ground_truth/crack/day2/1_mask.png")
    category = load(part)
    assert counts(category) == (4, 2, 2, 2)
    assert sorted(sample.path for sample in category.train) == image_files([str(part / "train" / "good")])
    (report,) = check(part)
    assert not any("to no image" in problem.message for problem in report.problems)


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"])
def test_folders_of_systems_are_passed_over_and_counted(part: Path, name: str) -> None:
    for index in range(3):
        write(part / "train" / "good" / name / f"{index}.png" / "thumb.png", index)
    write(part / "train" / "good" / ".hidden" / "0.png")
    line = f"3 files passed over: 3 × in {name}"
    with pytest.warns(UserWarning, match=r"3 files passed over: 3 × in "):
        assert len(paths_of(part / "train" / "good")) == 4
    assert len(paths_of(f"{part}/train/good/**/*.png")) == 4
    category = load(part)
    assert (len(category.train), category.notes) == (4, (line,))
    (report,) = check(part)
    assert line in [problem.message for problem in report.problems]


@pytest.mark.parametrize(("suffix", "form"), [("jfif", "JPEG"), ("jpe", "JPEG"), ("pgm", "PPM"), ("ppm", "PPM")])
def test_more_suffixes_are_read(part: Path, suffix: str, form: str) -> None:
    image = Image.open(part / "train/good/0.png").convert("L" if suffix == "pgm" else "RGB")
    image.save(part / f"train/good/new.{suffix}", format=form)
    assert len(load(part).train) == 5


def test_what_is_not_read_is_counted_by_its_kind(part: Path) -> None:
    folder = part / "train" / "good"
    for index in range(2):
        Image.open(folder / "0.png").save(folder / f"{index}.gif")
    shutil.copy(folder / "0.png", folder / "without")
    os.symlink(part / "nowhere.png", folder / "link.png")
    (folder / "notes.txt").write_text("words")
    (folder / "._0.png").write_bytes(b"\x89PNG")
    (part / "test" / "dent").mkdir()
    notes = load(part).notes
    assert notes == ("test/dent holds no image", "4 files passed over: 2 × .gif, 1 × broken link, 1 × without suffix")


def test_what_is_passed_over_in_plain_folders_is_counted(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / f"fine/{index}.png", index)
    write(tmp_path / "faulty/0.png", 9)
    for name in ("fine/9.gif", "faulty/@eaDir/0.png"):
        write(tmp_path / name)
    dataset = registry.datasets.create("folder", normal=tmp_path / "fine", abnormal=tmp_path / "faulty")
    assert dataset.load("fine").notes == ("2 files passed over: 1 × .gif, 1 × in @eaDir",)


def test_a_folder_of_nothing_that_is_read_says_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "0.gif")
    with pytest.raises(InputError, match=r"has no image in it \(1 file passed over: 1 × \.gif\)"):
        paths_of(tmp_path)
    os.symlink(tmp_path / "gone.png", tmp_path / "link.png")
    with pytest.raises(InputError, match=r"link\.png is a broken link to .*gone\.png"):
        paths_of(tmp_path / "link.png")


# -- masks ---------------------------------------------------------------------------------------------------------


def test_one_mask_for_two_images_is_refused(part: Path) -> None:
    Image.open(part / "test/crack/0.png").save(part / "test/crack/0.jpg")
    with pytest.raises(InputError, match=r"0_mask\.png may be the mask of .*0\.jpg or of .*0\.png"):
        load(part)


@pytest.mark.parametrize("second", ["0.png", "0_GT.png", "0/000.png", "0_mask.bmp"])
def test_two_masks_for_one_image_are_refused(part: Path, second: str) -> None:
    write_mask(part / "ground_truth" / "crack" / second)
    with pytest.raises(InputError, match=r"test.crack.0\.png has two masks, .*0_mask"):
        load(part)


@pytest.mark.parametrize("ending", ["_mask", "_Mask", "_GT", "_gt", "_label"])
@pytest.mark.parametrize("beside", [False, True])
def test_endings_of_masks(part: Path, ending: str, beside: bool) -> None:
    folder = part / ("test" if beside else "ground_truth") / "crack"
    for index in range(2):
        shutil.move(part / f"ground_truth/crack/{index}_mask.png", folder / f"{index}{ending}.png")
    assert counts(load(part)) == (4, 2, 2, 2)


def test_masks_in_two_places_are_refused(part: Path) -> None:
    write_mask(part / "test/crack/0_mask.png")
    with pytest.raises(InputError, match=r"0\.png has two masks, .*ground_truth.*test.crack.0_mask\.png"):
        load(part)


def test_a_folder_of_masks_among_images_is_refused(part: Path) -> None:
    write_mask(part / "test/crack/gt/0.png")
    with pytest.raises(InputError, match=r"gt.0\.png is a mask by its folder, among images: move it to .*ground_truth"):
        load(part)


def test_a_marked_mask_of_a_normal_image_is_refused(part: Path) -> None:
    write_mask(part / "ground_truth/good/0_mask.png", marked=False)
    assert counts(load(part)) == (4, 2, 2, 2)
    write_mask(part / "ground_truth/good/1_mask.png")
    with pytest.raises(InputError, match=r"marked pixels: .*test.good.1\.png \(mask .*good.1_mask\.png\)"):
        load(part)


def test_names_are_compared_in_one_unicode_form(part: Path) -> None:
    for folder, form, ending in (("test", "NFC", ""), ("ground_truth", "NFD", "_mask")):
        name = unicodedata.normalize(form, f"prüf{ending}.png")
        shutil.move(part / folder / "crack" / f"0{ending}.png", part / folder / "crack" / name)
    assert counts(load(part)) == (4, 2, 2, 2)


@pytest.mark.parametrize("name", ["0.png.png", "label_0.png", "0.png_mask.png", "0-mask.png"])
def test_a_mask_that_is_named_otherwise_is_told_with_its_image(part: Path, name: str) -> None:
    shutil.move(part / "ground_truth/crack/0_mask.png", part / "ground_truth/crack" / name)
    (report,) = check(part)
    (stray,) = [problem for problem in report.problems if "to no image" in problem.message]
    assert stray.items == (f"{part}/ground_truth/crack/{name} (call the mask of 0 0_mask.png)",)


# -- names and tables ----------------------------------------------------------------------------------------------


def test_brackets_in_a_folder_before_a_pattern(tmp_path: Path) -> None:
    image = write(tmp_path / "line[1]" / "a" / "0.png")
    assert paths_of(f"{tmp_path}/line[1]/*/*.png") == [image]
    assert paths_of(f"{tmp_path}/line[[]1]/*/*.png") == [image]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_any_encoding(tmp_path: Path, encoding: str, separator: str) -> None:
    rows = [["object", "split", "label", "image", "mask"]]
    for split, label, name in (("train", "normal", "grün"), ("test", "normal", "1"), ("test", "anomaly", "2")):
        write(tmp_path / f"{name}.png")
        rows.append(["nut", split, label, f"{name}.png", "m.png" if label == "anomaly" else ""])
    (tmp_path / "split_csv").mkdir()
    text = "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    (tmp_path / "split_csv" / "1cls.csv").write_bytes(text.encode(encoding))
    category = registry.datasets.create("visa", root=tmp_path).load("nut")
    assert counts(category)[:3] == (1, 1, 1)
    short = text.replace(separator + "m.png", "")
    (tmp_path / "split_csv" / "1cls.csv").write_bytes(short.encode(encoding))
    with pytest.raises(InputError, match=r"row 4 of .*1cls\.csv ends before the column mask"):
        registry.datasets.create("visa", root=tmp_path)
