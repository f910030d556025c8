"""What a fit keeps of normal images, as they stream by."""

from __future__ import annotations

from collections.abc import Callable

from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import Accumulator
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

Embed = Callable[[Features, PatchEmbeddings | None], PatchEmbeddings]
"""What is kept of features, like what is kept of others already."""


class TrainingEmbeddings:
    """Embeddings of normal images: of the passes of a fit, and aside from these the other views for scoring.

    Of a fit that is continued after loading, the views for scoring are not known, and no threshold can be made.

    Parameters
    ----------
    view_set : Looks
        The views of each image.
    known : Samples, Moments or None
        What is known of earlier images.
    image_size : (int, int) or None
        Of earlier images, in pixels.
    other_views : PatchEmbeddings or None
        Of earlier images.
    budget : int
        Bytes that all may take, working copies included.
    """

    def __init__(
        self,
        view_set: ViewSet,
        known: Samples | Moments | None,
        image_size: tuple[int, int] | None,
        other_views: PatchEmbeddings | None,
        budget: int,
    ) -> None:
        self.view_set = view_set
        self.image_size = image_size
        passes, others = view_set.augmentation.passes, len(view_set.others)
        self._fitted = Accumulator(known, budget * passes // view_set.count)
        self._keeps_others = others > 0 and (known is None or other_views is not None)
        earlier = Samples(other_views) if known is not None and other_views is not None else None
        self._aside = Accumulator(earlier, budget * others // view_set.count)
        self._like = known.embeddings if isinstance(known, Samples) else None if known is None else known.reference

    def add(self, features: Features, embed: Embed) -> None:
        """Count images in.

        Raises
        ------
        InputError
            If their size is not that of earlier ones, or their views are not those of the fit, or they fit neither
            memory nor disk.
        """
        if self.image_size is not None and features.image_size != self.image_size:
            raise InputError(
                f"images of {pixels(features.image_size)} after the transform cannot join those of "
                f"{pixels(self.image_size)}: one detector needs one size; set an exact resize, or a crop"
            )
        if features.views != self.view_set.count:
            raise InputError(
                f"features of {features.views} views of each image do not fit a detector of {self.view_set.count}: "
                "extract them by its extract_normal"
            )
        self.image_size = features.image_size
        passes = self.view_set.augmentation.passes
        self._like = embed(features.of_views(range(passes)), self._like)
        self._fitted.add(self._like)
        if self._keeps_others:
            self._aside.add(embed(features.of_views(range(passes, self.view_set.count)), self._like))

    def statistics(self) -> Samples | Moments:
        """What is known of all images in the views of the passes."""
        return self._fitted.result()

    def other_views(self) -> PatchEmbeddings | None:
        """The other views for scoring, if all are known."""
        kept = self._aside.result() if self._keeps_others else None
        return kept.embeddings if isinstance(kept, Samples) else None


def pixels(size: tuple[int, int]) -> str:
    """Height and width in words."""
    return f"{size[0]}x{size[1]} pixels"
