"""check_dataset passes the package's own data sets, and says in words what is wrong with broken ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from padim_zoo import InputError, registry
from padim_zoo.data.layout import ListedDataset, dataset_root, list_category
from padim_zoo.data.sample import Category, Sample
from padim_zoo.data.synthetic import generate
from padim_zoo.testing import ContractError, check_dataset


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.datasets.names()
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets._entries))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generate(folder, categories=["gear"], train=3, good=1, defects_per_kind=1, size=64)
    return folder


def test_own_datasets_keep_the_contract(root: Path, tmp_path: Path) -> None:
    gear = root / "gear"
    check_dataset("folder", root=root)
    check_dataset("folder", root=gear)
    check_dataset("mvtec", root=root)
    check_dataset("folder", normal=gear / "train" / "good", abnormal=gear / "test" / "crack")
    btad = tmp_path / "btad" / "01"
    for source, target in (("train/good", "train/ok"), ("test/good", "test/ok"), ("test/crack", "test/ko")):
        (btad / target).parent.mkdir(parents=True, exist_ok=True)
        (btad / target).symlink_to(gear / source)
    check_dataset("btad", root=btad.parent)


def test_layouts_of_published_datasets_keep_the_contract(root: Path, tmp_path: Path) -> None:
    gear = root / "gear"
    good, bad = (sorted((gear / folder).iterdir()) for folder in ("train/good", "test/crack"))
    mask = next((gear / "ground_truth" / "crack").iterdir())

    def put(source: Path, *target: str) -> str:
        path = tmp_path.joinpath(*target)
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            image.save(path)
        return path.relative_to(tmp_path / target[0]).as_posix()

    for part, source in (("train/good", good[0]), ("test/good", good[1]), ("test/logical_anomalies", bad[0])):
        put(source, "loco", "pins", *part.split("/"), "000.png")
    put(mask, "loco", "pins", "ground_truth", "logical_anomalies", "000", "000.png")
    check_dataset("mvtec_loco", root=tmp_path / "loco")

    empty = tmp_path / "empty.png"
    Image.new("L", (64, 64)).save(empty)
    for item, part, source, label in (("01", 0, good[0], empty), ("02", 0, good[1], empty), ("02", 1, bad[0], mask)):
        put(source, "kolektor", f"kos{item}", f"Part{part}.png")
        put(label, "kolektor", f"kos{item}", f"Part{part}_label.bmp")
    check_dataset("kolektorsdd", root=tmp_path / "kolektor")

    rows = ["object,split,label,image,mask"]
    for split, source, number in (("train", good[0], 0), ("test", good[1], 1)):
        rows.append(f"pcb,{split},normal,{put(source, 'visa', 'pcb', 'Data', 'Images', 'Normal', f'{number}.png')},")
    image = put(bad[0], "visa", "pcb", "Data", "Images", "Anomaly", "0.png")
    rows.append(f"pcb,test,anomaly,{image},{put(mask, 'visa', 'pcb', 'Data', 'Masks', 'Anomaly', '0.png')}")
    (tmp_path / "visa" / "split_csv").mkdir()
    (tmp_path / "visa" / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    check_dataset("visa", root=tmp_path / "visa")


def broken(change: Callable[[Category], Any], name: str = "broken", order: Callable[..., Any] = sorted) -> None:
    """Register a sound data set ``broken``, but for what is changed."""

    class Listed(ListedDataset):
        def categories(self):
            return order(self.listings)

    @registry.datasets.register("broken", summary="for tests")
    def make(*, root=None):
        folder = dataset_root("broken", root, "CATEGORY/train/good")
        found = [path for path in sorted(folder.iterdir()) if (path / "train" / "good").is_dir()]
        if not found:
            raise InputError(f"{folder} has no categories")
        listings = {path.name: lambda path=path: change(list_category("broken", path)) for path in found}
        return Listed(name, listings)


def with_first(category: Category, split: str, **changes: Any) -> Category:
    """A category with its first sample changed."""
    first, *rest = getattr(category, split)
    return replace(category, **{split: (replace(first, **changes), *rest)})


CALLS: list[int] = []


def shuffled(category: Category) -> Category:
    CALLS.append(1)
    return replace(category, train=category.train if len(CALLS) % 2 else category.train[::-1])


def fake_mask(category: Category) -> Category:
    path = category.train[0].path.parent / "empty.txt"
    path.write_text("no image", encoding="utf-8")
    return replace(category, test=(*category.test, Sample(path, 1, "crack")))


def empty_mask(category: Category) -> Category:
    path = category.train[0].path.parents[2] / "empty_mask.png"
    Image.new("L", (64, 64)).save(path)
    wrong = next(sample for sample in category.test if sample.label)
    return replace(category, test=tuple(replace(s, masks=(path,)) if s is wrong else s for s in category.test))


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"name": "other"}, "names", "its name is 'other': expected the registered one, 'broken'"),
        ({"order": lambda listings: ["b", "a", "b"]}, "names", "gives b, a, b: expected sorted names"),
        ({"change": lambda category: [category]}, "categories", "gear cannot be loaded: AttributeError: 'list' object"),
        ({"change": lambda category: replace(category, test=())}, "categories", "test of gear is empty"),
        (
            {"change": lambda category: replace(category, name="x")},
            "categories",
            "gives broken/x: expected broken/gear",
        ),
        (
            {"change": lambda c: replace(c, train=(*c.train, c.test[0]))},
            "labels",
            "1 images to fit that are labeled",
        ),
        ({"change": lambda c: with_first(c, "test", label=2)}, "labels", r"label 2: expected 0 \(normal\) or 1"),
        ({"change": lambda c: with_first(c, "train", kind="ok")}, "labels", "of the kind 'ok': expected 'good'"),
        ({"change": lambda c: replace(c, test=c.test + c.train[:1])}, "splits", "1 images both to fit and to test"),
        ({"change": lambda c: replace(c, test=c.test + c.test[:2])}, "splits", "lists 2 images twice"),
        ({"change": fake_mask}, "files", "empty.txt"),
        ({"change": empty_mask}, "files", "marks no pixel: expected the anomalous ones"),
        ({"change": shuffled}, "determinism", "in another order: sort what folders list"),
        ({"change": lambda c: with_first(c, "train", path=Path("a.png"))}, "files", "a.png is not absolute"),
    ],
    ids=range(14),
)
def test_what_is_wrong_is_told(changes: dict[str, Any], check: str, words: str, root: Path) -> None:
    broken(**{"change": lambda category: category, **changes})
    with pytest.raises(ContractError) as caught:
        check_dataset("broken", root=root)
    found = [each.message for each in caught.value.violations if each.check == check]
    assert re.search(words, "; ".join(found)), str(caught.value)


def test_a_sound_dataset_passes_and_bad_roots_are_refused_in_words(root: Path) -> None:
    broken(lambda category: category)
    check_dataset("broken", root=root)

    @registry.datasets.register("broken", summary="for tests")
    def careless(root=None):
        paths = {path.name: path for path in Path(root).iterdir() if path.is_dir()}
        return ListedDataset("broken", {name: lambda p=p: list_category("broken", p) for name, p in paths.items()})

    with pytest.raises(ContractError) as caught:
        check_dataset("broken", root=root)
    for words in ("without root raises TypeError", "does not exist raises FileNotFoundError", "has no categories and"):
        assert words in str(caught.value)
