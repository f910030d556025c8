"""The data set ``folder``: one's own images, in any of the usual layouts.

Where no test images are set apart, about every fifth normal image is held out, copies together.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.data.datasets import in_subfolders
from padim_zoo.data.duplicates import find_duplicates
from padim_zoo.data.files import (
    Listing,
    describe_passed_over,
    folders_in,
    images_in,
    list_images,
    paths_of,
    split_pattern,
)
from padim_zoo.data.image_hashes import KeptFingerprints
from padim_zoo.data.kinds import is_abnormal_kind, is_mask_folder, is_normal_kind
from padim_zoo.data.layout import ListedDataset, dataset_root, is_category, list_category
from padim_zoo.data.mask_files import masks_of_kind, split_masks
from padim_zoo.data.normal_folder import label_of_names, refuse_defects
from padim_zoo.data.sample import Category, Dataset, Sample

Fingerprints = Callable[[], "KeptFingerprints | None"]
"""Opens what keeps fingerprints of images."""

LAYOUTS = (
    "train/good and test/KIND, or good and bad, in the folder or in its subfolders; or --normal DIR, --abnormal DIR, "
    "which may be patterns such as 'photos/*_ok.jpg'. Names in any case: good, ok, normal, i.O., pass; bad, nok, "
    "n.i.O., ng, defect, fail"
)
"""What is understood, for messages."""


@registry.datasets.register("folder", summary="Your own images: train/good and test/KIND, good and bad, or any folder")
def folder(
    *,
    root: str | Path | None = None,
    normal: str | Path | None = None,
    abnormal: str | Path | None = None,
    masks: str | Path | None = None,
    fingerprints: Fingerprints | None = None,
) -> Dataset:
    """One's own images.

    Parameters
    ----------
    root : path, optional
        A category or a folder of categories. A category has ``train/good``, ``test/<kind>`` and, where there are masks,
        ``ground_truth/<kind>/<stem>.*`` or ``<stem>_mask.*``; or ``good`` beside folders of defects, and perhaps one of
        masks. Images may lie deeper, with their masks at the same relative path. Normal images may be called ``OK``,
        ``normal`` and the like, see :mod:`padim_zoo.data.kinds`. A folder of images alone is one of normal images,
        unless all of their names say ``ok`` or ``nok``.
    normal : path, optional
        Instead of ``root``: a folder of normal images, at any depth, or a glob pattern. Every fifth in sorted order,
        and at least one, is held out for the test. Copies and near copies, such as frames of a burst, stay on one
        side.
    abnormal : path, optional
        Folder of anomalous images, at any depth, or a pattern; a subfolder names the kind of defect. Without it the
        test has normal images only.
    masks : path, optional
        Folder of masks, named and arranged as the images in ``abnormal``. An image may have none.
    fingerprints : callable, optional
        Opens what keeps fingerprints of images, so that copies are found without decoding all of them again.

    Raises
    ------
    InputError
        If the arguments do not go together or the folders hold no such images.
    """
    if normal is not None:
        if root is not None:
            raise InputError(f"dataset folder has both a root ({root}) and normal images ({normal}): give one of them")
        top = _top(normal, "normal images")
        return ListedDataset("folder", {top.name: partial(_named_category, top, normal, abnormal, masks, fingerprints)})
    if abnormal is not None or masks is not None:
        raise InputError("dataset folder has abnormal images or masks but no normal images: give --normal DIR too")
    top = dataset_root("folder", root, LAYOUTS)
    if is_category(top):
        return ListedDataset("folder", {top.name: partial(list_category, "folder", top)})
    if _has_kinds(top):
        return ListedDataset("folder", {top.name: partial(_category_by_kinds, top, fingerprints)})
    with_kinds = [path for path in folders_in(top) if not is_category(path) and _has_kinds(path)]
    listings = {path.name: partial(_category_by_kinds, path, fingerprints) for path in with_kinds}
    if not any(map(is_category, folders_in(top))) and not listings and images_in(top):
        return ListedDataset("folder", {top.name: partial(_flat_category, top, fingerprints)})
    if listings:
        listings |= {path.name: partial(list_category, "folder", path) for path in folders_in(top) if is_category(path)}
        return ListedDataset("folder", listings)
    return in_subfolders("folder", top, LAYOUTS, None, normal=None)


def _has_kinds(top: Path) -> bool:
    """Whether a folder holds one of normal images, by its name."""
    return any(is_normal_kind(path.name) for path in folders_in(top))


def _is_pattern(source: str | Path) -> bool:
    return glob.has_magic(str(source)) and not Path(source).exists()


def _top(source: str | Path, expected: str) -> Path:
    """The folder that a folder or pattern is or starts with."""
    if _is_pattern(source):
        return Path(split_pattern(str(source))[0] or ".").absolute()
    return dataset_root("folder", source, expected)


def _listing(source: str | Path, top: Path) -> Listing:
    return Listing([path.absolute() for path in paths_of(source)]) if _is_pattern(source) else list_images(top)


def _named_category(
    top: Path,
    normal: str | Path,
    abnormal: str | Path | None,
    masks: str | Path | None,
    fingerprints: Fingerprints | None,
) -> Category:
    """Normal and anomalous images from two places."""
    listings = [_listing(normal, top)]
    good = listings[0].images
    if not _is_pattern(normal):
        refuse_defects(top, good)
    bad: list[Sample] = []
    if abnormal is not None:
        below = _top(abnormal, "anomalous images")
        listings.append(_listing(abnormal, below))
        bad = _abnormal_samples(below, listings[1].images, masks)
        shared = set(good).intersection(sample.path for sample in bad)
        if shared:
            raise InputError(f"{min(shared)} is both normal and abnormal: expected two folders, neither in the other")
    elif masks is not None:
        raise InputError(f"dataset folder has masks ({masks}) but no abnormal images: give --abnormal DIR too")
    return _held_out(top, good, bad, listings, fingerprints)


def _category_by_kinds(top: Path, fingerprints: Fingerprints | None) -> Category:
    """Folders of normal images beside folders of defects, and perhaps of masks."""
    good: list[Path] = []
    bad: list[Sample] = []
    listings = []
    truth = next((path for path in folders_in(top) if is_mask_folder(path.name)), None)
    for kind in folders_in(top):
        if is_mask_folder(kind.name):
            continue
        listing = list_images(kind)
        listings.append(listing)
        if is_normal_kind(kind.name):
            refuse_defects(kind, listing.images)
            good += listing.images
            continue
        if not listing.images:
            continue
        own = None if truth is None else truth / kind.name if (truth / kind.name).is_dir() else truth
        of_kind = _abnormal_samples(kind, listing.images, own, every_mask=False)
        named = not is_abnormal_kind(kind.name)  # then the folder names the kind, and not those below it
        bad += [Sample(one.path, 1, kind.name, one.masks) for one in of_kind] if named else of_kind
    return _held_out(top, good, bad, listings, fingerprints)


def _flat_category(top: Path, fingerprints: Fingerprints | None) -> Category:
    """Images without folders: normal, unless their names say which are not."""
    images, _ = split_masks(images_in(top))
    labels = label_of_names(images)
    good = [image for image in images if not labels.get(image, 0)]
    bad = [image for image in images if labels.get(image, 0)]
    pairs = masks_of_kind(bad, top, None) if bad else {}
    anomalous = [Sample(path, 1, "anomaly", pairs.get(path, ())) for path in bad]
    return _held_out(top, good, anomalous, [], fingerprints)


def _held_out(
    top: Path,
    good: Sequence[Path],
    bad: Sequence[Sample],
    listings: Sequence[Listing],
    fingerprints: Fingerprints | None,
) -> Category:
    """A category whose test has about every fifth normal image, and no copy of another."""
    if len(good) < 2:
        raise InputError(f"{top} has {len(good)} images: expected at least 2 normal images, one to fit and one to test")
    groups = find_duplicates(good, None if fingerprints is None else fingerprints()).groups
    held_out = held_out_images(groups)
    train = [Sample(path, 0) for path, out in zip(good, held_out, strict=True) if not out]
    test = [Sample(path, 0) for path, out in zip(good, held_out, strict=True) if out]
    lines = [line for line in (describe_passed_over(listings),) if line]
    if not groups.any():
        lines.append(
            f"all {len(good)} normal images are copies of one: the one that is held out for the test is not new either"
        )
    return Category("folder", top.name, tuple(train), (*test, *bad), tuple(lines))


def _abnormal_samples(
    abnormal: Path, files: list[Path], masks: str | Path | None, *, every_mask: bool = True
) -> list[Sample]:
    truth = None if masks is None else dataset_root("folder", masks, "masks")
    images, _ = split_masks(files)
    if not images:
        raise InputError(f"{abnormal} has no image in it: expected anomalous images")
    kinds = [(*path.parent.relative_to(abnormal).parts, "anomaly")[0] for path in images]
    for kind in kinds:
        if is_normal_kind(kind):
            raise InputError(f"{abnormal} has a subfolder {kind}: expected anomalous images only (is it --normal DIR?)")
    pairs = masks_of_kind(images, abnormal, truth)
    if truth is not None and not pairs and every_mask:
        first = images[0].relative_to(abnormal)
        raise InputError(
            f"no file in {truth} is the mask of an image in {abnormal}: expected names such as "
            f"{first.with_name(first.stem + '_mask.png')} or {first.with_suffix('.png')}"
        )
    return [Sample(path, 1, kind, pairs.get(path, ())) for path, kind in zip(images, kinds, strict=True)]


EVERY = 5
"""Of so many normal images one is held out."""


def held_out_images(groups: Sequence[int] | np.ndarray) -> np.ndarray:
    """Which images (n,), bool, are held out: whole groups, in their order, as long as they are a fifth at most.

    Without copies that is every fifth image. If no group is small enough, the smallest one is held out; of a single
    group, its last image.

    Parameters
    ----------
    groups : ndarray (n,), int64
        Equal for images that show one thing.
    """
    groups = np.asarray(groups)
    names, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = np.argsort(first)
    chosen: list[int] = []
    seen = held = 0
    for name, size in zip(names[order].tolist(), sizes[order].tolist(), strict=True):
        seen += size
        if EVERY * (held + size) <= seen:
            held += size
            chosen.append(name)
    if not chosen and len(names) > 1:
        # Of equally small groups the last one, as of single images.
        smallest = order[::-1][np.argmin(sizes[order][::-1])]
        chosen = [int(names[smallest])]
    held_out: np.ndarray = np.isin(groups, chosen)
    if len(names) == 1:
        held_out[-1] = True
    return held_out
