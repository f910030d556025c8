"""Normal images as they come: kept in memory while they fit, on disk beyond, and as moments where no disk has room.

Samples on disk, and not moments, because a threshold is made by leaving samples out of the fit. They are read back a
few times, patch block by patch block, and cost 4·n·D bytes for a position of a layer; moments cost 8·D² for each patch.
"""

from __future__ import annotations

from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount, free_memory
from padim_zoo.core.spill import NoRoomError, spill_above
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

COPIES = 3
"""How often moments are in memory at the worst moment: themselves, those of more images, a copy about a mean."""

LARGE_ARRAYS = 6
"""How many arrays of a fit are alive at the worst moment: all samples, those of a fold, these centered, and factors."""

MOST_PARTS = 128
"""Parts on disk, of one open file for each layer, that are joined at the latest."""


def default_budget() -> int:
    """Half of the memory that is free now, in bytes."""
    return free_memory() // 2


def largest_array(budget: int) -> int:
    """Bytes that one array of a fit may take in memory."""
    return budget // LARGE_ARRAYS


class Accumulator:
    """Statistics of a stream of embeddings in bounded memory.

    Parameters
    ----------
    start : Samples, Moments or None
        What is known already.
    budget : int
        Bytes that samples or moments may take, working copies included.
    """

    def __init__(self, start: Samples | Moments | None, budget: int) -> None:
        self.budget = budget
        self._moments = start if isinstance(start, Moments) else None
        self._stored = [start.embeddings] if isinstance(start, Samples) else []
        self._pending: list[PatchEmbeddings] = []
        self._pending_bytes = 0

    def add(self, embeddings: PatchEmbeddings) -> None:
        """Count images in.

        Raises
        ------
        InputError
            If a single image does not fit the budget, or the images fit neither the budget nor the disk, nor their
            moments the budget.
        """
        if COPIES * embeddings.size_in_bytes() > self.budget * embeddings.n:
            raise InputError(
                f"an image of {embeddings.P} patches and {embeddings.D} dimensions does not fit the memory allowed, "
                f"{amount(self.budget)}: allow more (--memory), or use fewer components"
            )
        self._pending.append(embeddings)
        self._pending_bytes += embeddings.size_in_bytes()
        if self._moments is not None:
            # Moments are touched as a whole at each merge: worth it for as many images as fill half of what is left.
            left = self.budget - COPIES * Moments.bytes_needed(embeddings.P, embeddings.D)
            if COPIES * self._pending_bytes > left / 2:
                self._fold()
        elif self._pending_bytes > largest_array(self.budget):
            try:
                self._store()
            except NoRoomError as error:
                self._fold_if_moments_fit(error)

    def result(self) -> Samples | Moments:
        """Statistics of all images so far.

        Raises
        ------
        InputError
            As of :meth:`add`.
        """
        if self._moments is None:
            try:
                with spill_above(largest_array(self.budget)):
                    parts = [*self._stored, *self._pending]
                    return Samples(PatchEmbeddings.concatenate(parts) if len(parts) > 1 else parts[0])
            except NoRoomError as error:
                self._fold_if_moments_fit(error)
        elif self._pending:
            self._fold()
        assert self._moments is not None
        return self._moments

    def _store(self) -> None:
        """Move what is in memory to disk, each position's images together: a block of patches is one read."""
        with spill_above(0):
            self._stored.append(PatchEmbeddings.concatenate(self._pending))
            self._pending, self._pending_bytes = [], 0
            if len(self._stored) > MOST_PARTS:
                self._stored = [PatchEmbeddings.concatenate(self._stored)]

    def _fold(self) -> None:
        if any(part.roi_masks is not None and part.subset is None for part in [*self._stored, *self._pending]):
            raise InputError(
                "images with regions of interest that differ are kept as samples, which fit neither the memory "
                "allowed nor the disk: allow more memory (--memory), free some disk, or use one mask for all images"
            )
        with spill_above(largest_array(self.budget)):
            parts = [*self._stored, PatchEmbeddings.concatenate(self._pending)] if self._pending else self._stored
        self._stored, self._pending, self._pending_bytes = [], [], 0
        # The moments themselves belong in memory: each merge touches all of them.
        for part in parts:
            if self._moments is None:
                self._moments = Moments.of(part, part.mean())
            else:
                self._moments = Moments.of(part, self._moments.reference).absorb(self._moments)

    def _fold_if_moments_fit(self, error: NoRoomError) -> None:
        first = (self._stored or self._pending)[0]
        if COPIES * Moments.bytes_needed(first.P, first.D) > self.budget:
            raise error
        self._fold()


