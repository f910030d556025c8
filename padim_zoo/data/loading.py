"""Images of any origin to batches of uint8 tensors, decoded in threads a few batches ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.cpu import usable_processors
from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import stage
from padim_zoo.data.augmentation import AS_IT_IS, ViewSet
from padim_zoo.data.corruptions import CorruptedFile
from padim_zoo.data.file_notes import FileNotes, current, note, overhearing
from padim_zoo.data.grid import TO_ONE_SIZE
from padim_zoo.data.image import read_image, size_text
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.data.opening import in_turn
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.sources import Source, count_of, named_images
from padim_zoo.data.transform import Transform, TransformError

_BATCHES_AHEAD = 2

Result = TypeVar("Result")


class ResizedImages(Protocol):
    """Where resized images of files are kept: :class:`padim_zoo.cache.images.ImageCache`, which is above this floor."""

    def resized(
        self, path: Path, transform: Transform, on_decode: Callable[[np.ndarray], None] | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """The image after the resize and before the crop, uint8 (H, W, 3), and height and width of the file's.

        ``on_decode`` gets the pixels of a file that has to be decoded.
        """


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
    for batch, _ in view_batches(images, transform, batch_size, AS_IT_IS):
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
    several_sizes: bool = False,
    pinned: bool = False,
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
    several_sizes : bool
        Whether images may differ in size; those of a batch do not.
    pinned : bool
        Whether batches lie in memory that a GPU copies from while other work goes on; those of one image need not.

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
    batches: Iterator[Batch[CachedImage]]
    batches = mixed_batches(
        images,
        transform,
        batch_size,
        view_set,
        roi=roi,
        ahead=ahead,
        cache=cache,
        several_sizes=several_sizes,
        pinned=pinned,
    )
    for batch in batches:
        assert batch.pixels is not None
        yield batch.pixels, batch.roi_masks


class CachedImage(Protocol):
    """What a cache holds of an image, so that its pixels are not wanted."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width after the transform."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The kinds of note of its file (:mod:`padim_zoo.data.file_notes`), said again when it is read."""


Cached = TypeVar("Cached", bound=CachedImage)


class Batch(NamedTuple, Generic[Cached]):
    """Some images in order: what a cache holds of them, or their pixels.

    Attributes
    ----------
    cached : list of Cached or None
        One for each image.
    paths : list of Path or None
        The files of those that are not in the cache; None for images in memory.
    notes : list of tuple of str
        The kinds of note of those files.
    pixels, roi_masks
        The views of those, as :func:`view_batches` gives them; None if there are none.
    """

    cached: list[Cached | None]
    paths: list[Path | None]
    notes: list[tuple[str, ...]]
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
    lookup: Callable[[Path], Cached | None] | None = None,
    several_sizes: bool = False,
    pinned: bool = False,
) -> Iterator[Batch[Cached]]:
    """As :func:`view_batches`, without the pixels of images that a cache has what is wanted of.

    Parameters
    ----------
    images, transform, batch_size, view_set, roi, ahead, cache, several_sizes, pinned
        As of :func:`view_batches`.
    lookup : callable, optional
        What the cache holds of the image in a file, or None; called in the threads that decode, a few batches ahead.
    """
    notes = current() or FileNotes()
    tells = current() is None

    def prepare(name: str, image: Source) -> _Prepared | Cached:
        with notes.listening():
            return prepared_or_cached(name, image)

    def resized_image(image: Source, path: Path | None, transform: Transform) -> tuple[np.ndarray, tuple[int, int]]:
        hashed = isinstance(images, HashedImages) and isinstance(image, Path)
        on_decode = partial(images.decoded, image) if hashed else None
        if path is not None and cache is not None:
            return cache.resized(path, transform, on_decode)
        pixels = image if isinstance(image, np.ndarray) else read_image(_file(image), transform.bit_depth)
        if on_decode is not None:
            on_decode(pixels)
        return transform.resized(pixels), (pixels.shape[0], pixels.shape[1])

    def prepared_or_cached(name: str, image: Source) -> _Prepared | Cached:
        # What is cached is of the file as it is.
        if isinstance(image, Path) and lookup is not None and (cached := lookup(image)) is not None:
            for kind in cached.notes:
                note(kind, name)
            return cached
        path = None if isinstance(image, np.ndarray) else _file(image)
        try:
            with overhearing() as heard, nullcontext() if path is None else in_turn(path):
                resized, size = resized_image(image, path, transform)
            if isinstance(image, CorruptedFile):
                resized = image.corruption.apply(resized, transform.finer, detailed=transform.has_finer(*size))
            mask = None if roi is None else roi.mask_of(path, name, size)
            kinds = () if path is None else heard.kinds_of(str(path))
            if mask is None and view_set.count == 1:
                return _Prepared(transform.cropped(resized)[None], None, kinds)
            return _Prepared(*view_set.of(resized, transform, mask, name), kinds)
        except TransformError as error:
            raise InputError(f"{name}: {error}") from None

    first: tuple[str, tuple[int, int]] | None = None
    batch: list[tuple[Path | None, _Prepared | Cached]] = []
    in_work = batch_size * (_BATCHES_AHEAD if ahead else 1)
    sources = _heard(named_images(images, transform.bit_depth), notes)
    with stage("reading images", count_of(images)) as progress:
        for name, path, prepared in _in_threads(sources, prepare, in_work, ahead=ahead):
            size = prepared.image_size
            if first is None:
                first = name, size
            elif size != first[1] and several_sizes:
                if batch:
                    yield _batch(batch, pinned)
                    progress.advance(len(batch))
                first, batch = (name, size), []
            elif size != first[1]:
                raise InputError(
                    f"{first[0]} is {size_text(first[1])} and {name} is {size_text(size)} (height x width) after the "
                    f"transform: all images must have one size; {TO_ONE_SIZE}"
                )
            batch.append((path, prepared))
            if len(batch) == batch_size:
                yield _batch(batch, pinned)
                progress.advance(len(batch))
                batch = []
        if first is None:
            raise InputError("no images were given: expected at least one")
        if batch:
            yield _batch(batch, pinned)
            progress.advance(len(batch))
    if tells:
        notes.tell()


class _Prepared(NamedTuple):
    """The views (V, h, w, 3) of an image, which of their pixels count, (V, h, w), or None for all; kinds of note."""

    views: np.ndarray
    roi_masks: np.ndarray | None
    notes: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width after the transform."""
        return int(self.views.shape[1]), int(self.views.shape[2])


