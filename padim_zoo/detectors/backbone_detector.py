"""What detectors on the features of a frozen backbone have in common: streaming fits, thresholds, model files.

A detector embeds the features of each image (:class:`Embedding`), keeps what is known of the normal ones, makes a model
of that, and scores other embeddings by the model. PaDiM and its relatives differ in these steps alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.arrays import arrays_up_to
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import resolve_device, resolve_precision
from padim_zoo.data.augmentation import (
    USUAL_PASSES,
    Augmentation,
    Looks,
    View,
    canonical_operations,
    mean_of_views,
    parse_operations,
    views_for_scoring,
)
from padim_zoo.data.loading import view_batches
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import Calibration, calibrate
from padim_zoo.detectors.detector import Detector, Prediction
from padim_zoo.detectors.judged import prediction_within
from padim_zoo.detectors.parameters import LARGEST_SEED, check_sigma, check_whole_number
from padim_zoo.detectors.scikit_learn import normal_images
from padim_zoo.detectors.storage import DetectorFile, write_detector
from padim_zoo.embedding import PatchEmbeddings, PatchSubset
from padim_zoo.errors import InputError
from padim_zoo.estimators.accumulation import Accumulator, default_budget, largest_array
from padim_zoo.estimators.statistics import Moments, Samples
from padim_zoo.features import Features, rows_of

if TYPE_CHECKING:
    from typing_extensions import Self

Model = TypeVar("Model")
Size = int | tuple[int, int] | None

RUNTIME = ("device", "batch_size", "memory")
"""Parameters that change how fast a detector works, not what it finds: a saved model leaves them open."""

MODEL_DTYPES = ("float16", "float32")
"""Types that the factors of Gaussians can have in a file."""

ACTIVATIONS = 6
"""How many times its feature maps a backbone is taken to have in memory: a guess, on the safe side for resnets."""

_BACKBONE = {"backbone", "weights", "layers", "device", "precision"}


class Embedding(Protocol):
    """What a detector makes of the features of each image, whatever the others are."""

    def apply(self, features: Features) -> PatchEmbeddings:
        """The embeddings of images."""


class BackboneDetector(Detector, Generic[Model]):
    """A detector on the features of a frozen backbone.

    Subclasses say how an image is embedded (:meth:`draw_embedding`), how a model is made of the normal embeddings
    (:meth:`fit_model`), how others are scored by it (:meth:`score`), and how it is written (:meth:`model_arrays`).

    Parameters
    ----------
    backbone : str or Backbone
        A registered name (``padim-zoo list backbones``) or a :class:`~padim_zoo.backbones.backbone.Backbone`, which
        wraps any network.
    weights : str
        ``"default"``, ``"none"`` (random, seeded) or the path of a weights file. Ignored when ``backbone`` is no name.
    layers : sequence of str, optional
        Layers of the backbone; those of :meth:`layers_wanted` by default.
    seed : int
        Seed of all that is drawn, and of the cut into folds; 0 to 2³² - 1.
    resize : int, (int, int) or None
        Length of the shorter side in pixels, or exact height and width, before the crop.
    crop : int, (int, int) or None
        Size of the centre crop in pixels, or None for no crop.
    sigma : float
        Standard deviation in pixels of the Gaussian that smooths the anomaly map; 0 for none. At most the longer
        side of the transformed images.
    batch_size : int
        Images that pass through the backbone at once; changes speed and memory only.
    memory : int, optional
        Bytes that a fit may take beside the backbone; half of what is free by default. What is larger goes to files
        that are mapped, in the cache folder, and that vanish with the process. Fewer than ``batch_size`` images pass
        through the backbone at once when their activations would take more than half of it.
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` …, for the backbone.
    precision : str
        Type that the backbone computes in: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for bfloat16 where the device
        has it in hardware; see :func:`~padim_zoo.backbones.device.resolve_precision`.
    augment : str, optional
        Operations of :data:`~padim_zoo.data.augmentation.OPERATIONS`, e.g. ``"flip,rotate(10),brightness(0.1)"``: the
        fit sees every normal image ``passes`` times, once as it is and otherwise with a random amount of each. The
        draw depends on the seed and the image's pixels. All views of an image are in one fold.
    passes : int, optional
        Of a fit with ``augment``; 4 by default.
    tta : str, optional
        Test-time augmentation: an image is scored as it is, mirrored (``"flip"``), turned one way and the other
        (``"rotate(5)"``) and so on, one view for every direction of every operation. Maps are brought back to the
        pixels of the image, and their mean is taken over the views that show a pixel. Where the score of an image is
        not the maximum of its map, it is the mean of the scores of the views.
    roi : path, ndarray (H, W) or RegionOfInterest, optional
        The pixels that count, as :class:`~padim_zoo.data.roi.RegionOfInterest` takes them: a mask for all images, or a
        folder with one for each. Patches of which no pixel counts take part in nothing. A model file holds the
        mask for all images; a folder has to be named again, see :meth:`predict`.

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
    calibration_ : Calibration or None
        Threshold and what it was made from; None until :meth:`calibrate`.
    """

    name: ClassVar[str]
    """The name in the registry, by which a file says what made it."""
    takes_moments: ClassVar[bool] = False
    """Whether a model can be made of moments, where neither memory nor disk has room for all samples."""
    scoring: ClassVar[frozenset[str]] = frozenset({"sigma"})
    """Parameters on which scores depend, but nothing that was fitted."""
    modelling: ClassVar[frozenset[str]] = frozenset()
    """Parameters on which the model depends, but not what is known of the normal images."""

    embedding_: Embedding
    image_size_: tuple[int, int]
    n_images_: int

    def __init__(
        self,
        backbone: str | Backbone = "builtin",
        *,
        weights: str = "default",
        layers: tuple[str, ...] | list[str] | None = None,
        seed: int = 0,
        resize: Size = 256,
        crop: Size = 224,
        sigma: float = 4.0,
        batch_size: int = 32,
        memory: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        augment: str | None = None,
        passes: int | None = None,
        tta: str | None = None,
        roi: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.layers = layers
        self.seed = seed
        self.resize = resize
        self.crop = crop
        self.sigma = sigma
        self.batch_size = batch_size
        self.memory = memory
        self.device = device
        self.precision = precision
        self.augment = augment
        self.passes = passes
        self.tta = tta
        self.roi = roi
        self.backbone_: Backbone | None = None
        self.statistics_: Samples | Moments | None = None
        self.calibration_: Calibration | None = None
        self._other_views: PatchEmbeddings | None = None
        self._roi: tuple[Any, RegionOfInterest] | None = None
        self._model: Model | None = None

    # -- what a subclass says ----------------------------------------------------------------------------------------

    @abstractmethod
    def draw_embedding(self) -> Embedding:
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

    @classmethod
    def layers_wanted(cls, backbone: str) -> tuple[str, ...] | None:
        """Layers of a registered backbone that are used when none are named; None for its default ones."""
        return None

    def known_statistics(self, purpose: str) -> Samples | Moments | None:
        """What is known of the normal images, or None before the first fit.

        Raises
        ------
        InputError
            If the detector was loaded from a file that does not hold it.
        """
        return self.statistics_

    # -- what the parameters stand for -------------------------------------------------------------------------------

    def forget(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed.

        ``batch_size`` and ``memory`` leave everything as it is; :attr:`scoring` parameters drop the threshold, and
        those of :attr:`modelling` the model too, which is made anew from what is known of the images. All others drop
        the fit, and those of the backbone also the backbone; of a detector that was loaded, the one in the file.
        """
        changed = set(changed) - {"batch_size", "memory"}
        if changed:
            self.calibration_ = None
        if "tta" in changed:
            self._other_views = None
            changed = changed - {"tta"}
        if changed & self.modelling and self._model is not None:
            self.statistics_ = self.statistics_ or self._statistics_if_known()
            self._model = None
        if changed - self.scoring - self.modelling:
            self._model = self.statistics_ = None
        if changed & _BACKBONE:
            self.backbone_ = None

    def _statistics_if_known(self) -> Samples | Moments | None:
        try:
            return self.known_statistics("make another model")
        except InputError:
            return None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read.

        Names that registries know, and what depends on the backbone, are looked at where they are resolved.

        Raises
        ------
        InputError
            Naming the parameter, what was found and what was expected.
        """
        check_whole_number("seed", self.seed, 0, LARGEST_SEED)
        check_whole_number("batch_size", self.batch_size, 1)
        if self.memory is not None:
            check_whole_number("memory", self.memory, 1)
        check_sigma(self.sigma)
        if isinstance(self.layers, str):
            raise InputError(f"layers is {self.layers!r}: expected a sequence of names, e.g. ({self.layers!r},)")
        self.transform  # noqa: B018  checks resize and crop
        self.views_of_fit()
        self.region_of_interest()

    def views_of_fit(self) -> Looks:
        """The views of normal images: those of the passes, then those for scoring beyond the first.

        Raises
        ------
        InputError
            If ``augment``, ``passes`` or ``tta`` cannot be read.
        """
        if self.augment is None and self.passes is not None:
            raise InputError(f"passes is {self.passes!r} without augment: say what to change, e.g. flip,rotate(10)")
        passes = 1
        if self.augment is not None:
            passes = USUAL_PASSES if self.passes is None else self.passes
            check_whole_number("passes", passes, 2)
        operations = () if self.augment is None else parse_operations("augment", self.augment)
        return Looks(Augmentation(operations, passes, self.seed), self.views_of_score()[1:])

    def views_of_score(self) -> tuple[View, ...]:
        """The views by which an image is scored; the first is the image as it is."""
        return views_for_scoring(() if self.tta is None else parse_operations("tta", self.tta))

    def region_of_interest(self) -> RegionOfInterest | None:
        """What ``roi`` stands for; opened once.

        Raises
        ------
        InputError
            If there is no such file or folder, or nothing counts.
        """
        if self.roi is None:
            return None
        if self._roi is None or self._roi[0] is not self.roi:
            self._roi = (self.roi, RegionOfInterest(self.roi))
        return self._roi[1]

    @property
    def transform(self) -> Transform:
        """What happens to an image before the backbone."""
        return Transform(resize=self.resize, crop=self.crop)

    def build_backbone(self) -> Backbone:
        """The backbone, made at first use.

        Raises
        ------
        InputError
            If a parameter is none (:meth:`check_parameters`), the name is unknown or makes no Backbone, the weights do
            not fit or cannot be had, or the device is not there or the precision unknown.
        """
        self.check_parameters()
        if self.backbone_ is None:
            if isinstance(self.backbone, str):
                layers = self.layers or self.layers_wanted(self.backbone)
                made = registry.backbones.create(self.backbone, layers=layers, weights=self.weights)
            else:
                made = self.backbone
            self.backbone_ = self._placed(_checked(made))
        return self.backbone_

    def _placed(self, backbone: Backbone) -> Backbone:
        device = resolve_device(self.device)
        return backbone.to(device).eval().in_precision(resolve_precision(self.precision, device))

    @property
    def features_key(self) -> str:
        """Backbone, weights, precision, layers, transform and views; nothing that is drawn or chosen afterwards."""
        backbone = self.build_backbone()
        layers = ",".join(backbone.layers)
        key = f"{backbone.name} {backbone.weights_hash} {backbone.precision} {layers} {self.transform.to_dict()}"
        return key + self._key_of_views(fit=True) + self._key_of_roi()

    def _key_of_views(self, fit: bool) -> str:
        """What tells views apart; nothing where an image is seen as it is."""
        key = ""
        if fit and self.augment is not None:
            passes = self.views_of_fit().augmentation.passes
            key = f" {canonical_operations('augment', self.augment)} {passes} {self.seed}"
        return key if self.tta is None else f"{key} tta {canonical_operations('tta', self.tta)}"

    def _key_of_roi(self) -> str:
        region = self.region_of_interest()
        return "" if region is None else f" roi {region.fingerprint()}"

    @property
    def cache_key(self) -> str | None:
        """What :attr:`features_key` tells apart, and the device and the code of the network.

        None, so that nothing is kept, where masks of pixels go with the features.
        """
        return self._cache_key(fit=False)

    @property
    def cache_key_of_normal(self) -> str | None:
        """The same of :meth:`extract_normal`."""
        return self._cache_key(fit=True)

    def _cache_key(self, fit: bool) -> str | None:
        if self.roi is not None or any(view.resamples for view in self.views_of_score()):
            return None
        backbone = self.build_backbone()
        key = self.features_key
        if not fit and self.augment is not None:  # the same as without: test images are seen in no pass of a fit
            key = key.replace(self._key_of_views(fit=True), self._key_of_views(fit=False))
        return f"{key} {resolve_device(self.device).type} {backbone.response}"

    # -- fit ---------------------------------------------------------------------------------------------------------

    def extract(self, images: Any, *, roi: Any = None) -> Features:
        """All channels of the feature maps of ``images``, in all views by which they are scored.

        ``roi`` is as of :meth:`predict`.
        """
        return Features.concatenate(list(self._features(images, roi=roi)))

    def extract_normal(self, images: Any) -> Features:
        """The same of normal images, in all views of a fit and for scoring."""
        if self.augment is None:
            return self.extract(images)
        return Features.concatenate(list(self._features(images, fit=True)))

    def fit(self, images: Any, y: Any = None) -> Self:
        """Fit on normal images, forgetting any earlier fit; the embeddings are all that is kept in memory.

        Labels ``y`` are those of :meth:`Detector.fit`.
        """
        return self._add(self._features(normal_images(images, y), fit=True), None)

    def __sklearn_is_fitted__(self) -> bool:
        return self._model is not None or self.statistics_ is not None

    def fit_features(self, features: Features) -> Self:
        """Fit on the features of normal images, as :meth:`extract_normal` gives them, forgetting any earlier fit."""
        return self._add([features], None)

    def partial_fit(self, images: Any) -> Self:
        """Fit on more normal images beside those seen so far; any order of batches gives the same detector.

        Raises
        ------
        InputError
            If there are no images, or their size differs from those seen so far, or the detector was loaded from a
            file that does not hold what is known of them. The detector is then as it was.
        """
        return self._add(self._features(images, fit=True), self.known_statistics("continue a fit"))

    def _add(self, parts: Iterable[Features], known: Samples | Moments | None) -> Self:
        embedding = self.draw_embedding() if known is None else self.embedding_
        size = None if known is None else self.image_size_
        looks = self.views_of_fit()
        passes, others = looks.augmentation.passes, len(looks.others)
        accumulator = Accumulator(known, self._budget() * passes // looks.count)
        # Of a fit that is continued after loading, the views for scoring are not known, and no threshold can be made.
        keeps_others = others > 0 and (known is None or self._other_views is not None)
        earlier = Samples(self._other_views) if known is not None and self._other_views is not None else None
        aside = Accumulator(earlier, self._budget() * others // looks.count)
        like = known.embeddings if isinstance(known, Samples) else None if known is None else known.shift
        for features in parts:
            if size is not None and features.image_size != size:
                raise InputError(
                    f"images of {_pixels(features.image_size)} after the transform cannot join those of "
                    f"{_pixels(size)}: one detector needs one size; set an exact resize, or a crop"
                )
            if features.views != looks.count:
                raise InputError(
                    f"features of {features.views} views of each image do not fit a detector of {looks.count}: "
                    "extract them by its extract_normal"
                )
            size = features.image_size
            check_sigma(self.sigma, size)
            like = self.to_keep(embedding.apply(features.of_views(range(passes))), like)
            accumulator.add(like)
            if keeps_others:
                aside.add(self.to_keep(embedding.apply(features.of_views(range(passes, looks.count))), like))
        if size is None:
            raise InputError("there are no images to fit on: expected at least one normal image")
        statistics = accumulator.result()
        if isinstance(statistics, Moments) and not self.takes_moments:
            raise InputError(
                f"{self.name} needs all normal embeddings, which fit neither the memory allowed nor the disk: allow "
                "more memory (--memory), free some disk, or fit on fewer images"
            )
        kept = aside.result() if keeps_others else None
        return self._set(statistics, embedding, size, kept.embeddings if isinstance(kept, Samples) else None)

    def to_keep(self, embeddings: PatchEmbeddings, like: PatchEmbeddings | None) -> PatchEmbeddings:
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
        self._model = None
        return self

    def _budget(self) -> int:
        return default_budget() if self.memory is None else self.memory

    @property
    def model_(self) -> Model:
        """The model, made when first wanted after a fit."""
        if self._model is None:
            if self.statistics_ is None:
                raise InputError("the detector is not fitted: call fit with normal images first")
            with arrays_up_to(largest_array(self._budget())):
                self._model = self.fit_model(self.statistics_)
        return self._model

    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold from out-of-fold scores of the normal images that the detector was fitted on.

        See :func:`padim_zoo.detectors.calibration.calibrate`.
        """
        statistics = self.known_statistics("make a threshold")
        if not isinstance(statistics, Samples):
            raise InputError(
                "a threshold needs the samples, but there are only moments (or no fit): "
                "allow more memory, or fit on fewer images"
            )
        self.check_parameters()
        passes = self.views_of_fit().augmentation.passes
        self._require_other_views()
        with arrays_up_to(largest_array(self._budget())):
            self.calibration_ = calibrate(
                lambda images: self.fit_model(Samples(statistics.embeddings.images(rows_of(images, passes)))),
                lambda model, images: self.score_views(model, self._views_to_score(statistics.embeddings, images)),
                statistics.n // passes,
                false_alarm_rate=false_alarm_rate,
                folds=folds,
                seed=self.seed,
            )
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
        others = self._other_views.images(rows_of(images, count - 1))
        n = len(images)
        order = np.concatenate([np.arange(n)[:, None], n + np.arange(n * (count - 1)).reshape(n, -1)], 1)
        return PatchEmbeddings.concatenate([first, others]).images(order.ravel())

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
        predictions = [self.score_views(self.model_, embeddings) for embeddings in self._batches_to_score(images, roi)]
        return self.with_scale(Prediction.concatenate(predictions))

    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features, all channels, as :meth:`extract` or :meth:`extract_normal` gives them."""
        return self.score_views(self.model_, self._embedded(features))

    def _batches_to_score(self, images: Any, roi: Any) -> Iterator[PatchEmbeddings]:
        """Embeddings of about ``batch_size`` views at a time: features come in smaller parts, of far more channels."""
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
                f"an image of {_pixels(features.image_size)} after the transform cannot be scored by a detector fitted "
                f"on {_pixels(self.image_size_)}: use images of the same shape, or a crop"
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
            prediction = self._combined(prediction, views)
        if prediction.regions is not None:
            judged: np.ndarray = np.any(prediction.regions, axis=(1, 2))
            if not judged.all():
                raise InputError(
                    f"nothing of {(~judged).sum()} of {len(judged)} images is judged, the first at index "
                    f"{judged.argmin()}: no patch of their regions of interest was among those of the fit"
                )
        return prediction

    def _combined(self, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """One prediction of the predictions of all views; a view that shows nothing of what counts says nothing."""
        of_scores = prediction.scores.reshape(-1, len(views))
        scores = np.nanmean(of_scores, 1) if np.isnan(of_scores).any() else of_scores.mean(1)
        if prediction.maps is None:
            return Prediction(scores, None, prediction.threshold)
        of_views = torch.from_numpy(prediction.maps.reshape(-1, len(views), *prediction.maps.shape[1:]))
        regions = None
        if prediction.regions is not None:
            regions = torch.from_numpy(prediction.regions.reshape(-1, len(views), *prediction.regions.shape[1:]))
        return prediction_within(
            mean_of_views(of_views, views, regions),
            None if self.score_is_map_maximum else torch.from_numpy(scores),
            threshold=prediction.threshold,
            regions=None if regions is None else regions[:, 0],
        )

    def _features(self, images: Any, *, fitted: bool = False, fit: bool = False, roi: Any = None) -> Iterator[Features]:
        if fitted:
            self.model_  # noqa: B018  an unfitted detector says so before any image is read
        backbone = self.build_backbone()
        device = backbone.device
        size = self.batch_size if fitted else self._batch_within_budget(backbone)
        for batch, regions, looks in self._batches(images, size, fit=fit, roi=roi):
            height, width = int(batch.shape[2]), int(batch.shape[3])
            # All views of an image stay together; the backbone takes no more of them at once than it wants.
            images_at_once = (backbone.images_at_once(height, width) or size) // looks.count
            together = max(1, images_at_once) * looks.count
            for start in range(0, len(batch), together):
                views = slice(start, start + together)
                some = None if regions is None else regions[views]
                with torch.inference_mode():
                    maps = self.kept(backbone(batch[views].to(device).float().div_(255)), some)
                yield Features(tuple(layer.float().cpu() for layer in maps), (height, width), looks.count, some)

    def _batches(self, images: Any, size: int, *, fit: bool, roi: Any) -> Iterator[tuple[Tensor, Tensor | None, Looks]]:
        """Views of images, with the pixels that count; about ``size`` views at a time."""
        looks = self.views_of_fit() if fit else Looks(others=self.views_of_score()[1:])
        own = self.region_of_interest()
        region = own if roi is None else RegionOfInterest(roi)
        if own is not None and roi is not None and own.common:
            region = RegionOfInterest.both(own, RegionOfInterest(roi))
        for batch, regions in view_batches(images, self.transform, max(1, size // looks.count), looks, roi=region):
            yield batch, regions, looks

    def kept(self, maps: list[Tensor], regions: Tensor | None) -> list[Tensor]:
        """What features keep of the maps of a batch: everything, unless a detector needs less.

        Parameters
        ----------
        maps : list of Tensor (n, C, H_l, W_l)
        regions : Tensor (n, H, W), bool, or None
            The pixels that count.
        """
        return maps

    def _batch_within_budget(self, backbone: Backbone) -> int:
        """How many images of a fit pass through the backbone at once; a size that only the images tell is no limit."""
        size = self.crop or self.resize
        if size is None:
            return self.batch_size
        height, width = (size, size) if isinstance(size, int) else size
        positions = (math.ceil(height / stride) * math.ceil(width / stride) for stride in backbone.strides)
        numbers = sum(channels * count for channels, count in zip(backbone.channels, positions, strict=True))
        return max(1, min(self.batch_size, self._budget() // 2 // (4 * ACTIVATIONS * numbers)))

    # -- files -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        network = self.build_backbone().name
        return {"fitted": f"{self.name} ({network}) on {self.n_images_} normal images"}

    def parameters_for_file(self) -> dict[str, Any]:
        """The constructor's arguments as a file keeps them, names for objects."""
        backbone = self.build_backbone()
        return {
            **{n: value for n, value in self.get_params(deep=False).items() if n not in (*RUNTIME, "roi")},
            "backbone": backbone.name,
            "weights": Path(backbone.weights_source).name,
            "layers": list(backbone.layers),
            "precision": backbone.precision,
        }

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
            :data:`~padim_zoo.estimators.gaussian.HALF_ERROR`, measured and put down in the file; ``"float32"`` keeps
            them as they are. The dual form and features of normal images are never in 16 bit.

        Raises
        ------
        InputError
            If the file cannot be written, or the detector is not fitted or does not know its statistics.
        """
        write_detector(path, *self.contents(resumable=resumable, dtype=dtype))

    def contents(self, *, resumable: bool = False, dtype: str = "float16") -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Header and arrays of the file that :meth:`save` writes."""
        if dtype not in MODEL_DTYPES:
            raise InputError(f"dtype is {dtype!r}: expected {' or '.join(MODEL_DTYPES)}")
        self.model_  # noqa: B018  an unfitted detector says so
        backbone = self.build_backbone()
        with arrays_up_to(largest_array(self._budget())):
            arrays, own = self.model_arrays(resumable=resumable, half=dtype == "float16")
        arrays |= {f"backbone.{name}": array for name, array in backbone.state_in_use().items()}
        header: dict[str, Any] = {
            "detector": self.name,
            "parameters": self.parameters_for_file(),
            "weights_hash": backbone.weights_hash,
            "image_size": self.image_size_,
            "n_images": self.n_images_,
            "calibration": None,
            **own,
        }
        region = self.region_of_interest()
        if region is not None and region.mask is not None:
            header["roi"] = region.mask.shape
            arrays["roi"] = torch.from_numpy(np.packbits(region.mask))
        if self.calibration_ is not None:
            header["calibration"] = self.calibration_.to_dict()
            arrays["calibration.scores"] = torch.from_numpy(self.calibration_.scores)
        return header, arrays

    @classmethod
    def from_file(cls, file: DetectorFile, *, device: str = "auto", batch_size: int = 32) -> Self:
        """Rebuild a detector from a file that :meth:`save` wrote; see :func:`padim_zoo.detectors.load`."""
        header = file.header
        detector = cls(**header["parameters"], device=device, batch_size=batch_size)
        for name in ("resize", "crop", "layers"):
            value = getattr(detector, name)
            setattr(detector, name, tuple(value) if isinstance(value, list) else value)
        if "roi" in header:
            height, width = header["roi"]
            packed = file.arrays("roi")[""].numpy()
            detector.roi = np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)
        detector.check_parameters()
        weights = file.arrays("backbone.")
        name = header["parameters"]["backbone"]
        try:
            registry.backbones.entry(name)
        except InputError as error:
            raise InputError(f"{error}; if a plugin brought it, load that first (--plugin FILE)") from None
        made = registry.backbones.create(name, layers=detector.layers, weights=weights)
        detector.backbone_ = detector._placed(_checked(made))
        if made.weights_hash != header["weights_hash"]:
            raise InputError(
                f"{file.path} was fitted with weights {header['weights_hash']} of {made.name}, but holds "
                f"{made.weights_hash}: the file is damaged"
            )
        detector.image_size_ = (header["image_size"][0], header["image_size"][1])
        detector.n_images_ = header["n_images"]
        detector.restore(file)
        if header["calibration"] is not None:
            detector.calibration_ = Calibration(
                **header["calibration"], scores=file.arrays("calibration.")["scores"].numpy()
            )
        return detector


def numbered(prefix: str, embeddings: PatchEmbeddings) -> dict[str, Tensor]:
    """The layers of embeddings by number, as a file names them."""
    return {f"{prefix}.{number}": layer for number, layer in enumerate(embeddings.layers)}


def embeddings_of(
    layers: Mapping[str, Tensor],
    grids: Iterable[Iterable[int]],
    subset: Tensor | None = None,
    regions: Tensor | None = None,
) -> PatchEmbeddings:
    """Embeddings from the layers that a file holds by number, of some of the patches and pixels."""
    ordered = tuple(layers[str(number)] for number in range(len(layers)))
    sizes = tuple((height, width) for height, width in grids)
    grid = max(sizes, key=lambda grid: grid[0] * grid[1])
    return PatchEmbeddings(ordered, sizes, grid, None if subset is None else PatchSubset(grid, subset), regions)


def _checked(backbone: Any) -> Backbone:
    """What is registered or given as a backbone, if it is one."""
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"the backbone is a {type(backbone).__name__}: expected a padim_zoo.backbones.backbone.Backbone; wrap a "
            "network by Backbone(network, name=…, layers=…, strides=…, state=network.state_dict(), weights_source=…)"
        )
    return backbone


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels"
