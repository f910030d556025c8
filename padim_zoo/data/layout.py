"""Folders to samples: how the published data sets, and folders like them, are laid out on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.core.suggest import suggest
from padim_zoo.data.files import folders_in, images_in
from padim_zoo.data.sample import Category, Sample
from padim_zoo.data.transform import Transform

PADIM_PAPER = Transform(resize=256, crop=224)
"""The protocol of MVTec AD: the PaDiM paper's, and that of its rivals until today."""
SQUARE = Transform(resize=(256, 256), crop=None)
"""That of most figures on other data sets: all of an image, whatever its aspect (anomalib, DRAEM, EfficientAD)."""


@dataclass(frozen=True)
class ListedDataset:
    """A data set whose categories are known beforehand, each listed from disk when it is loaded.

    Attributes
    ----------
    name : str
        The registered name.
    listings : mapping of str to callable
        For each category the function that lists it.
    protocol : Transform, optional
        What published figures on it rest on.
    """

    name: str
    listings: Mapping[str, Callable[[], Category]]
    protocol: Transform | None = None

    def categories(self) -> list[str]:
        """The names of the categories, sorted."""
        return sorted(self.listings)

    def load(self, category: str) -> Category:
        """List the files of one category.

        Raises
        ------
        InputError
            If there is no such category, it has no normal image to fit, or a ground-truth mask is missing.
        """
        if category not in self.listings:
            hint = suggest(category, self.categories())
            raise InputError(f"dataset {self.name} has no category {category!r}: {hint}")
        loaded = self.listings[category]()
        if not loaded.train:
            raise InputError(f"category {category!r} of {self.name} has no normal image to fit: expected at least one")
        return loaded


def dataset_root(dataset: str, root: str | Path | None, expected: str) -> Path:
    """The folder of a data set, made absolute so that it has a name.

    Raises
    ------
    InputError
        If it was not given or is no folder.
    """
    if root is None:
        raise InputError(f"dataset {dataset} needs the folder it lies in (--data-root DIR): expected {expected}")
    folder = Path(os.path.abspath(root))  # unlike resolve(), leaves links under the names they were given
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{root} {problem}: dataset {dataset} expects {expected}")
    return folder


def wrong_layout(dataset: str, root: Path, expected: str) -> InputError:
    """The error for a folder that holds something else."""
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    hint = ""
    if is_category(root):
        hint = "; the folder is itself one category: give the folder above it, or use the dataset folder"
    return InputError(f"dataset {dataset} expects {expected}, but {root} holds {shown or 'nothing'}{hint}")


def is_category(folder: Path, normal: str = "good") -> bool:
    """Whether a folder has ``train/<normal>``."""
    return (folder / "train" / normal).is_dir()


def list_category(dataset: str, folder: Path, *, normal: str = "good", expected_mask: str | None = None) -> Category:
    """List ``train/<normal>`` and ``test/<kind>`` of a category's folder, with the masks in ``ground_truth/<kind>``.

    Parameters
    ----------
    dataset : str
        Name of the data set.
    folder : Path
        The category's folder; the category bears its name.
    normal : str
        Name of the folders of normal images; their samples' kind is ``"good"`` all the same.
    expected_mask : str, optional
        What the mask of an image ``{stem}`` is called, where every anomalous image must have one. A category without
        any ``ground_truth`` is taken as one of image labels only.

    Raises
    ------
    InputError
        If an anomalous image has no mask though it must.
    """
    train = [Sample(path, 0) for path in images_in(folder / "train" / normal)]
    test: list[Sample] = []
    truth = folder / "ground_truth"
    for kind in folders_in(folder / "test"):
        if kind.name == normal:
            test += [Sample(path, 0) for path in images_in(kind)]
            continue
        masks = masks_by_stem(truth / kind.name)
        for path in images_in(kind):
            if expected_mask is not None and path.stem not in masks and truth.is_dir():
                raise missing_mask(path, truth / kind.name / expected_mask.format(stem=path.stem))
            test.append(Sample(path, 1, kind.name, masks.get(path.stem, ())))
    return Category(dataset, folder.name, tuple(train), tuple(test))


def masks_by_stem(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Mask files in a folder by the stem of the image they belong to.

    The masks of ``000.jpg`` are ``000_mask.*``, else ``000.*``, else all images in the folder ``000`` (MVTec LOCO).
    """
    files = images_in(folder)
    several = {sub.name: masks for sub in folders_in(folder) if (masks := tuple(images_in(sub)))}
    plain = {path.stem: (path,) for path in files}
    marked = {path.stem.removesuffix("_mask"): (path,) for path in files if path.stem.endswith("_mask")}
    return {**several, **plain, **marked}


def missing_mask(image: Path, expected: Path) -> InputError:
    """The error for an anomalous image without ground truth in a data set that has it."""
    return InputError(
        f"the anomalous image {image} has no mask: expected {expected}; restore it, or remove the category's whole "
        "ground truth to judge images only"
    )
