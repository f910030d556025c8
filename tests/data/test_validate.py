"""The report on a folder lists every problem, and all files that have it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.data import validate
from padim_zoo.data.transform import Transform
from padim_zoo.data.unreadable import naming_unreadable
from padim_zoo.data.validate import Report, check

HEIGHT, WIDTH = 8, 10


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def _any_number_of_test_images_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "FEW_TEST_IMAGES", 0)


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """A category without any problem: 12 normal images, two kinds of defects, masks."""
    random = np.random.default_rng(0)
    folder = tmp_path / "root" / "widget"
    marked = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    marked[2:4, 3:5] = 255

    def image(path: str) -> None:
        write(folder / path, random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))

    for index in range(12):
        image(f"train/good/{index:02}.png")
    for index in range(3):
        image(f"test/good/{index}.png")
        image(f"test/dent/{index}.png")
        write(folder / f"ground_truth/dent/{index}_mask.png", marked)
    image("test/hole/0.png")
    write(folder / "ground_truth" / "hole" / "0_mask.png", marked)
    return folder


def only(source: Path) -> Report:
    (report,) = check(source, Transform(256, None))
    return report


def problems(report: Report) -> dict[str, list[str]]:
    return {f"{p.severity}: {p.message}": [item.rsplit("widget/")[-1] for item in p.items] for p in report.problems}


def test_a_clean_category(category: Path) -> None:
    report = only(category)
    assert report == only(category.parent)
    assert str(report.coverage) == (
        "resize 256x320, crop none: looks at all of each image and all of the annotated area"
    )
    loaded = registry.datasets.create("folder", root=category).load("widget")
    assert report == check(loaded, Transform(256, None))[0]
    assert report.usable
    assert report.to_dict() == {
        "dataset": "folder",
        "category": "widget",
        "counts": {"train": {"good": 12}, "test": {"dent": 3, "good": 3, "hole": 1}},
        "sizes": {"8x10": 19},
        "modes": {"RGB": 19},
        "problems": [],
        "coverage": {
            "resize": [256, 320],
            "crop": None,
            "bit_depth": None,
            "image_share": 1,
            "least_image_share": 1,
            "annotated_share": 1,
            "other_aspect": 0,
        },
    }


def test_every_unreadable_file_is_listed(category: Path) -> None:
    for name in ("train/good/03.png", "train/good/05.png", "test/dent/1.png", "ground_truth/hole/0_mask.png"):
        path = category / name
        path.write_bytes(path.read_bytes()[:40])
    report = only(category)
    assert not report.usable
    assert report.sizes == {"8x10": 16}
    assert report.counts["train"] == {"good": 12}
    assert [problem.message for problem in report.problems] == [
        "3 images cannot be read",
        "1 mask cannot be read or has not the size of its image",
    ]
    images, masks = (problem.items for problem in report.problems)
    for item, name in zip((*images, *masks), ("03.png", "05.png", "1.png", "0_mask.png"), strict=True):
        assert name in item


def test_another_error_is_told_beside_unreadable_files(category: Path) -> None:
    good = sorted((category / "train" / "good").iterdir())
    good[0].write_bytes(b"no image")
    both = r"^there is too little disk; besides, 1 of 12 images cannot be read: .*00"
    with pytest.raises(InputError, match=both), naming_unreadable(good):
        raise InputError("there is too little disk")
    with pytest.raises(InputError, match=r"^1 of 12 images cannot be read"), naming_unreadable(good):
        raise InputError(f"{good[0]} is no image")


def test_masks(category: Path) -> None:
    (category / "ground_truth" / "dent" / "0_mask.png").unlink()
    write(category / "ground_truth" / "dent" / "1_mask.png", np.ones((HEIGHT, WIDTH + 1), dtype=np.uint8))
    write(category / "ground_truth" / "hole" / "0_mask.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    for stray in ("dent/9_mask.png", "scratch/0_mask.png"):
        write(category / "ground_truth" / stray, np.ones((HEIGHT, WIDTH), dtype=np.uint8))
    report = only(category)
    found = problems(report)
    (wrong_size,) = found.pop("error: 1 mask cannot be read or has not the size of its image")
    assert wrong_size.startswith("test/dent/1.png is 8x10")
    assert "1_mask.png is 8x11" in report.problems[0].items[0]
    assert found == {
        "warning: 1 anomalous image has no mask and is left out of pixel figures": ["test/dent/0.png"],
        "warning: 1 anomalous image has a mask without a marked pixel": ["test/hole/0.png"],
        "warning: 2 masks belong to no image": ["ground_truth/dent/9_mask.png", "ground_truth/scratch/0_mask.png"],
    }


def test_one_empty_mask_among_several_is_no_problem(category: Path) -> None:
    folder = category / "ground_truth" / "hole"
    (folder / "0").mkdir()
    (folder / "0_mask.png").rename(folder / "0" / "000.png")
    write(folder / "0" / "001.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    assert only(category).problems == ()


def test_no_masks_at_all(category: Path) -> None:
    (category / "ground_truth").rename(category / "elsewhere")
    report = only(category)
    assert report.usable
    assert problems(report) == {"warning: no anomalous image has a mask: only image-level figures can be computed": []}


def test_leaks_are_found_by_pixels(category: Path) -> None:
    Image.open(category / "train/good/02.png").save(category / "test/good/copy.bmp")
    report = only(category)
    assert not report.usable
    (problem,) = report.problems
    assert problem.message == "1 test image is in the training set too, pixel for pixel"
    (item,) = problem.items
    assert "02.png = " in item
    assert item.endswith("copy.bmp")


def test_sizes_and_modes_are_counted(category: Path) -> None:
    write(category / "train/good/20.png", np.zeros((4, 5), dtype=np.uint8))
    write(category / "train/good/21.png", np.full((HEIGHT, WIDTH), 65535, dtype=np.uint16))
    report = only(category)
    assert report.sizes == {"8x10": 20, "4x5": 1}
    assert sum(report.modes.values()) == 21
    assert report.modes["RGB"] == 19
    assert report.modes["L"] == 1
    line = "warning: images have 2 sizes, 8x10 (20), 4x5 (1): all are resized to one grid"
    assert list(problems(report)) == [line]  # of one aspect, so that a resize makes them equal
    write(category / "train/good/22.png", np.zeros((5, 5), dtype=np.uint8))
    assert list(problems(only(category))) == [
        "warning: 1 of 22 images have another aspect than 256x320: they are resized to it all the same; there are 3 "
        "sizes, 8x10 (20), 4x5 (1), 5x5 (1)"
    ]


def test_too_few_images(category: Path) -> None:
    for index in range(3, 12):
        (category / f"train/good/{index:02}.png").unlink()
    for index in range(3):
        (category / f"test/good/{index}.png").unlink()
    assert list(problems(only(category))) == [
        "warning: only 3 normal images to fit: expected 10 or more",
        "warning: the test has no normal image: AUROC and the like are undefined",
        "warning: test/good holds no image",
    ]


def test_a_category_that_cannot_be_listed_does_not_hide_the_others(category: Path) -> None:
    (category.parent / "broken" / "train" / "good").mkdir(parents=True)
    broken, widget = check(category.parent)
    assert [problem.message for problem in broken.problems] == [
        "category 'broken' of folder has no normal image to fit: expected at least one"
    ]
    assert not broken.usable
    assert widget.usable


def test_any_name_of_normal_images_will_do(category: Path, tmp_path: Path) -> None:
    top = tmp_path / "btad" / "01"
    (category / "train" / "good").rename(category / "train" / "i.O.")
    (category / "test" / "good").rename(category / "test" / "OK")
    top.parent.mkdir()
    category.rename(top)
    (report,) = check(top.parent)
    assert (report.dataset, report.category) == ("folder", "01")
    assert report.counts["test"]["good"] == 3


def test_reports_are_json(category: Path) -> None:
    (category / "train/good/00.png").write_text("x")
    report = only(category).to_dict()
    assert json.loads(json.dumps(report)) == report


def test_folders_that_hold_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no known layout: expected train/good and"):
        check(tmp_path)
    with pytest.raises(InputError, match="missing does not exist"):
        check(tmp_path / "missing")


FEW = {
    "hazelnut_reduced": "only 2 normal and 8 anomalous test images",
    "transistor_reduced": "only 2 normal and 8 anomalous test images",
}


def test_real_folder(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = check(shared / "data" / "mvtec_reduced")
    assert [report.category for report in reports] == ["hazelnut_reduced", "transistor_reduced"]
    assert all(report.problems == () for report in reports)
    monkeypatch.undo()
    for report in check(shared / "data" / "mvtec_reduced"):
        assert [problem.message.partition(":")[0] for problem in report.problems] == [FEW[report.category]]
