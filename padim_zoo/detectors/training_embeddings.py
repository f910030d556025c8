"""What a fit keeps of normal images, as they stream by."""

from __future__ import annotations

from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import Accumulator
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples


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
        if self.image_size is not None and features.image_size != self.image_size:
            raise InputError(
                f"images of {pixels(features.image_size)} after the transform cannot join those of "
                f"{pixels(self.image_size)}: one detector needs one size; set an exact resize, or a crop"
            )
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
