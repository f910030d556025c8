"""Real-IAD: 30 objects from five cameras each, whose splits are JSON files of the data set.

The layout is that of the authors' repository (github.com/Tencent/AnomalyDetection_Real-IAD): images in ``realiad_1024``
or another resolution, splits in ``realiad_jsons`` and folders beside it, one file for each object.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.data.layout import SQUARE, ListedDataset, dataset_root, missing_mask, wrong_layout
from padim_zoo.data.sample import Category, Dataset, Sample

ALL_VIEWS = "realiad_jsons"
"""The folder of the splits over all five cameras; ``realiad_jsons_sv`` has the camera from above alone."""


@registry.datasets.register("real_iad", summary="Real-IAD (Wang et al. 2024): 30 objects, five views, pixel masks")
def real_iad(*, root: str | Path | None = None, splits: str = ALL_VIEWS, images: str = "realiad_1024") -> Dataset:
    """Real-IAD: ``<splits>/<category>.json`` names the images and masks in ``<images>/<category>``.

    Parameters
    ----------
    root : path
    splits : str
        Folder of the JSON files: ``realiad_jsons``, ``realiad_jsons_sv`` or ``realiad_jsons_fuiad_0.1`` and the like.
        It may lie within ``realiad_jsons``, as the archive unpacks. Runs of other splits are runs of another data set.
    images : str
        Folder of the images: ``realiad_256``, ``realiad_512``, ``realiad_1024`` or ``realiad_raw``.
    """
    expected = f"{splits}/CATEGORY.json and {images}/CATEGORY"
    top = dataset_root("real_iad", root, expected)
    folders = [top / ALL_VIEWS / splits, top / splits]
    files = next((found for folder in folders if (found := sorted(folder.glob("*.json")))), [])
    if not files or not (top / images).is_dir():
        raise wrong_layout("real_iad", top, expected)
    name = "real_iad" if splits == ALL_VIEWS else f"real_iad({splits})"
    listings = {file.stem: partial(_category, name, file, top / images) for file in files}
    return ListedDataset(name, listings, SQUARE)


def _category(dataset: str, file: Path, images: Path) -> Category:
    train_entries, test_entries, folder, normal = _read(file, images)
    train = tuple(Sample(_image(folder, entry, file), 0) for entry in train_entries)
    test = tuple(_test_sample(folder, entry, file, normal) for entry in test_entries)
    # Splits with noise hold defects on purpose: a fit is to cope with them.
    defects = sum(entry["anomaly_class"] != normal for entry in train_entries)
    notes = (f"{defects} of {len(train)} images to fit show defects, as {file.parent.name} has it",) if defects else ()
    return Category(dataset, file.stem, train, test, notes)


def _test_sample(folder: Path, entry: dict[str, Any], file: Path, normal: str) -> Sample:
    path = _image(folder, entry, file)
    # A defect that this camera does not see has no mask: such an image is normal, as in the authors' code.
    if entry["anomaly_class"] == normal or entry["mask_path"] is None:
        return Sample(path, 0)
    mask = folder / entry["mask_path"]
    if not mask.is_file():
        raise missing_mask(path, mask)
    return Sample(path, 1, str(entry["anomaly_class"]), (mask,))


def _image(folder: Path, entry: dict[str, Any], file: Path) -> Path:
    path = folder / str(entry["image_path"])
    if not path.is_file():
        raise InputError(f"image {path} of {file} does not exist: restore it or remove its entry")
    return path


def _read(file: Path, images: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Path, str]:
    """Entries to fit and to test, the folder that their paths start from, and what normal images are called."""
    try:
        content = read_json(file.read_text(encoding="utf-8"))
        folder, normal = images / content["meta"]["prefix"], content["meta"]["normal_class"]
        train, test = content["train"], content["test"]
        for entry in (*train, *test):
            if not isinstance(entry["image_path"], str) or not isinstance(entry["mask_path"], (str, type(None))):
                raise TypeError("a path is not text")
            entry["anomaly_class"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"cannot read {file} ({type(error).__name__}: {error}): expected Real-IAD's meta, train and test, whose "
            "entries have anomaly_class, image_path and mask_path"
        ) from None
    return train, test, folder, normal
