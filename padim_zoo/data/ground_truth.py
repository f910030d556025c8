"""Ground truth of samples, in register with their images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from padim_zoo.core.progress import told
from padim_zoo.data.file_notes import collecting, note
from padim_zoo.data.image import image_size
from padim_zoo.data.loading import usual_workers
from padim_zoo.data.mask import file_is_region, looks_inverted, read_regions
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import MASK_RULES, Transform
from padim_zoo.metrics.region_overlap import label_regions


def masks(
    samples: Sequence[Sample],
    transform: Transform,
    *,
    rule: str = MASK_RULES[0],
    orientation: str | None = None,
    canvas: tuple[int, int] | None = None,
) -> list[np.ndarray | None]:
    """Ground-truth masks of samples, in register with what :func:`~padim_zoo.data.loading.batches` gives for them.

    Parameters
    ----------
    samples : sequence of Sample
    transform : Transform
    rule : str
        How masks are resized, as of :meth:`Transform.mask`.
    orientation : str, optional
        What masks were drawn on, as of :func:`~padim_zoo.data.mask.read_mask`.
    canvas : (int, int), optional
        Height and width that maps of images of several sizes have: smaller masks lie in the top left corner.

    Returns
    -------
    list of ndarray (H, W), of the smallest signed type that holds the numbers, or None
        0 where nothing is marked, and k in region k, which is numbered on the mask before its resize; a number that is
        missing lies outside of the crop. With ``"nearest"``, the regions of a single file are numbered after the resize
        and the crop, as published figures count them. None for a sample without mask files.

    Raises
    ------
    InputError
        If a mask cannot be read or has not the size of its image.
    """

    def load(sample: Sample) -> tuple[np.ndarray | None, int, int]:
        """The regions after the transform, and how many there were before, and are after it."""
        if not sample.masks:
            return None, 0, 0
        with notes.listening():
            full = read_regions(sample.masks, image_size(sample.path), sample.path, orientation=orientation)
            marked = full > 0
            if looks_inverted(marked):
                note("inverted mask", str(sample.masks[0]))
            if sample.label and not marked.any():
                note("unmarked", str(sample.masks[0]))
        regions = transform.mask(full, rule)
        before, after = len(np.unique(full[marked])), len(np.unique(regions[regions > 0]))
        if rule == "nearest" and not file_is_region(sample.masks, sample.path):
            regions = label_regions(regions > 0)
        if canvas is not None:
            room = [(0, most - side) for most, side in zip(canvas, regions.shape, strict=True)]
            regions = np.pad(regions, room)
        return _narrowed(regions), before, after

    with collecting() as notes, ThreadPoolExecutor(usual_workers()) as executor:
        loaded = list(told(executor.map(load, samples), "reading masks", len(samples), "masks"))
        before, after = sum(count for _, count, _ in loaded), sum(count for *_, count in loaded)
        if after < before:
            warnings.warn(
                f"{before - after} of {before} marked regions lie outside the part of the image that counts: use a "
                "larger crop (--crop none), or --mask-resize area where marks are narrow",
                stacklevel=2,
            )
    return [regions for regions, _, _ in loaded]


def _narrowed(regions: np.ndarray) -> np.ndarray:
    """The same numbers in as few bytes as they take: the masks of a test set are in memory together."""
    most = int(regions.max(initial=0))
    narrow = next(kind for kind in (np.int8, np.int16, np.int32) if most <= np.iinfo(kind).max)
    return regions.astype(narrow, copy=False)
