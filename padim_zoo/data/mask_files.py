"""Which mask files belong to which image, by their names; what is not clear is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.data.files import images_below
from padim_zoo.data.image import IMAGE_SUFFIXES, image_size
from padim_zoo.data.kinds import comparable, image_stem_of_mask, is_mask_folder
from padim_zoo.data.mask import read_mask

Key = tuple[str, str]
"""Folder below that of the kind, and stem, both comparable."""

_SHOWN = 5


def pair_masks(images: Sequence[Path], folder: Path, mask_folder: Path) -> dict[Path, tuple[Path, ...]]:
    """The masks of images.

    Parameters
    ----------
    images : sequence of Path
        Image files at any depth below ``folder``.
    folder : Path
        That of one kind of defect.
    mask_folder : Path
        Masks lie at the same relative path below it: ``000_mask.*``, ``000_gt.*`` or ``000_label.*``, else ``000.*``,
        else all images in the folder ``000``. It may be ``folder`` itself, where masks lie beside images.

    Returns
    -------
    dict of Path to tuple of Path
        No entry for an image without a mask.

    Raises
    ------
    InputError
        If a mask may belong to two images, or an image has masks by two rules.
    """
    owners_of: dict[Key, list[Path]] = {}
    for image in images:
        owners_of.setdefault(_key(image.parent.relative_to(folder), image.stem), []).append(image)
    candidates = _candidates(mask_folder, set(images))
    pairs: dict[Path, tuple[Path, ...]] = {}
    for key, owners in owners_of.items():
        plain, marked, parts = (candidates[rule].get(key, []) for rule in ("plain", "marked", "parts"))
        files = [*marked, *plain, *parts]
        if not files:
            continue
        if len(owners) > 1:
            raise InputError(
                f"{files[0]} may be the mask of {owners[0]} or of {owners[1]}: expected different names before the "
                "suffix; rename one image and its mask"
            )
        if len(plain) + len(marked) + bool(parts) > 1:
            raise InputError(
                f"{owners[0]} has two masks, {files[0]} and {files[1]}: expected one; remove the other, or put parts "
                f"of one mask into a folder {owners[0].stem}"
            )
        pairs[owners[0]] = tuple(files)
    return pairs


def split_masks(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Cut files into images and masks that lie beside them: ``000_mask.png`` where there is an image ``000.*``."""
    stems = {(image.parent, comparable(image.stem)) for image in images}
    masks = {image for image in images if (image.parent, image_stem_of_mask(image.stem)) in stems}
    return [image for image in images if image not in masks], sorted(masks)


def masks_of_kind(images: Sequence[Path], folder: Path, mask_folder: Path | None) -> Mapping[Path, tuple[Path, ...]]:
    """As :func:`pair_masks`, from the folder of masks or, where they lie beside the images, from there.

    Parameters
    ----------
    images : sequence of Path
        Without masks, see :func:`split_masks`.
    folder : Path
        That of the kind.
    mask_folder : Path or None
        Where there is one.

    Raises
    ------
    InputError
        As there, and if an image has a mask in both places, or a folder of masks lies among the images.
    """
    for image in images:
        for name in image.parent.relative_to(folder).parts:
            if is_mask_folder(name):
                raise InputError(
                    f"{image} is a mask by its folder, among images: move it to {mask_folder or 'a folder for --masks'}"
                )
    apart = {} if mask_folder is None else pair_masks(images, folder, mask_folder)
    beside = _beside(images, folder)
    for image in apart:
        if image in beside:
            raise InputError(f"{image} has two masks, {apart[image][0]} and {beside[image][0]}: remove one")
    return apart | beside


def _beside(images: Sequence[Path], folder: Path) -> dict[Path, tuple[Path, ...]]:
    _, masks = split_masks(images_below(folder))
    return pair_masks(images, folder, folder) if masks else {}


def refuse_marked(images: Sequence[Path], folder: Path, mask_folder: Path) -> None:
    """Refuse normal images that have a mask with a marked pixel.

    Raises
    ------
    InputError
        Naming such images and their masks.
    """
    if not mask_folder.is_dir():
        return
    marked = [
        f"{image} (mask {masks[0]})"
        for image, masks in pair_masks(images, folder, mask_folder).items()
        if read_mask(masks, image_size(image), image).any()
    ]
    if marked:
        shown = ", ".join(marked[:_SHOWN]) + f" and {len(marked) - _SHOWN} more" * (len(marked) > _SHOWN)
        raise InputError(
            f"{len(marked)} images lie among the normal ones, but their masks have marked pixels: {shown}; move each "
            "to its kind of defect, or remove its mask"
        )


def name_of_owner(mask: Path, stems: Iterable[str]) -> str | None:
    """The stem of the image that a mask was perhaps meant for: ``000`` for ``000.png.png`` or ``label_000.png``."""
    name = comparable(mask.stem)
    for suffix in IMAGE_SUFFIXES:
        name = name.removesuffix(suffix)
    name = image_stem_of_mask(name) or name
    for suffix in IMAGE_SUFFIXES:
        name = name.removesuffix(suffix)
    for word in ("mask", "gt", "label", "seg", "annotation"):
        for separator in "_-.":
            name = name.removeprefix(word + separator).removesuffix(separator + word)
    return next((stem for stem in stems if comparable(stem) == name), None)


def _key(parent: Path, stem: str) -> Key:
    return comparable(parent.as_posix()), comparable(stem)


def _candidates(folder: Path, images: Collection[Path]) -> dict[str, dict[Key, list[Path]]]:
    """Files that may be masks, by the rule that names them and the image that they would belong to."""
    candidates: dict[str, dict[Key, list[Path]]] = {"plain": {}, "marked": {}, "parts": {}}
    for path in images_below(folder):
        if path in images:
            continue
        parent = path.parent.relative_to(folder)
        candidates["plain"].setdefault(_key(parent, path.stem), []).append(path)
        if (stem := image_stem_of_mask(path.stem)) is not None:
            candidates["marked"].setdefault(_key(parent, stem), []).append(path)
        candidates["parts"].setdefault(_key(parent.parent, parent.name), []).append(path)
    return candidates
