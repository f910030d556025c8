"""What detectors on the features of a frozen backbone have in common: streaming fits, thresholds, model files.

A detector embeds the features of each image (:class:`Embedding`), keeps what is known of the normal ones, makes a model
of that, and scores other embeddings by the model. PaDiM and its relatives differ in these steps alone.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor

from padim_zoo.backbones.weight_provenance import count_adapted, images_adapted_to
from padim_zoo.core.errors import InputError
from padim_zoo.core.spill import spill_above
from padim_zoo.detectors.backbone_features import BackboneFeatures
from padim_zoo.detectors.backbone_parameters import Size as Size
from padim_zoo.detectors.calibration import Calibration, calibrate
from padim_zoo.detectors.detector import Prediction
from padim_zoo.detectors.model_file import MODEL_DTYPES, contents_of, detector_from
from padim_zoo.detectors.model_file import embeddings_of as embeddings_of
from padim_zoo.detectors.model_file import numbered as numbered
from padim_zoo.detectors.parameters import check_sigma
from padim_zoo.detectors.scikit_learn import normal_images
from padim_zoo.detectors.storage import DetectorFile, write_detector
from padim_zoo.detectors.training_embeddings import TrainingEmbeddings, pixels
from padim_zoo.detectors.views import combined, interleave_views
from padim_zoo.features.features import Features, rows_of
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import largest_array
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from typing_extensions import Self

Model = TypeVar("Model")

_HARMLESS = {"batch_size", "memory", "cache"}
_BACKBONE = {"backbone", "weights", "layers", "device", "precision"}


class Embedding(Protocol):
    """What a detector makes of the features of each image, whatever the others are."""

    def apply(self, features: Features) -> PatchEmbeddings:
        """The embeddings of images."""


class BackboneDetector(BackboneFeatures, Generic[Model]):
    """A detector on the features of a frozen backbone.

    Subclasses say how an image is embedded (:meth:`make_embedding`), how a model is made of the normal embeddings
    (:meth:`fit_model`), how others are scored by it (:meth:`score`), and how it is written (:meth:`model_arrays`).

    Parameters are those of :class:`~padim_zoo.detectors.backbone_parameters.BackboneParameters`.

    Attributes
    ----------
    backbone_ : Backbone
    embedding_ : Embedding
        What was drawn.
    statistics_ : Samples, Moments or None
        What is known of the normal images; None in a detector that was loaded, until it is wanted.
    model_
        What was made of them.
    n_images_ : int
    image_size_ : tuple of int
        Height and width of the transformed images and of anomaly maps, in pixels.
    adapted_images_ : int
        How many of the normal images the weights of the backbone were adapted to, so far as that is known.
    calibration_ : Calibration or None
        Threshold and what it was made from; None until :meth:`calibrate`.
    """

    name: ClassVar[str]
    """The name in the registry, by which a file says what made it."""
    supports_moments: ClassVar[bool] = False
    """Whether a model can be made of moments, where neither memory nor disk has room for all samples."""
    scoring: ClassVar[frozenset[str]] = frozenset({"sigma"})
    """Parameters on which scores depend, but nothing that was fitted."""
    modeling: ClassVar[frozenset[str]] = frozenset()
    """Parameters on which the model depends, but not what is known of the normal images."""

    embedding_: Embedding
    image_size_: tuple[int, int]
    n_images_: int

    statistics_: Samples | Moments | None = None
    adapted_images_: int = 0
    _adapted_to: frozenset[str] | None = None
    _region_per_image: bool = False
    _other_views: PatchEmbeddings | None = None
    _model: Model | None = None

    # -- what a subclass says ----------------------------------------------------------------------------------------

    @abstractmethod
    def make_embedding(self) -> Embedding:
        """How images are embedded, by the parameters."""

    @abstractmethod
    def fit_model(self, statistics: Samples | Moments) -> Model:
        """A model of the normal images."""

    @abstractmethod
    def score(self, model: Model, embeddings: PatchEmbeddings) -> Prediction:
        """Scores of images by a model."""

    @abstractmethod
    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and JSON that :meth:`restore` makes the fitted detector of."""

    @abstractmethod
    def restore(self, file: DetectorFile) -> None:
        """Take over what :meth:`model_arrays` gave."""

    def require_statistics(self, purpose: str) -> Samples | Moments | None:
        """What is known of the normal images, or None before the first fit.

        Raises
        ------
        InputError
            If the detector was loaded from a file that does not hold it.
        """
        return self.statistics_

    # -- what the parameters stand for -------------------------------------------------------------------------------

    def reset_fit(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed.

        ``batch_size``, ``memory`` and ``cache`` leave all as it is; :attr:`scoring` parameters drop the threshold, and
        those of :attr:`modeling` the model too, which is made anew from what is known of the images. All others drop
        the fit, and those of the backbone also the backbone; of a detector that was loaded, the one in the file.
        """
        changed = set(changed) - _HARMLESS
        if changed:
            self.calibration_ = None
        if "tta" in changed:
            self._other_views = None
            changed = changed - {"tta"}
        if changed & self.modeling and self._model is not None:
            self.statistics_ = self.statistics_ or self._statistics_if_known()
            self._model = None
        if changed - self.scoring - self.modeling:
            self._model = self.statistics_ = self._precision_in_file = None
        if "roi" in changed:
            self._region_per_image = False
        if changed & _BACKBONE:
            self.backbone_ = self._adapted_to = None

    def _statistics_if_known(self) -> Samples | Moments | None:
        try:
            return self.require_statistics("make another model")
        except InputError:
            return None

    # -- fit ---------------------------------------------------------------------------------------------------------

    def fit(self, images: Any, y: Any = None) -> Self:
        """Fit on normal images, forgetting any earlier fit; the embeddings are all that is kept in memory.

        Labels ``y`` are those of :meth:`Detector.fit`.
        """
        images = normal_images(images, y)
        self._accumulate(self._features(images, fit=True), None)
        self.adapted_images_ = count_adapted(self.adapted_to, images)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return self._model is not None or self.statistics_ is not None

    def fit_features(self, features: Features) -> Self:
        """Fit on the features of normal images, as :meth:`extract_normal` gives them, forgetting any earlier fit."""
        return self._accumulate([features], None)

    def partial_fit(self, images: Any) -> Self:
        """Fit on more normal images beside those seen so far; any order of batches gives the same detector.

        Raises
        ------
        InputError
            If there are no images, or their size differs from those seen so far, or the detector was loaded from a
            file that does not hold what is known of them. The detector is then as it was.
        """
        known = self.require_statistics("continue a fit")
        if known is not None and self.precision_ != self.build_backbone().precision:
            warnings.warn(
                f"images added in {self.build_backbone().precision} join those seen in {self.precision_}: a fit with "
                "precision float32 goes on the same on every machine",
                stacklevel=2,
            )
        adapted = self.adapted_images_
        self._accumulate(self._features(images, fit=True), known)
        self.adapted_images_ = adapted + count_adapted(self.adapted_to, images)
        return self

    @property
    def adapted_to(self) -> frozenset[str]:
        """The hashes of the images that the backbone's weights were adapted to, so far as these say it."""
        if self._adapted_to is None:
            self._adapted_to = images_adapted_to(self.build_backbone().weights_source)
        return self._adapted_to

    def _accumulate(self, parts: Iterable[Features], known: Samples | Moments | None) -> Self:
        embedding = self.make_embedding() if known is None else self.embedding_
        size = None if known is None else self.image_size_
        normal = TrainingEmbeddings(self.views_of_fit(), known, size, self._other_views, self._budget())

        def embed(some: Features, like: PatchEmbeddings | None) -> PatchEmbeddings:
            check_sigma(self.sigma, some.image_size)
            return self.select_patches(embedding.apply(some), like)

        for features in parts:
            normal.add(features, embed)
        if normal.image_size is None:
            raise InputError("there are no images to fit on: expected at least one normal image")
        statistics = normal.statistics()
        if isinstance(statistics, Moments) and not self.supports_moments:
            raise InputError(
                f"{self.name} needs all normal embeddings, which fit neither the memory allowed nor the disk: allow "
                "more memory (--memory), free some disk, or fit on fewer images"
            )
        if known is None:
            self._precision_in_file = None
        return self._set(statistics, embedding, normal.image_size, normal.other_views())

    def select_patches(self, embeddings: PatchEmbeddings, like: PatchEmbeddings | None) -> PatchEmbeddings:
        """What is kept of the embeddings of normal images: all, unless a detector needs less.

        Parameters
        ----------
        embeddings : PatchEmbeddings
        like : PatchEmbeddings or None
            What is kept of others already, if any.
        """
        return embeddings

    def _set(
        self,
        statistics: Samples | Moments,
        embedding: Embedding,
        image_size: tuple[int, int],
        other_views: PatchEmbeddings | None = None,
    ) -> Self:
        self.statistics_, self.embedding_, self.image_size_ = statistics, embedding, image_size
        self._other_views = other_views
        self.n_images_ = statistics.n // self.views_of_fit().augmentation.passes
        self.calibration_ = None
        self.adapted_images_ = 0
        self._region_per_image = False
        self._model = None
        return self

    @property
    def model_(self) -> Model:
        """The model, made when first wanted after a fit."""
        if self._model is None:
            if self.statistics_ is None:
                raise InputError("the detector is not fitted: call fit with normal images first")
            with spill_above(largest_array(self._budget())):
                self._model = self.fit_model(self.statistics_)
        return self._model

    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold from out-of-fold scores of the normal images that the detector was fitted on.

        See :func:`padim_zoo.detectors.calibration.calibrate`.
        """
        statistics = self.require_statistics("make a threshold")
        if not isinstance(statistics, Samples):
            raise InputError(
                "a threshold needs the samples, but there are only moments (or no fit): "
                "allow more memory, or fit on fewer images"
            )
        self.check_parameters()
        passes = self.views_of_fit().augmentation.passes
        self._require_other_views()
        with spill_above(largest_array(self._budget())):
            found = calibrate(
                lambda images: self.fit_model(Samples(statistics.embeddings.images(rows_of(images, passes)))),
                lambda model, images: self.score_views(model, self._views_to_score(statistics.embeddings, images)),
                statistics.n // passes,
                false_alarm_rate=false_alarm_rate,
                folds=folds,
                seed=self.seed,
            )
        return self.keep_calibration(found)

    def keep_calibration(self, calibration: Calibration) -> Calibration:
        """Make it the detector's own, and say where its threshold may not keep its promise."""
        self.calibration_ = replace(calibration, adapted=self.adapted_images_)
        if self.calibration_.caveat is not None:
            warnings.warn(self.calibration_.caveat, stacklevel=3)
        return self.calibration_

    def _require_other_views(self) -> None:
        """Refuse to score normal images of which not all views are known."""
        if len(self.views_of_score()) > 1 and self._other_views is None:
            raise InputError(
                "a threshold needs the normal images in all views of tta, which are known of a fit with that tta in "
                "this session only: fit again"
            )

    def _views_to_score(self, embeddings: PatchEmbeddings, images: np.ndarray) -> PatchEmbeddings:
        """The views by which some of the normal images are scored, those of each next to each other."""
        passes, count = self.views_of_fit().augmentation.passes, len(self.views_of_score())
        first = embeddings.images(images * passes)
        if count == 1:
            return first
        assert self._other_views is not None
        return interleave_views(first, self._other_views.images(rows_of(images, count - 1)))

    # -- predict -----------------------------------------------------------------------------------------------------

    def predict(self, images: Any, *, roi: Any = None) -> Prediction:
        """Score images, batch by batch.

        Parameters
        ----------
        images
            As :func:`~padim_zoo.data.loading.batches` takes them.
        roi : path, ndarray or RegionOfInterest, optional
            Pixels of these images that count, beside the detector's own region of interest, where it has one: what
            lies outside either does not. Instead of it, where that is a folder.

        Raises
        ------
        InputError
            If there are no images, or their size after the transform is not that of the fit.
        """
        if self._region_per_image and roi is None:
            warnings.warn(
                f"this {self.name} was fitted with a mask for each image, which its file does not hold: all pixels are "
                "judged; name the folder of these images' masks by --roi",
                stacklevel=2,
            )
        predictions = [self.score_views(self.model_, embeddings) for embeddings in self._batches_to_score(images, roi)]
        return self.with_scale(Prediction.concatenate(predictions))

    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features, all channels, as :meth:`extract` or :meth:`extract_normal` gives them."""
        return self.score_views(self.model_, self._embedded(features))

    def _batches_to_score(self, images: Any, roi: Any) -> Iterator[PatchEmbeddings]:
        """Embeddings of about ``batch_size`` views at a time: features come in smaller parts, of far more channels."""
        self.model_  # noqa: B018  an unfitted detector says so before any image is read
        waiting: list[PatchEmbeddings] = []
        for features in self._features(images, fitted=True, roi=roi):
            waiting.append(self._embedded(features))
            if sum(part.n for part in waiting) >= self.batch_size:
                yield PatchEmbeddings.concatenate(waiting) if len(waiting) > 1 else waiting[0]
                waiting = []
        if waiting:
            yield PatchEmbeddings.concatenate(waiting) if len(waiting) > 1 else waiting[0]

    def _embedded(self, features: Features) -> PatchEmbeddings:
        """Embeddings of the views to score, of images whose size is that of the fit."""
        if features.image_size != self.image_size_:
            raise InputError(
                f"an image of {pixels(features.image_size)} after the transform cannot be scored by a detector fitted "
                f"on {pixels(self.image_size_)}: use images of the same shape, or a crop"
            )
        check_sigma(self.sigma, self.image_size_)
        count, of_fit = len(self.views_of_score()), self.views_of_fit().count
        if features.views not in (count, of_fit):
            raise InputError(
                f"features of {features.views} views of each image do not fit a detector that scores {count}: extract "
                "them by its extract"
            )
        if features.views > count:
            features = features.of_views([0, *range(of_fit - count + 1, of_fit)])
        return self.embedding_.apply(features)

    def score_views(self, model: Model, embeddings: PatchEmbeddings) -> Prediction:
        """Scores of images of which all views for scoring are given, those of one next to each other."""
        views = self.views_of_score()
        prediction = self.score(model, embeddings)
        if len(views) > 1:
            prediction = combined(prediction, views, score_is_map_maximum=self.score_is_map_maximum)
        if prediction.roi_masks is not None:
            roi_masks: np.ndarray = np.any(prediction.roi_masks, axis=(1, 2))
            if not roi_masks.all():
                raise InputError(
                    f"nothing of {(~roi_masks).sum()} of {len(roi_masks)} images is judged, the first at index "
                    f"{roi_masks.argmin()}: no patch of their regions of interest was among those of the fit"
                )
        return prediction

    @property
    def region_per_image(self) -> bool:
        """Whether the fit had a region of interest for each image, in a folder."""
        region = self.region_of_interest()
        return self._region_per_image if region is None else not region.common

    # -- files -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        network = self.build_backbone().name
        return {"fitted": f"{self.name} ({network}) on {self.n_images_} normal images, in {self.precision_}"}

    def save(self, path: str | Path, *, resumable: bool = False, dtype: str = "float16") -> None:
        """Write all that is needed to score an image file, the backbone's weights included, as one safetensors file.

        Parameters and the calibration are JSON in the file's header.

        Parameters
        ----------
        path : str or Path
            The file; replaced whole or not at all.
        resumable : bool
            Add what :meth:`partial_fit` needs to go on after loading, where the model itself is not enough.
        dtype : str
            ``"float16"`` keeps the factors of Gaussians in 16 bit where that moves distances by less than
            :data:`~padim_zoo.gaussians.gaussian.HALF_ERROR`, measured and put down in the file; ``"float32"`` keeps
            them as they are. The dual form and features of normal images are never in 16 bit.

        Raises
        ------
        InputError
            If the file cannot be written, or the detector is not fitted or does not know its statistics.
        """
        write_detector(path, *self.to_state(resumable=resumable, dtype=dtype))

    def to_state(self, *, resumable: bool = False, dtype: str = "float16") -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Header and arrays of the file that :meth:`save` writes."""
        if dtype not in MODEL_DTYPES:
            raise InputError(f"dtype is {dtype!r}: expected {' or '.join(MODEL_DTYPES)}")
        self.model_  # noqa: B018  an unfitted detector says so
        with spill_above(largest_array(self._budget())):
            arrays, own = self.model_arrays(resumable=resumable, half=dtype == "float16")
        return contents_of(self, arrays, own)

    def set_fit_metadata(self, *, adapted_to: frozenset[str], adapted_images: int, region_per_image: bool) -> None:
        """What a file says of the fit, beside the model."""
        self._adapted_to, self.adapted_images_, self._region_per_image = adapted_to, adapted_images, region_per_image

    @classmethod
    def from_file(cls, file: DetectorFile, *, device: str = "auto", batch_size: int = 32) -> Self:
        """Rebuild a detector from a file that :meth:`save` wrote; see :func:`padim_zoo.detectors.load`."""
        return detector_from(cls, file, device=device, batch_size=batch_size)
