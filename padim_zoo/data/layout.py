"""Folders to samples: how the published data sets, and folders like them, are laid out on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.core.suggest import suggest
from padim_zoo.data.files import Listing, describe_passed_over, folders_in, list_images
from padim_zoo.data.kinds import is_normal_kind
from padim_zoo.data.mask_files import masks_of_kind, refuse_marked, split_masks
from padim_zoo.data.normal_folder import refuse_defects
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
    prepare : callable, optional
        Takes names of categories; see :func:`~padim_zoo.data.sample.prepare_categories`.
    """

    name: str
    listings: Mapping[str, Callable[[], Category]]
    protocol: Transform | None = None
    prepare: Callable[[Sequence[str]], None] | None = None

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
        raise InputError(f"dataset {dataset} needs its folder (--data-root DIR): expected {expected}")
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
        hint = " (it is itself one category: give the folder above it, or use the dataset folder)"
    return InputError(f"{root} holds {shown or 'nothing'}{hint}: dataset {dataset} expects {expected}")


def is_category(folder: Path, normal: str | None = None) -> bool:
    """Whether a folder has ``train/<normal>``, or ``train`` with a folder of any name of normal images."""
    if normal is not None:
        return (folder / "train" / normal).is_dir()
    return any(is_normal_kind(kind.name) for kind in folders_in(folder / "train"))


def list_category(
    dataset: str,
    folder: Path,
    *,
    expected_mask: str | None = None,
    test_folder: str = "test",
    truth_folder: str = "ground_truth",
) -> Category:
    """List ``train/<normal>`` and ``test/<kind>`` of a category's folder, with the masks in ``ground_truth/<kind>``.

    Images may lie at any depth below these, with their masks at the same relative path; or masks lie beside the images
    of a kind. Kinds are normal by their names, see :mod:`padim_zoo.data.kinds`; their samples' kind is ``"good"``.

    Parameters
    ----------
    dataset : str
        Name of the data set.
    folder : Path
        The category's folder; the category bears its name.
    expected_mask : str, optional
        What the mask of an image ``{stem}`` is called, where every anomalous image must have one. A category without
        any ``ground_truth`` is taken as one of image labels only.
    test_folder, truth_folder : str
        Other names for ``test`` and ``ground_truth``; the latter may lie in the former.

    Raises
    ------
    InputError
        If an anomalous image has no mask though it must, it is not clear whose a mask is, or a normal image has a mask
        with a marked pixel.
    """
    notes: list[str] = []
    listings: list[Listing] = []
    train: list[Sample] = []
    test: list[Sample] = []
    truth = folder / truth_folder

    def images_of(kind: Path) -> list[Path]:
        listing = list_images(kind)
        listings.append(listing)
        if not listing.images:
            notes.append(f"{kind.relative_to(folder)} holds no image")
        return listing.images

    for kind in folders_in(folder / "train"):
        if not is_normal_kind(kind.name):
            notes.append(f"train/{kind.name} is left out: a fit takes normal images only")
            continue
        images = images_of(kind)
        refuse_defects(kind, images)
        train += [Sample(path, 0) for path in images]
    normal_kinds: list[str] = []
    for kind in folders_in(folder / test_folder):
        if kind == truth:
            continue
        images, _ = split_masks(images_of(kind))
        if is_normal_kind(kind.name):
            normal_kinds.append(kind.name)
            refuse_marked(images, kind, truth / kind.name)
            test += [Sample(path, 0) for path in images]
            continue
        masks = masks_of_kind(images, kind, truth / kind.name)
        for path in images:
            if expected_mask is not None and path not in masks and truth.is_dir():
                expected = truth / kind.name / path.parent.relative_to(kind) / expected_mask.format(stem=path.stem)
                raise missing_mask(path, expected)
            test.append(Sample(path, 1, kind.name, masks.get(path, ())))
    if len(normal_kinds) > 1:
        shown = " and ".join(f"{test_folder}/{name}" for name in normal_kinds)
        notes.append(f"{shown} all count as normal, as their names say: rename a folder that holds defects")
    if line := describe_passed_over(listings):
        notes.append(line)
    return Category(dataset, folder.name, tuple(train), tuple(test), tuple(notes))


def missing_mask(image: Path, expected: Path) -> InputError:
    """The error for an anomalous image without ground truth in a data set that has it."""
    return InputError(
        f"the anomalous image {image} has no mask: expected {expected}; restore it, or remove the category's whole "
        "ground truth to evaluate images only"
    )
