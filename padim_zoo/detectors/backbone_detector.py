"""What detectors on the features of a frozen backbone have in common: streaming fits, thresholds, model files.

A detector embeds the features of each image (:class:`Embedding`), keeps what is known of the normal ones, makes a model
of that, and scores other embeddings by the model. PaDiM and its relatives differ in these steps alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.arrays import arrays_up_to
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import resolve_device, resolve_precision
from padim_zoo.data.loading import batches
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import Calibration, calibrate
from padim_zoo.detectors.detector import Detector, Prediction
from padim_zoo.detectors.parameters import LARGEST_SEED, check_sigma, check_whole_number
from padim_zoo.detectors.storage import DetectorFile, write_detector
from padim_zoo.embedding import PatchEmbeddings
from padim_zoo.errors import InputError
from padim_zoo.estimators.accumulation import Accumulator, default_budget, largest_array
from padim_zoo.estimators.statistics import Moments, Samples
from padim_zoo.features import Features

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
        backbone: str | Backbone,
        *,
        weights: str,
        layers: tuple[str, ...] | list[str] | None,
        seed: int,
        resize: Size,
        crop: Size,
        sigma: float,
        batch_size: int,
        memory: int | None,
        device: str,
        precision: str,
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
        self.backbone_: Backbone | None = None
        self.statistics_: Samples | Moments | None = None
        self.calibration_: Calibration | None = None
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
        """Backbone, weights, precision, layers and transform; nothing that is drawn or chosen afterwards."""
        backbone = self.build_backbone()
        layers = ",".join(backbone.layers)
        return f"{backbone.name} {backbone.weights_hash} {backbone.precision} {layers} {self.transform.to_dict()}"

    @property
    def cache_key(self) -> str | None:
        """What :attr:`features_key` tells apart, and the device and the code of the network."""
        backbone = self.build_backbone()
        return f"{self.features_key} {resolve_device(self.device).type} {backbone.response}"

    # -- fit ---------------------------------------------------------------------------------------------------------

    def extract(self, images: Any) -> Features:
        """All channels of the feature maps of ``images``."""
        parts = list(self._features(images))
        if not parts:
            raise InputError("there are no images: expected at least one")
        return Features.concatenate(parts)

    def fit(self, images: Any) -> Self:
        """Fit on normal images, forgetting any earlier fit; the embeddings are all that is kept in memory."""
        return self._add(self._features(images), None)

    def fit_features(self, features: Features) -> Self:
        """Fit on the features of normal images, forgetting any earlier fit."""
        return self._add([features], None)

    def partial_fit(self, images: Any) -> Self:
        """Fit on more normal images beside those seen so far; any order of batches gives the same detector.

        Raises
        ------
        InputError
            If there are no images, or their size differs from those seen so far, or the detector was loaded from a
            file that does not hold what is known of them. The detector is then as it was.
        """
        return self._add(self._features(images), self.known_statistics("continue a fit"))

    def _add(self, parts: Iterable[Features], known: Samples | Moments | None) -> Self:
        embedding = self.draw_embedding() if known is None else self.embedding_
        size = None if known is None else self.image_size_
        accumulator = Accumulator(known, self._budget())
        for features in parts:
            if size is not None and features.image_size != size:
                raise InputError(
                    f"images of {_pixels(features.image_size)} after the transform cannot join those of "
                    f"{_pixels(size)}: one detector needs one size; set an exact resize, or a crop"
                )
            size = features.image_size
            check_sigma(self.sigma, size)
            accumulator.add(embedding.apply(features))
        if size is None:
            raise InputError("there are no images to fit on: expected at least one normal image")
        statistics = accumulator.result()
        if isinstance(statistics, Moments) and not self.takes_moments:
            raise InputError(
                f"{self.name} needs all normal embeddings, which fit neither the memory allowed nor the disk: allow "
                "more memory (--memory), free some disk, or fit on fewer images"
            )
        return self._set(statistics, embedding, size)

    def _set(self, statistics: Samples | Moments, embedding: Embedding, image_size: tuple[int, int]) -> Self:
        self.statistics_, self.embedding_, self.image_size_ = statistics, embedding, image_size
        self.n_images_ = statistics.n
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
        with arrays_up_to(largest_array(self._budget())):
            self.calibration_ = calibrate(
                lambda rest: self.fit_model(Samples(rest)),
                self.score,
                statistics.embeddings,
                false_alarm_rate=false_alarm_rate,
                folds=folds,
                seed=self.seed,
            )
        return self.calibration_

    # -- predict -----------------------------------------------------------------------------------------------------

    def predict(self, images: Any) -> Prediction:
        """Score images, batch by batch.

        Raises
        ------
        InputError
            If there are no images, or their size after the transform is not that of the fit.
        """
        predictions = [self.predict_features(part) for part in self._features(images, fitted=True)]
        if not predictions:
            raise InputError("there are no images to score: expected at least one")
        maps = [part.maps for part in predictions if part.maps is not None]
        return Prediction(
            np.concatenate([part.scores for part in predictions]),
            np.concatenate(maps) if maps else None,
            self.threshold_,
        )

    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features, all channels."""
        model = self.model_
        if features.image_size != self.image_size_:
            raise InputError(
                f"an image of {_pixels(features.image_size)} after the transform cannot be scored by a detector fitted "
                f"on {_pixels(self.image_size_)}: use images of the same shape, or a crop"
            )
        check_sigma(self.sigma, self.image_size_)
        return self.score(model, self.embedding_.apply(features))

    def _features(self, images: Any, fitted: bool = False) -> Iterator[Features]:
        if fitted:
            self.model_  # noqa: B018  an unfitted detector says so before any image is read
        backbone = self.build_backbone()
        device = backbone.device
        size = self.batch_size if fitted else self._batch_within_budget(backbone)
        for batch in batches(images, self.transform, size):
            with torch.inference_mode():
                maps = self.kept(backbone(batch.to(device).float().div_(255)))
            yield Features(tuple(layer.float().cpu() for layer in maps), (int(batch.shape[2]), int(batch.shape[3])))

    def kept(self, maps: list[Tensor]) -> list[Tensor]:
        """What features keep of the maps of a batch: everything, unless a detector needs less."""
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
            **{name: value for name, value in self.get_params().items() if name not in RUNTIME},
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


def embeddings_of(layers: Mapping[str, Tensor], grids: Iterable[Iterable[int]]) -> PatchEmbeddings:
    """Embeddings from the layers that a file holds by number."""
    ordered = tuple(layers[str(number)] for number in range(len(layers)))
    sizes = tuple((height, width) for height, width in grids)
    return PatchEmbeddings(ordered, sizes, max(sizes, key=lambda grid: grid[0] * grid[1]))


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
