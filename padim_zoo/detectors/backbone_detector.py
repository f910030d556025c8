"""What detectors on the features of a frozen backbone have in common: streaming fits, thresholds, model files.

A detector embeds the features of each image, keeps the statistics of the normal ones, makes a model of these, and
scores other embeddings by the model. PaDiM and its relatives differ in these steps alone.
"""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.moving import HOST, moved, supports_devices
from padim_zoo.core.numbers import number_of
from padim_zoo.core.parallel import DEVICE_BLOCK_BYTES
from padim_zoo.core.spill import spill_above
from padim_zoo.core.whole_float32 import whole_float32
from padim_zoo.data.image_groups import ImageGroups
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.config import CALIBRATION_FOLDS, BackboneConfig, check_map_values, check_sigma, check_text
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.feature_extractor import FeatureExtractor
from padim_zoo.detectors.fitting import accumulate, add_images, fit_images
from padim_zoo.detectors.forgetting import find_learned, forget_images
from padim_zoo.detectors.layer_names import check_names
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.map_score import MapScore
from padim_zoo.detectors.model_cost import ModelCost
from padim_zoo.detectors.model_file import detector_from, to_state
from padim_zoo.detectors.out_of_fold import out_of_fold
from padim_zoo.detectors.p_value_maps import calibration_in_p_values
from padim_zoo.detectors.pose_evidence import joined_by_poses
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.reset import OF_BACKBONE, reset_fit
from padim_zoo.detectors.scikit_learn import normal_images
from padim_zoo.detectors.scoring import model_to_score, predict_images, score_part
from padim_zoo.detectors.storage import DetectorFile, write_detector
from padim_zoo.features.features import Features, rows_of
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.features.tiles import TileLayout
from padim_zoo.statistics.accumulator import largest_array
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from typing_extensions import Self

Model = TypeVar("Model")


