"""Images of any origin to batches of uint8 tensors, decoded in threads a few batches ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.data.image import image_size, read_image, read_mask
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.sample import Sample
from padim_zoo.data.sources import named_images
from padim_zoo.data.transform import CropError, Transform

_BATCHES_AHEAD = 2

PreparedT = TypeVar("PreparedT")


class ResizedImages(Protocol):
    """Where resized images of files are kept: :class:`padim_zoo.cache.images.ImageCache`, which is above this floor."""

    def resized(self, path: Path, transform: Transform) -> tuple[np.ndarray, tuple[int, int]]:
        """The image after the resize and before the crop, uint8 (H, W, 3), and height and width of the file's."""


def batches(images: Any, transform: Transform, batch_size: int) -> Iterator[Tensor]:
    """Transform images and stack them in batches, in order.

    At most two batches are held beyond the one given out, whatever the number of images.

    Parameters
    ----------
    images
        A file, folder (all images below it, sorted) or glob pattern; a PIL image; an array (H, W), (H, W, 3) or
        (N, H, W, 3); a tensor (H, W), (3, H, W) or (N, 3, H, W), each uint8 or float in [0, 1]; a :class:`Sample`; or
        an iterable of such things, e.g. a ``DataLoader``. What the iterable gives may be a list of images, each of
        which is taken; a tuple, or a list whose first item is a batch (N, …), which are an image or batch and its
        labels, and only the first item is taken; or a mapping, of which the item ``"image"`` is taken.
    transform : Transform
        Applied to every image, those of a ``DataLoader`` too.
    batch_size : int
        Images per batch; the last batch may be smaller.

    Yields
    ------
    Tensor (n, 3, H, W), uint8, channels last in memory

    Raises
    ------
    InputError
        If there is no image, one cannot be read, or two differ in size after the transform.
    """
    for batch, _ in view_batches(images, transform, batch_size, ViewSet()):
        yield batch