Named = tuple[str, Source]


def _heard(sources: Iterator[Named], notes: FileNotes) -> Iterator[Named]:
    """Named images, with what is noted of those that are converted in memory."""
    while True:
        with notes.listening():
            source = next(sources, None)
        if source is None:
            return
        yield source


def _in_threads(
    sources: Iterator[Named], prepare: Callable[[str, Source], Result], in_work: int, *, ahead: bool
) -> Iterator[tuple[str, Path | None, Result]]:
    """Name and file of each image and what is prepared of it, in order, at most ``in_work`` of them at a time.

    If not ``ahead``, none is prepared while one is given out.
    """
    first_two = list(islice(sources, 2))
    if len(first_two) < 2:  # a single image is made sooner than a thread is started
        for name, image in first_two:
            yield name, _path(image), prepare(name, image)
        return
    sources = chain(first_two, sources)
    executor = ThreadPoolExecutor(usual_workers(ahead))
    try:
        pending: deque[tuple[str, Path | None, Future[Result]]] = deque()

        def submit(count: int) -> None:
            for name, image in islice(sources, count):
                pending.append((name, _path(image), executor.submit(prepare, name, image)))

        submit(in_work)
        while pending:
            if ahead:
                name, path, future = pending.popleft()
                prepared = future.result()
                submit(1)
                yield name, path, prepared
            else:
                results = [(name, path, future.result()) for name, path, future in pending]
                pending.clear()
                yield from results
                submit(in_work)
    finally:
        executor.shutdown(cancel_futures=True)


def _file(image: Path | CorruptedFile) -> Path:
    return image if isinstance(image, Path) else image.path


def _path(image: Source) -> Path | None:
    return image if isinstance(image, Path) else None


def _batch(images: Sequence[tuple[Path | None, _Prepared | Cached]], pinned: bool) -> Batch[Cached]:
    cached = [None if isinstance(image, _Prepared) else image for _, image in images]
    prepared = [(path, image) for path, image in images if isinstance(image, _Prepared)]
    if not prepared:
        return Batch(cached, [], [], None, None)
    paths, views, roi_masks, notes = zip(*((path, *image) for path, image in prepared), strict=True)
    if len(views) == 1:  # is not copied, unless torch would complain of memory that may not be written to
        stacked = torch.from_numpy(np.require(views[0], requirements=["C", "W"]))
    else:
        shape = (sum(len(each) for each in views), *views[0].shape[1:])
        stacked = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        np.concatenate(views, out=stacked.numpy())
    masks = None
    if any(mask is not None for mask in roi_masks):
        all_pixels = np.ones(views[0].shape[:3], dtype=bool)
        masks = torch.from_numpy(np.concatenate([all_pixels if mask is None else mask for mask in roi_masks]))
    return Batch(cached, list(paths), list(notes), stacked.permute(0, 3, 1, 2), masks)


def usual_workers(ahead: bool = True) -> int:
    """Threads that decode: one per usable processor.

    Those that decode while others work are at most 8.
    """
    return min(usable_processors(), 8 if ahead else 32)