class BackboneDetector(Detector, BackboneConfig, Generic[Model]):
    """A detector on the features of a frozen backbone.

    Subclasses say how an image is embedded (:meth:`embed`), how a model is made of the normal embeddings
    (:meth:`fit_model`), how others are scored by it (:meth:`score_embeddings`), and how it is written
    (:meth:`model_arrays`, :meth:`restore`). They inherit their constructor from a dataclass of parameters: ``class
    PaDiM(BackboneDetector, PaDiMConfig)``. Detectors that blur a map take
    :class:`~padim_zoo.detectors.config.MapConfig`, which has ``sigma``.

    Attributes
    ----------
    statistics_ : Samples, Moments or None
        Those of the normal images; None in a detector that was loaded, until they are wanted.
    model_
        What was made of them.
    learned_images_ : LearnedImages
        What is known of the normal images; :attr:`n_images_` is their number.
    image_size_ : tuple of int
        Height and width of the transformed images and of anomaly maps, in pixels.
    fitted_in : str or None
        The precision of the fit, of a detector that was loaded.
    fitted_by : str or None
        The runtimes of the fit, joined by ``+``; None before it.
    region_per_image : bool
        Whether a loaded detector was fitted with a region of interest for each image, in a folder.
    several_sizes : bool
        Whether the images of the fit differ in size, and lie on a canvas of ``image_size_``.
    """

    extractor_type: ClassVar[type[FeatureExtractor]] = FeatureExtractor
    """What turns images into features."""
    supports_moments: ClassVar[bool] = False
    """Whether a model can be made of moments, where neither memory nor disk has room for all samples."""
    files_hold_samples: ClassVar[bool] = True
    """Whether a resumable file may hold samples; it holds moments alone otherwise."""
    scoring: ClassVar[frozenset[str]] = frozenset({"sigma"})
    """Parameters on which scores depend, but nothing that was fitted."""
    modeling: ClassVar[frozenset[str]] = frozenset()
    """Parameters on which the model depends, but not the statistics of the normal images."""
    supports_tiles: ClassVar[bool] = False
    """Whether it takes the mosaics of images in tiles, see :mod:`padim_zoo.features.tiles`."""
    supports_sizes: ClassVar[bool] = False
    """Whether positions play no part, so that images may differ in size."""
    supports_devices: ClassVar[bool] = False
    """Whether it embeds and scores features on any device, by a model that may be there (``movable``)."""
    cost: ClassVar[ModelCost] = ModelCost()
    """What the model adds to the cost of a fit."""
    not_in_file: ClassVar[str] = ""
    """Of a detector whose model files hold no statistics: what they hold instead, and what to do."""

    image_size_: tuple[int, int]
    statistics_: Samples | Moments | None = None
    fitted_in: str | None = None
    fitted_by: str | None = None
    region_per_image: bool = False
    several_sizes: bool = False
    _extractor: FeatureExtractor | None = None
    made_model: Model | None = None
    other_views: PatchEmbeddings | None = None

    # -- what a subclass says ----------------------------------------------------------------------------------------

    @abstractmethod
    def embed(self, features: Features) -> PatchEmbeddings:
        """The embeddings of images, each whatever the others are."""

    @abstractmethod
    def fit_model(self, statistics: Samples | Moments) -> Model:
        """A model of the normal images."""

    def fits_on_device(self, statistics: Samples | Moments) -> bool:
        """Whether :meth:`fit_model` takes these on any device; here it does not."""
        return False

    @abstractmethod
    def score_embeddings(self, model: Model, embeddings: PatchEmbeddings) -> Prediction:
        """Scores of images by a model."""

    @abstractmethod
    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and JSON that :meth:`restore` makes the model of."""

    @abstractmethod
    def restore(self, file: DetectorFile) -> Model:
        """The model that :meth:`model_arrays` gave; sets whatever else the file holds of the fit."""

    def draw(self) -> None:
        """Draw what a new fit needs, by the seed; here nothing."""

    def embed_apart(self, features: Features) -> PatchEmbeddings:
        """The embeddings of images; where these lie on a canvas, each is embedded alone."""
        if features.sizes is None:
            return self.embed(features)
        grid = self.embed(features.images(slice(0, 1))).grid
        parts = (self.embed(one).on_canvas(one.image_size, features.image_size, grid) for one in features.apart())
        return PatchEmbeddings.concatenate(list(parts))

    def select_patches(self, embeddings: PatchEmbeddings, like: PatchEmbeddings | None) -> PatchEmbeddings:
        """What is kept of the embeddings of normal images: all, unless a detector needs less.

        Parameters
        ----------
        embeddings : PatchEmbeddings
        like : PatchEmbeddings or None
            What is kept of others already, if any.
        """
        return embeddings

    def fold_models(self, samples: Samples, rests: Sequence[np.ndarray]) -> Iterator[Model]:
        """A model of each of some parts of the samples, by their rows: of a fold, all images but its own."""
        for rest in rests:
            yield self.fit_model(Samples(samples.embeddings.images(rest)))

    def models_without_each(self, samples: Samples, passes: int) -> Iterator[Model]:
        """A model of all images but one, for each in turn; an image is so many rows of the samples."""
        images = np.arange(samples.n // passes)
        for image in images.tolist():
            rest = rows_of(np.delete(images, image), passes)
            yield self.fit_model(Samples(samples.embeddings.images(rest)))

    def moments_of(self, samples: Samples, reference: PatchEmbeddings) -> Moments:
        """What moments the detector makes of samples, about a point."""
        return Moments.of(samples.embeddings, reference)

    def require_statistics(self, purpose: str) -> Samples | Moments | None:
        """The statistics of the normal images, or None before the first fit.

        Raises
        ------
        InputError
            If the detector was loaded from a file without them.
        """
        if self.not_in_file and self.statistics_ is None and self.made_model is not None:
            raise InputError(f"cannot {purpose}: the model file {self.not_in_file}")
        return self.statistics_

    @property
    def drawn_views(self) -> tuple[str, ...]:
        """What :attr:`draws` says of augmentation."""
        return ("augmented views",) if self.augment is not None else ()

    # -- parameters --------------------------------------------------------------------------------------------------

    @property
    def extractor(self) -> FeatureExtractor:
        """Images to features, by the parameters as they are now."""
        if self._extractor is None:
            self._extractor = self.extractor_type(self.config)
        self._extractor.config = self.config
        self._extractor.grid = self.image_size_ if self.__sklearn_is_fitted__() else None
        self._extractor.takes_sizes = self.takes_sizes
        self._extractor.one_size_options = self.one_size_options if self.supports_sizes else ()
        if not self.takes_sizes:
            self._extractor.canvas = None
        return self._extractor

    @property
    def takes_sizes(self) -> bool:
        """Whether images may differ in size: in no resize, no views, tiles or p-values by their place."""
        as_it_is = self.resize is None and self.crop is None
        return self.supports_sizes and as_it_is and not self.one_size_options

    @property
    def one_size_options(self) -> tuple[str, ...]:
        """The options given that go by places, so that images must not differ in size."""
        by_place = {"--tta": self.tta, "--tiles": self.tiles, "--map-values": self.values_of_maps}
        return tuple(option for option, value in by_place.items() if value is not None)

    def on_grid(self, images: Any, *, anew: bool = False) -> tuple[FeatureExtractor, Any]:
        """The extractor on the grid of the fit, or on that of these images, and the images."""
        extractor = self.extractor
        if anew or extractor.grid is None:
            return extractor.on_grid_of(images)
        return extractor.on_canvas_of(images, of_fit=self.image_size_), images

    @classmethod
    def layers_wanted(cls, backbone: str) -> tuple[str, ...] | None:
        """Layers of a registered backbone that are used when none are named; None for its default ones."""
        return cls.extractor_type.layers_wanted(backbone)

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read.

        Raises
        ------
        InputError
            Naming the parameter, what was found and what was expected.
        """
        check_names(self.layers)
        check_text("weights", self.weights, Path, Mapping)
        check_text("device", self.device, torch.device)
        check_text("precision", self.precision)
        self.extractor.check_parameters()
        if self.tiles is not None and not self.supports_tiles:
            raise InputError(f"tiles is {self.tiles!r}, but {self.name} takes whole images: leave it out")
        self.check_blur()
        self.map_score  # noqa: B018  checks score
        check_map_values(self.values_of_maps)

    def check_blur(self, image_size: tuple[int, int] | None = None) -> None:
        """Refuse a blur that is too wide, for maps of a size where that is known."""
        check_sigma(getattr(self, "sigma", 0), image_size)

    @property
    def tile_layout(self) -> TileLayout | None:
        """The tiles of the images of the fit; None where each image is one."""
        return self.extractor.tile_layout(self.image_size_)

    @property
    def map_score(self) -> MapScore | None:
        """How images are scored by their maps, where ``score`` says it."""
        rule = getattr(self, "score", None)
        return None if rule is None else MapScore.parse(rule)

    @property
    def values_of_maps(self) -> str | None:
        """What the pixels of maps are, where ``map_values`` says it."""
        return getattr(self, "map_values", None)

    @property
    def threshold_serves_maps(self) -> bool:
        """Whether scores are the maxima of maps: by the detector's paper, or as ``score`` says."""
        rule = self.map_score
        return self.score_is_map_maximum if rule is None else rule.share is None

    def build_backbone(self) -> Backbone:
        """The backbone, made at first use; see :meth:`FeatureExtractor.build_backbone`."""
        self.check_parameters()
        return self.extractor.build_backbone()

    @property
    def backbone_(self) -> Backbone | None:
        """The backbone, if it has been made."""
        return self.extractor.in_use.backbone

    def with_backbone(self, backbone: Backbone) -> Self:
        """A copy that scores by another form of the same backbone."""
        other = copy.copy(self)
        other._extractor = self.extractor_type(self.config)
        other._extractor.facts, in_use = self.extractor.facts, other._extractor.in_use
        in_use.backbone, in_use.adapted_to = backbone, self.extractor.in_use.adapted_to
        return other

    def reset_fit(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed: the backbone in a file too."""
        reset_fit(self, changed)
        if OF_BACKBONE & set(changed):
            self._extractor = None

    # -- features ----------------------------------------------------------------------------------------------------

    @property
    def transform(self) -> Transform:
        """What happens to an image before the backbone."""
        return self.extractor.transform

    @property
    def features_key(self) -> str:
        """Backbone, weights, precision, layers, transform and views; nothing that is drawn or chosen afterwards."""
        self.check_parameters()
        return self.extractor.features_key()

    def cache_key(self, *, fit: bool) -> str | None:
        """What :attr:`features_key` tells apart, and the device and the code of the network."""
        return self.extractor.cache_key(fit=fit)

    @property
    def precision_(self) -> str:
        """Type in which the features of the fit were computed; before a fit, and usually, that of the backbone."""
        return self.fitted_in or self.build_backbone().precision

    @property
    def runtime_(self) -> str:
        """What ran the backbone in the fit; before a fit, what runs it now."""
        return self.fitted_by or self.build_backbone().runtime

    @property
    def canvas(self) -> tuple[int, int] | None:  # type: ignore[override]
        """Height and width of maps of images of several sizes; None where all have one size."""
        return self.extractor.canvas

    def make_room(self, paths: Sequence[Path]) -> None:
        """Say which images will be fitted on or scored, where these may differ in size."""
        self.extractor.canvas = None
        self.extractor.canvas = self.extractor.on_canvas_of(list(paths)).canvas

    def expect(self, images: int, at_once: int | None = None) -> None:
        """Say how many images will come: where the runtime is ``"auto"``, that decides it.

        Parameters
        ----------
        images : int
        at_once : int, optional
            How many come in one call: 1 where they are scored one by one. By default ``batch_size`` of them pass
            through the backbone.
        """
        self.extractor.expect(images, at_once)

    def extract(self, images: Any, *, roi: Any = None) -> Features:
        """Features of ``images``, in all views by which they are scored; ``roi`` is as of :meth:`predict`."""
        self.check_parameters()
        extractor, images = self.on_grid(images)
        return extractor.extract(images, roi=roi)

    def look_at(self, images: Any) -> None:
        """Find out the bit depth of the normal images, unless it is known."""
        if self.extractor.facts.bit_depth is None:
            self.check_parameters()
            self.extractor.look_at(images)

    def extract_normal(self, images: Any) -> Features:
        """The same of normal images, in all views of a fit and for scoring, on the grid of a fit on them."""
        self.look_at(images)
        self.check_parameters()
        extractor, images = self.prepare(*self.on_grid(images, anew=True))
        return extractor.extract(images, fit=True)

    def prepare(self, extractor: FeatureExtractor, images: Any) -> tuple[FeatureExtractor, Any]:
        """Find out of the normal images of a fit what takes their pixels; here nothing.

        The images that are given back are gone through next. What is found has to be known to :attr:`extractor` too.
        """
        return extractor, images

    # -- fit ---------------------------------------------------------------------------------------------------------

    def fit(self, images: Any, y: Any = None, *, whole: Sequence[Path] | None = None) -> Self:
        """Fit on normal images, forgetting any earlier fit; the embeddings are all that is kept in memory.

        Labels ``y`` are those of :meth:`Detector.fit`.

        Parameters
        ----------
        whole : sequence of Path, optional
            All normal images, if these are a part of them: grid and bit depth are those of a fit on all.
        """
        fit_images(self, normal_images(images, y), whole)
        return self

    def fit_features(self, features: Features) -> Self:
        """Fit on the features of normal images, as :meth:`extract_normal` gives them, forgetting any earlier fit."""
        self.check_parameters()
        self.add_features(features.in_parts(largest_array(self.extractor.budget)), None)
        return self

    def partial_fit(self, images: Any, *, groups: ImageGroups | np.ndarray | None = None) -> Self:
        """Fit on more normal images beside those seen so far; any order of batches gives the same detector.

        Where no crop and no exact resize is given, the first batch decides the grid. Images that are known by their
        pixels are passed over, with a warning. Where all are, nothing changes.

        Parameters
        ----------
        images
            As :meth:`fit` takes them.
        groups : ndarray (n,), int, or ImageGroups, optional
            Equal for images that show one thing, as of :meth:`calibrate`. Those of earlier images stay as they are.

        Raises
        ------
        InputError
            If there are no images, or their size differs from those seen so far, or the detector was loaded from a
            file that does not hold their statistics. The detector is then as it was.
        """
        add_images(self, normal_images(images), groups)
        return self

    def forget(self, images: Any) -> Self:
        """Become the detector that was never fitted on some of its images; its caches forget these files too.

        Images are known by their pixels, and copies of one go together. The grid, the bit depth and what was drawn
        stay. The threshold goes: :meth:`calibrate` makes another, where samples are kept.

        Parameters
        ----------
        images
            As :meth:`fit` takes them.

        Raises
        ------
        InputError
            If the detector does not know its images or their statistics, or has not learned one of these, or would
            keep none. The detector is then as it was.
        """
        found = find_learned(self, images)
        forget_images(self, found)
        Caches.of(self.cache).forget(found.paths)
        return self

    def earlier_fit(self) -> Any:
        """What a fit on more images goes on from: the statistics so far, or None before the first fit.

        Raises
        ------
        InputError
            If the detector was loaded from a file that does not hold them.
        """
        return self.require_statistics("continue a fit")

    def add_features(self, parts: Iterable[Features], earlier: Any) -> None:
        """Add the features of normal images to an earlier fit, or to none; one that fails leaves all as it was."""
        accumulate(self, parts, earlier)

    def set_statistics(
        self, statistics: Samples | Moments, learned: LearnedImages, other_views: PatchEmbeddings | None = None
    ) -> None:
        """Become the detector of these statistics; the model is made of them when it is wanted.

        Parameters
        ----------
        statistics : Samples or Moments
        learned : LearnedImages
            The images that they are of.
        other_views : PatchEmbeddings, optional
            The same images in the views for scoring beyond the first.
        """
        self.statistics_, self.learned_images_, self.other_views = statistics, learned, other_views
        self.made_model = self.calibration_ = None

    @property
    def n_images_(self) -> int:
        """The number of normal images; 0 where it is not known."""
        return self.learned_images_.n

    @property
    def model_(self) -> Model:
        """The model, made when first wanted after a fit."""
        if self.made_model is None:
            if self.statistics_ is None:
                raise InputError("the detector is not fitted: call fit with normal images first")
            with spill_above(largest_array(self.extractor.budget)):
                self.made_model = self._fit_where_it_computes(self.statistics_)
        return self.made_model

    def _fit_where_it_computes(self, statistics: Samples | Moments) -> Model:
        """The model in main memory, and its copy on the device of the backbone, where it is fitted if it fits there."""
        device = self.computing_device
        if device == HOST or not self.fits_on_device(statistics):
            return self.fit_model(statistics)
        try:
            with whole_float32():
                on_device = self.fit_model(moved(statistics, device))
        except torch.cuda.OutOfMemoryError:
            return self.fit_model(statistics)
        model = moved(on_device, HOST)
        self.extractor.in_use.keep(model, on_device)
        return model

    @property
    def computing_device(self) -> torch.device:
        """Where images are embedded and scored: on the GPU of the backbone, if the detector can, else in main memory.

        Other devices than CUDA may have no float64, which Gaussians are fitted in.
        """
        device = self.extractor.build_backbone().device if supports_devices(self) else HOST
        return device if device.type == "cuda" else HOST

    def __sklearn_is_fitted__(self) -> bool:
        return self.made_model is not None or self.statistics_ is not None

    # -- threshold ---------------------------------------------------------------------------------------------------

    def calibrate(
        self, *, false_alarm_rate: float | None = None, folds: int = CALIBRATION_FOLDS, groups: np.ndarray | None = None
    ) -> Calibration:
        """Set the threshold from out-of-fold scores of the normal images, as of every detector.

        By default groups are those of the calibration before, and of images that were added to it. Equal images are a
        group by themselves.
        """
        return self.set_calibration(out_of_fold(self, false_alarm_rate, folds, groups))

    def set_calibration(self, calibration: Calibration) -> Calibration:
        """Make it the detector's own, and say where its threshold may not keep its promise.

        Its maps are of scores; where the detector's are of p-values, so is what it keeps.
        """
        if self.values_of_maps is not None:
            calibration = calibration_in_p_values(self, calibration)
        else:
            calibration = joined_by_poses(calibration)
        self.calibration_ = calibration.changed(adapted=self.learned_images_.adapted)
        if self.calibration_.caveat is not None:
            warnings.warn(self.calibration_.caveat, stacklevel=3)
        return self.calibration_

    # -- predict -----------------------------------------------------------------------------------------------------

    @property
    def images_at_once(self) -> int:
        """Images that are in work together: ``batch_size``, or fewer where they are large or memory is short."""
        return self.extractor.batch_within_budget(None)

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
        return predict_images(self, images, roi)

    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features, all channels, as :meth:`extract` or :meth:`extract_normal` gives them."""
        model, device = model_to_score(self)
        within = largest_array(self.extractor.budget)
        parts = features.in_parts(within if device == HOST else min(within, DEVICE_BLOCK_BYTES))
        scored = (score_part(self, model, part.to(device)) for part in parts)
        return self.with_scale(Prediction.gather(scored, len(features)))

    def with_evidence(self, prediction: Prediction) -> Prediction:
        """The prediction, and what else than embeddings says of the images; here nothing does."""
        return prediction

    @property
    def scores_need_calibration(self) -> bool:
        """Whether scores say more after :meth:`calibrate`, which is possible."""
        return self.values_of_maps is not None

    # -- state -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        network = self.build_backbone().name
        fitted = f"{self.name} ({network}) on {number_of(self.n_images_, 'normal image')}, in {self.precision_}"
        return {"fitted": fitted, **self.extractor.describe_images()}

    def size_in_bytes(self) -> int:
        """Size of the fitted arrays as :meth:`save` writes them, without the backbone's weights."""
        arrays, _ = self.model_arrays(resumable=False, half=False)
        return sum(array.numel() * array.element_size() for array in arrays.values())

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
            them as they are. Samples, the dual form and features of normal images are never in 16 bit.

        Raises
        ------
        InputError
            If the file cannot be written, or the detector is not fitted or does not know its statistics.
        """
        write_detector(path, *self.to_state(resumable=resumable, dtype=dtype))

    def to_state(self, *, resumable: bool = False, dtype: str = "float16") -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Header and arrays of the file that :meth:`save` writes."""
        return to_state(self, resumable=resumable, dtype=dtype)

    @classmethod
    def from_file(
        cls, file: DetectorFile, *, device: str = BackboneConfig.device, batch_size: int = BackboneConfig.batch_size
    ) -> Self:
        """Rebuild a detector from a file that :meth:`save` wrote; see :func:`padim_zoo.load`."""
        return detector_from(cls, file, device=device, batch_size=batch_size)
