"""Refuses to take defects, masks or test images for normal images, by the names of their folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.data.kinds import (
    comparable,
    image_stem_of_mask,
    is_abnormal_kind,
    is_mask_folder,
    is_normal_kind,
    is_test_folder,
)


def refuse_defects(root: Path, images: Sequence[Path]) -> None:
    """Refuse images to fit on if the folders between them and ``root`` say that some are not normal.

    That is so where one is named as a test, as masks or as defects are; where a folder of a normal kind stands beside
    others, or beside images; or where a file is the mask of another. Folders below one of a normal kind may have any
    other name.

    Raises
    ------
    InputError
        Naming a folder of normal images, if there is one.
    """
    folders = sorted({image.parent.relative_to(root) for image in images})
    normal = [
        Path(*folder.parts[: position + 1])
        for folder in folders
        for position, name in enumerate(folder.parts)
        if is_normal_kind(name)
    ]
    problems = [problem for folder in folders if (problem := _not_normal(folder, set(normal)))]
    problems += filter(None, [_mask_among(images), _anomalous_among(images)])
    if not problems:
        return
    problem = min(problems, key=lambda problem: not problem.startswith("test images"))  # which say most
    best = min(normal, key=lambda folder: ("train" not in map(comparable, folder.parts), folder), default=None)
    remedy = f", e.g. {root / best}" if best is not None else ""
    raise InputError(f"{root} holds {problem} too: expected normal images only{remedy}")


def refuse_folder_of_defects(folder: Path) -> None:
    """Refuse a folder to fit on that is itself one of defects, masks or test images, by its name or that above it.

    Raises
    ------
    InputError
        Saying what the folder is named as.
    """
    name, above = folder.name, folder.parent.name
    if is_normal_kind(name):
        return
    if is_mask_folder(name) or is_mask_folder(above):
        what = "masks"
    elif is_abnormal_kind(name):
        what = "anomalous images"
    elif is_test_folder(above):
        what = "test images of a defect"
    else:
        return
    raise InputError(f"{folder} is named like a folder of {what}: expected normal images only; rename it if they are")


def label_of_names(images: Sequence[Path]) -> dict[Path, int]:
    """Labels of files whose names say them all in one place, as ``a_ok.png`` and ``b_nok.png`` do; empty if not."""
    words = [re.split(r"[-_. ]+", image.stem) for image in images]
    for place in (0, -1, 1, -2):
        named = [word[place] if -len(word) <= place < len(word) else "" for word in words]
        labels = [1 if is_abnormal_kind(name) else 0 if is_normal_kind(name) else None for name in named]
        if set(labels) == {0, 1}:
            return {image: label for image, label in zip(images, labels, strict=True) if label is not None}
    return {}


def _not_normal(folder: Path, normal: set[Path]) -> str:
    """What a folder of images holds, if these are not to be fitted on."""
    for position, name in enumerate(folder.parts):
        shown = Path(*folder.parts[: position + 1])
        if is_test_folder(name):
            return f"test images ({shown})"
        if is_mask_folder(name):
            return f"masks ({shown})"
        if is_normal_kind(name):
            continue
        if is_abnormal_kind(name):
            return f"anomalous images ({shown})"
        beside = next((other for other in normal if other.parent == shown.parent), None)
        if beside is not None and not any(map(is_normal_kind, folder.parts[:position])):
            return f"images in {shown} beside {beside}"
    beside = next((other for other in normal if other.parent == folder), None)
    if beside is not None and not any(map(is_normal_kind, folder.parts)):
        return f"images beside {beside}"
    return ""


def _anomalous_among(images: Sequence[Path]) -> str:
    in_folders: dict[Path, list[Path]] = {}
    for image in images:
        in_folders.setdefault(image.parent, []).append(image)
    for beside in in_folders.values():
        anomalous = [image.name for image, label in label_of_names(beside).items() if label]
        if anomalous:
            return f"images named as anomalous ({anomalous[0]})"
    return ""


def _mask_among(images: Sequence[Path]) -> str:
    stems = {(image.parent, comparable(image.stem)) for image in images}
    for image in images:
        stem = image_stem_of_mask(image.stem)
        if stem is not None and (image.parent, stem) in stems:
            return f"masks ({image.name})"
    return ""
