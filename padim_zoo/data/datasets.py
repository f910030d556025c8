"""The registered data sets: MVTec AD and AD 2, VisA, BTAD, MPDD, MVTec LOCO, KolektorSDD.

None of them is downloaded: each factory takes the folder that the data set was unpacked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.data.files import folders_in, images_in, list_images
from padim_zoo.data.image import image_size
from padim_zoo.data.layout import (
    PADIM_PAPER,
    SQUARE,
    ListedDataset,
    dataset_root,
    is_category,
    list_category,
    missing_mask,
    wrong_layout,
)
from padim_zoo.data.mask import read_mask
from padim_zoo.data.sample import Category, Dataset, Sample
from padim_zoo.data.table_file import read_table
from padim_zoo.data.transform import Transform


@registry.datasets.register("mvtec", summary="MVTec AD (Bergmann et al. 2019): 15 categories, pixel masks")
def mvtec(*, root: str | Path | None = None) -> Dataset:
    """MVTec AD: ``<category>/{train/good, test/<kind>, ground_truth/<kind>/<stem>_mask.png}``.

    Any folder with ``train/good`` is a category, whatever its name.
    """
    expected = "folders CATEGORY/train/good and CATEGORY/test/KIND"
    return in_subfolders("mvtec", root, expected, "{stem}_mask.png", protocol=PADIM_PAPER)


@registry.datasets.register("btad", summary="BTAD (Mishra et al. 2021): 3 industrial products, pixel masks")
def btad(*, root: str | Path | None = None) -> Dataset:
    """BTAD: ``<01|02|03>/{train/ok, test/{ok, ko}, ground_truth/ko/<stem>.{png, bmp}}``."""
    expected = "folders CATEGORY/train/ok and CATEGORY/test/ko"
    return in_subfolders("btad", root, expected, "{stem}.png", normal="ok", protocol=SQUARE)


@registry.datasets.register(
    "mvtec_loco", summary="MVTec LOCO AD (Bergmann et al. 2022): 5 categories, logical and structural anomalies"
)
def mvtec_loco(*, root: str | Path | None = None) -> Dataset:
    """MVTec LOCO AD: as MVTec AD, but an image has several masks, ``ground_truth/<kind>/<stem>/*.png``.

    ``defects_config.json`` beside these folders has the saturation areas of sPRO (:mod:`padim_zoo.data.saturation`).
    ``validation/good`` is left out, so that the number of training images is that of the published figures.
    """
    expected = "folders CATEGORY/train/good and CATEGORY/test/{logical_anomalies,structural_anomalies}"
    kinds = ("logical_anomalies", "structural_anomalies")
    return in_subfolders("mvtec_loco", root, expected, "{stem}/000.png", kinds=kinds, protocol=SQUARE)


@registry.datasets.register("mpdd", summary="MPDD (Jezek et al. 2021): 6 kinds of painted metal parts, pixel masks")
def mpdd(*, root: str | Path | None = None) -> Dataset:
    """MPDD: the layout of MVTec AD, ``<category>/{train/good, test/<kind>, ground_truth/<kind>/<stem>_mask.png}``."""
    expected = "folders CATEGORY/train/good and CATEGORY/test/KIND"
    return in_subfolders("mpdd", root, expected, "{stem}_mask.png", protocol=SQUARE)


@registry.datasets.register(
    "mvtec_ad_2",
    summary="MVTec AD 2 (Heckler-Kram et al. 2025): 8 categories, changed light, small defects, pixel masks",
)
def mvtec_ad_2(*, root: str | Path | None = None) -> Dataset:
    """MVTec AD 2: the public test set, with masks in ``test_public/ground_truth/bad/<stem>_mask.png``.

    Labels of ``test_private`` and ``test_private_mixed`` are with the benchmark's server alone, so there is nothing to
    compare their scores with here. A note counts their images and says how to score them. ``validation/good`` is left
    out, as that of MVTec LOCO AD is.
    """
    expected = "folders CATEGORY/train/good and CATEGORY/test_public/{good,bad}"
    top = dataset_root("mvtec_ad_2", root, expected)
    listings = {
        path.name: partial(_mvtec_ad_2_category, path)
        for path in folders_in(top)
        if is_category(path, "good") and (path / "test_public").is_dir()
    }
    if not listings:
        raise wrong_layout("mvtec_ad_2", top, expected)
    return ListedDataset("mvtec_ad_2", listings, SQUARE)


def _mvtec_ad_2_category(folder: Path) -> Category:
    public = list_category(
        "mvtec_ad_2",
        folder,
        expected_mask="{stem}_mask.png",
        test_folder="test_public",
        truth_folder="test_public/ground_truth",
    )
    private = {path.name: len(list_images(path).images) for path in folders_in(folder) if "private" in path.name}
    if not private:
        return public
    counts = " and ".join(f"{number_of(count, 'image')} of {name}" for name, count in private.items())
    note = f"{counts} have no labels: padim-zoo predict scores them for the benchmark's server"
    return replace(public, notes=(*public.notes, note))


def in_subfolders(
    dataset: str,
    root: str | Path | None,
    expected: str,
    expected_mask: str | None,
    *,
    normal: str | None = "good",
    kinds: Sequence[str] = (),
    protocol: Transform | None = None,
) -> ListedDataset:
    """Every folder in the root that is a category and, where kinds are named, has ``test/<kind>`` of one."""
    top = dataset_root(dataset, root, expected)
    listings = {
        path.name: partial(list_category, dataset, path, expected_mask=expected_mask)
        for path in folders_in(top)
        if is_category(path, normal) and (not kinds or any((path / "test" / kind).is_dir() for kind in kinds))
    }
    if not listings:
        raise wrong_layout(dataset, top, expected)
    return ListedDataset(dataset, listings, protocol)


@registry.datasets.register("visa", summary="VisA (Zou et al. 2022): 12 categories, the official one-class split")
def visa(*, root: str | Path | None = None) -> Dataset:
    """VisA: the split of ``split_csv/1cls.csv``, whose rows name images and masks below the root."""
    expected = "split_csv/1cls.csv, with the columns object, split, label, image, mask"
    folder = dataset_root("visa", root, expected)
    table = folder / "split_csv" / "1cls.csv"
    if not table.is_file():
        raise wrong_layout("visa", folder, expected)
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_table(table, ("object", "split", "label", "image", "mask")):
        rows.setdefault(row["object"], []).append(row)
    if not rows:
        raise InputError(f"{table} has no rows: expected one for each image")
    return ListedDataset("visa", {name: partial(_visa_category, folder, name, rows[name]) for name in rows}, SQUARE)


def _visa_category(root: Path, name: str, rows: list[dict[str, str]]) -> Category:
    splits: dict[str, list[Sample]] = {"train": [], "test": []}
    truth = root / name / "Data" / "Masks"
    for row in rows:
        path = root / row["image"]
        if row["split"] not in splits or row["label"] not in ("normal", "anomaly"):
            raise InputError(
                f"VisA's 1cls.csv gives {row['image']} the split {row['split']!r} and the label {row['label']!r}: "
                "expected train or test, and normal or anomaly"
            )
        if not path.is_file():
            raise InputError(f"image {path} of VisA's 1cls.csv does not exist: restore it or remove its row")
        if row["label"] == "normal":
            splits[row["split"]].append(Sample(path, 0))
            continue
        mask = root / row["mask"] if row["mask"] else truth / "Anomaly" / f"{path.stem}.png"
        if truth.is_dir() and not mask.is_file():
            raise missing_mask(path, mask)
        splits[row["split"]].append(Sample(path, 1, "anomaly", (mask,) if truth.is_dir() else ()))
    return Category("visa", name, tuple(splits["train"]), tuple(splits["test"]))


@registry.datasets.register("kolektorsdd", summary="KolektorSDD (Tabernik et al. 2019): cracks in commutators")
def kolektorsdd(*, root: str | Path | None = None) -> Dataset:
    """KolektorSDD: ``kos<NN>/Part<M>.jpg`` with ``Part<M>_label.bmp``; one category, ``kolektorsdd``.

    An image is anomalous when its label has a pixel that is not zero. The data set has no one-class split; here the
    normal images of every other item (the first, third … ``kos`` folder, sorted) are for training, all other images for
    testing. So no normal images of one item are on both sides.
    """
    expected = "folders kosNN with PartM.jpg and PartM_label.bmp"
    folder = dataset_root("kolektorsdd", root, expected)
    items = [path for path in folders_in(folder) if path.name.startswith("kos")]
    if not items:
        raise wrong_layout("kolektorsdd", folder, expected)
    return ListedDataset("kolektorsdd", {"kolektorsdd": partial(_kolektorsdd_category, items)})


def _kolektorsdd_category(items: list[Path]) -> Category:
    train: list[Sample] = []
    test: list[Sample] = []
    for number, item in enumerate(items):
        files = images_in(item)
        labels = {path.stem.removesuffix("_label"): path for path in files if path.stem.endswith("_label")}
        for path in files:
            if path.stem.endswith("_label"):
                continue
            label = labels.get(path.stem)
            if label is None:
                raise InputError(f"image {path} has no label: expected {item / f'{path.stem}_label.bmp'}")
            if read_mask([label], image_size(path), path).any():
                test.append(Sample(path, 1, "crack", (label,)))
            else:
                (test if number % 2 else train).append(Sample(path, 0))
    return Category("kolektorsdd", "kolektorsdd", tuple(train), tuple(test))