def refuse_to_join(image_size: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse normal images whose size after the transform is not that of earlier ones.

    Raises
    ------
    InputError
        Naming both.
    """
    if size != image_size:
        raise InputError(
            f"images of {pixels(size)} after the transform cannot join those of "
            f"{pixels(image_size)}: one detector needs one size; set an exact resize, or a crop"
        )


class TrainingEmbeddings:
    """Embeddings of normal images: of the passes of a fit, and aside from these the other views for scoring.

    Of a fit that is continued after loading, the views for scoring are not known, and no threshold can be made.

    Parameters
    ----------
    view_set : ViewSet
        The views of each image.
    earlier : Samples, Moments or None
        The statistics of earlier images.
    image_size : (int, int) or None
        Of earlier images, in pixels.
    other_views : PatchEmbeddings or None
        Of earlier images.
    budget : int
        Bytes that all may take, working copies included.

    Attributes
    ----------
    image_size : (int, int) or None
        Of the images so far.
    like : PatchEmbeddings or None
        Embeddings of earlier images, which have the patches that all must have.
    """

    def __init__(
        self,
        view_set: ViewSet,
        earlier: Samples | Moments | None,
        image_size: tuple[int, int] | None,
        other_views: PatchEmbeddings | None,
        budget: int,
    ) -> None:
        self.image_size = image_size
        self.like = None
        if earlier is not None:
            self.like = earlier.embeddings if isinstance(earlier, Samples) else earlier.reference
        self._count, passes, others = view_set.count, view_set.augmentation.passes, len(view_set.others)
        self._passes, self._others = range(passes), range(passes, self._count)
        self._fitted = Accumulator(earlier, budget * passes // self._count)
        self._keeps_others = others > 0 and (earlier is None or other_views is not None)
        earlier_views = Samples(other_views) if earlier is not None and other_views is not None else None
        self._aside = Accumulator(earlier_views, budget * others // self._count)

    def check(self, features: Features) -> None:
        """Refuse images that cannot join the others.

        Raises
        ------
        InputError
            If their size is not that of earlier ones, or their views are not those of the fit.
        """
        if self.image_size is not None:
            refuse_to_join(self.image_size, features.image_size)
        if features.views != self._count:
            raise InputError(
                f"features of {features.views} views of each image do not fit a detector of {self._count}: "
                "extract them by its extract_normal"
            )
        self.image_size = features.image_size

    def fitted_views(self, features: Features) -> Features:
        """The views of the passes."""
        return features.of_views(self._passes)

    def other_views_of(self, features: Features) -> Features | None:
        """The other views for scoring, if they are kept."""
        return features.of_views(self._others) if self._keeps_others else None

    def add(self, embeddings: PatchEmbeddings) -> None:
        """Count images in, by their embeddings in the views of the passes.

        Raises
        ------
        InputError
            If they fit neither memory nor disk.
        """
        self.like = embeddings
        self._fitted.add(embeddings)

    def add_other_views(self, embeddings: PatchEmbeddings) -> None:
        """Put aside the same images in the other views for scoring."""
        self._aside.add(embeddings)

    def statistics(self) -> Samples | Moments:
        """The statistics of all images in the views of the passes."""
        return self._fitted.result()

    def other_views(self) -> PatchEmbeddings | None:
        """All images in the other views for scoring, if these are known."""
        samples = self._aside.result() if self._keeps_others else None
        return samples.embeddings if isinstance(samples, Samples) else None


def pixels(size: tuple[int, int]) -> str:
    """Height and width in words."""
    return f"{size[0]}x{size[1]} pixels"