def view_batches(
    images: Any,
    transform: Transform,
    batch_size: int,
    view_set: ViewSet,
    *,
    roi: RegionOfInterest | None = None,
    ahead: bool = True,
    cache: ResizedImages | None = None,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """As :func:`batches`, several views of each image, with the region of interest in register.

    Parameters
    ----------
    images, transform
        As of :func:`batches`.
    batch_size : int
        Images, not views, per batch.
    view_set : ViewSet
        The V views of each image.
    roi : RegionOfInterest, optional
    ahead : bool
        Whether to decode while a batch that was given out is worked on. Not where that work keeps all processors busy:
        both would slow each other down.
    cache : ResizedImages, optional
        Where resized images of files are kept.

    Yields
    ------
    views : Tensor (n·V, 3, H, W), uint8, channels last in memory
        The views of one image next to each other.
    roi_masks : Tensor (n·V, H, W), bool, or None
        The pixels that count: of the image and of its region of interest. None where all of them do.

    Raises
    ------
    InputError
        As of :func:`batches`, and if a mask is missing, of another size than its image, or empty.
    """
    batches: Iterator[Batch[Cached]]
    batches = mixed_batches(images, transform, batch_size, view_set, roi=roi, ahead=ahead, cache=cache)
    for batch in batches:
        assert batch.pixels is not None
        yield batch.pixels, batch.roi_masks


class Cached(Protocol):
    """What a cache holds of an image, so that its pixels are not wanted."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width after the transform."""


CachedT = TypeVar("CachedT", bound=Cached)


class Batch(NamedTuple, Generic[CachedT]):
    """Some images in order: what is cached of them, or their pixels.

    Attributes
    ----------
    cached : list of Cached or None
        One for each image.
    paths : list of Path or None
        The files of those that are not cached; None for images in memory.
    pixels, roi_masks
        The views of those, as :func:`view_batches` gives them; None if there are none.
    """

    cached: list[CachedT | None]
    paths: list[Path | None]
    pixels: Tensor | None
    roi_masks: Tensor | None


def mixed_batches(
    images: Any,
    transform: Transform,
    batch_size: int,
    view_set: ViewSet,
    *,
    roi: RegionOfInterest | None = None,
    ahead: bool = True,
    cache: ResizedImages | None = None,
    lookup: Callable[[Path], CachedT | None] | None = None,
) -> Iterator[Batch[CachedT]]:
    """As :func:`view_batches`, without the pixels of images that are cached.

    Parameters
    ----------
    images, transform, batch_size, view_set, roi, ahead, cache
        As of :func:`view_batches`.
    lookup : callable, optional
        Gives what is cached of the image in a file, or None; called in the threads that decode, a few batches ahead.
    """

    def prepare(image: Path | np.ndarray, name: str) -> _Prepared | CachedT:
        path = image if isinstance(image, Path) else None
        entry = lookup(path) if path is not None and lookup is not None else None
        if entry is not None:
            return entry
        if path is not None and cache is not None:
            resized, size = cache.resized(path, transform)
            mask = None if roi is None else roi.mask_of(path, name, size)
            return _Prepared(*view_set.of_resized(resized, transform, mask, name))
        pixels = read_image(image) if isinstance(image, Path) else image
        mask = None if roi is None else roi.mask_of(path, name, (pixels.shape[0], pixels.shape[1]))
        return _Prepared(*view_set.of(pixels, transform, mask, name))

    first: tuple[str, tuple[int, ...]] | None = None
    batch: list[tuple[Path | None, _Prepared | CachedT]] = []
    many = batch_size * (_BATCHES_AHEAD if ahead else 1)
    for name, path, prepared in _prepared(images, prepare, many, ahead=ahead):
        size = prepared.image_size
        if first is None:
            first = name, size
        elif size != first[1]:
            raise InputError(
                f"{first[0]} is {_size_text(first[1])} and {name} is {_size_text(size)} (height x width) after "
                "the transform: all images must have one size; give a crop or an exact resize (--crop N, --resize HxW)"
            )
        batch.append((path, prepared))
        if len(batch) == batch_size:
            yield _batch(batch)
            batch = []
    if first is None:
        raise InputError("no images were given: expected at least one")
    if batch:
        yield _batch(batch)


def masks(samples: Sequence[Sample], transform: Transform) -> list[np.ndarray | None]:
    """Ground-truth masks of samples, in register with what :func:`batches` gives for them.

    Returns
    -------
    list of ndarray (H, W), bool, or None
        None for a sample without mask files.

    Raises
    ------
    InputError
        If a mask cannot be read or has not the size of its image.
    """

    def load(sample: Sample) -> np.ndarray | None:
        if not sample.masks:
            return None
        return transform.mask(read_mask(sample.masks, image_size(sample.path), sample.path))

    with ThreadPoolExecutor(usual_workers()) as executor:
        return list(executor.map(load, samples))


class _Prepared(NamedTuple):
    """The views (V, h, w, 3) of an image, and which of their pixels count, (V, h, w), or None for all."""

    views: np.ndarray
    roi_masks: np.ndarray | None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width after the transform."""
        return int(self.views.shape[1]), int(self.views.shape[2])


def _prepared(
    images: Any, prepare: Callable[[Path | np.ndarray, str], PreparedT], many: int, *, ahead: bool
) -> Iterator[tuple[str, Path | None, PreparedT]]:
    """Name and file of each image and what is prepared of it, in order, at most ``many`` of them in the making.

    If not ``ahead``, nothing is in the making while one is given out.
    """

    def load(image: Path | np.ndarray, name: str) -> PreparedT:
        try:
            return prepare(image, name)
        except CropError as error:
            raise InputError(f"{name}: {error}") from None

    sources = named_images(images)
    first_two = list(islice(sources, 2))
    if len(first_two) < 2:  # a single image is made sooner than a thread is started
        for name, image in first_two:
            yield name, _path(image), load(image, name)
        return
    sources = chain(first_two, sources)
    executor = ThreadPoolExecutor(usual_workers(ahead))
    try:
        pending: deque[tuple[str, Path | None, Future[PreparedT]]] = deque()

        def submit(count: int) -> None:
            for name, image in islice(sources, count):
                pending.append((name, _path(image), executor.submit(load, image, name)))

        submit(many)
        while pending:
            if ahead:
                name, path, future = pending.popleft()
                prepared = future.result()
                submit(1)
                yield name, path, prepared
            else:
                made = [(name, path, future.result()) for name, path, future in pending]
                pending.clear()
                yield from made
                submit(many)
    finally:
        executor.shutdown(cancel_futures=True)


def _path(image: Path | np.ndarray) -> Path | None:
    return image if isinstance(image, Path) else None


def _batch(items: Sequence[tuple[Path | None, _Prepared | CachedT]]) -> Batch[CachedT]:
    prepared = [image for _, image in items if isinstance(image, _Prepared)]
    pixels, roi_masks = _stack(prepared) if prepared else (None, None)
    return Batch(
        [None if isinstance(image, _Prepared) else image for _, image in items],
        [path for path, image in items if isinstance(image, _Prepared)],
        pixels,
        roi_masks,
    )


def _stack(batch: Sequence[_Prepared]) -> tuple[Tensor, Tensor | None]:
    views = batch[0].views if len(batch) == 1 else np.concatenate([prepared.views for prepared in batch])
    # One image is not copied, unless torch would complain of memory that may not be written to.
    pixels = torch.from_numpy(np.require(views, requirements=["C", "W"])).permute(0, 3, 1, 2)
    if all(prepared.roi_masks is None for prepared in batch):
        return pixels, None
    all_of_it = np.ones(batch[0].views.shape[:3], dtype=bool)
    roi_masks = [all_of_it if prepared.roi_masks is None else prepared.roi_masks for prepared in batch]
    return pixels, torch.from_numpy(np.concatenate(roi_masks))


def usual_workers(ahead: bool = True) -> int:
    """Threads that decode: one per usable processor.

    Those that decode while others work are at most 8.
    """
    return min(usable_processors(), 8 if ahead else 32)


def usable_processors() -> int:
    """Processors that this process may use."""
    # Unlike cpu_count, the affinity respects the limits of containers and of taskset.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _size_text(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]}"
