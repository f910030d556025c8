"""PaDiM: a Gaussian of normal patch embeddings at every position (Defard et al. 2020, arXiv 2011.08785)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.anomaly_map import anomaly_maps
from padim_zoo.arrays import arrays_up_to
from padim_zoo.backbones.backbone import Backbone, hash_of
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
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.estimators.gaussian import FORMS, DualGaussian, Gaussian
from padim_zoo.estimators.statistics import Moments, Samples
from padim_zoo.features import Features
from padim_zoo.reduction import REDUCTIONS, Reduction, draw_reduction
from padim_zoo.registry import detectors

if TYPE_CHECKING:
    from typing_extensions import Self

    Size = int | tuple[int, int] | None


RUNTIME = ("device", "batch_size", "memory")
"""Parameters that change how fast a detector works, not what it finds: a saved model leaves them open."""

MODEL_DTYPES = ("float16", "float32")
"""Types that the factors of Gaussians can have in a file."""

ACTIVATIONS = 6
"""How many times its feature maps a backbone is taken to have in memory: a guess, on the safe side for resnets."""

_BACKBONE = {"backbone", "weights", "layers", "device", "precision"}
_SCORING = {"estimator", "sigma"}


@detectors.register("padim", source="padim_zoo", summary="One Gaussian per patch position (arXiv 2011.08785)")
class PaDiM(Detector):
    """Patch Distribution Modeling.

    A frozen backbone turns an image into a grid of patch embeddings: some channels, drawn at random, of several layers.
    One Gaussian per grid position models the normal embeddings; the Mahalanobis distance to it, upsampled and blurred,
    is the anomaly map, and its maximum is the score of the image.

    Parameters
    ----------
    backbone : str or Backbone
        A registered name (``padim-zoo list backbones``) or a :class:`~padim_zoo.backbones.backbone.Backbone`, which
        wraps any network.
    estimator : str or Estimator
        A registered name, with arguments if wanted (``"shrinkage(0.2)"``), or an estimator.
    weights : str
        ``"default"``, ``"none"`` (random, seeded) or the path of a weights file. Ignored when ``backbone`` is no name.
    layers : sequence of str, optional
        Layers of the backbone; its first three stages by default.
    dims : int, optional
        Channels drawn from all layers together; the backbone's default otherwise (100 for resnet18, 550 for
        wide_resnet50_2), or all channels where there are fewer.
    reduce : str, optional
        ``"leading"`` for the first channels of each layer, ``"random"`` for a draw, ``"orthogonal"`` for a projection
        to a random subspace; by default leading ones where the backbone orders its channels, else a draw.
    seed : int
        Seed of that draw, and of the cut into folds; 0 to 2³² - 1.
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
        that are mapped, in the cache folder, and that vanish with the process. Where no disk has room, images are
        folded into moments, from which no threshold can be made. Fewer than ``batch_size`` images pass through the
        backbone at once when their activations would take more than half of it.
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` …, for the backbone.
    precision : str
        Type that the backbone computes in: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for bfloat16 where the device
        has it in hardware; see :func:`~padim_zoo.backbones.device.resolve_precision`.

    Attributes
    ----------
    backbone_ : Backbone
    reduction_ : Reduction
        What was drawn.
    statistics_ : Samples, Moments or None
        What is known of the normal images; None in a detector that was loaded, until it is wanted.
    gaussian_ : Gaussian
    n_images_ : int
    image_size_ : tuple of int
        Height and width of the transformed images and of anomaly maps, in pixels.
    calibration_ : Calibration or None
        Threshold and what it was made from; None until :meth:`calibrate`.
    """

    def __init__(
        self,
        backbone: str | Backbone = "builtin",
        estimator: str | Estimator = "full",
        *,
        weights: str = "default",
        layers: tuple[str, ...] | list[str] | None = None,
        dims: int | None = None,
        reduce: str | None = None,
        seed: int = 0,
        resize: Size = 256,
        crop: Size = 224,
        sigma: float = 4.0,
        batch_size: int = 32,
        memory: int | None = None,
        device: str = "auto",
        precision: str = "float32",
    ) -> None:
        self.backbone = backbone
        self.estimator = estimator
        self.weights = weights
        self.layers = layers
        self.dims = dims
        self.reduce = reduce
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
        self._gaussian: Gaussian | None = None

    # -- what the parameters stand for -------------------------------------------------------------------------------

    def forget(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed.

        ``batch_size`` and ``memory`` leave everything as it is; ``sigma`` drops the threshold, and ``estimator`` the
        Gaussians too, which are estimated anew from the statistics of the images. All others drop the fit, and those
        of the backbone also the backbone; of a detector that was loaded, that is the one in the file.
        """
        changed = set(changed) - {"batch_size", "memory"}
        if changed:
            self.calibration_ = None
        if "estimator" in changed:
            if isinstance(self._gaussian, DualGaussian):
                self._known_statistics("estimate anew")
            self._gaussian = None
        if changed - _SCORING:
            self._gaussian = self.statistics_ = None
        if changed & _BACKBONE:
            self.backbone_ = None

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
        for name, value in (("dims", self.dims), ("memory", self.memory)):
            if value is not None:
                check_whole_number(name, value, 1)
        check_sigma(self.sigma)
        if self.reduce is not None and self.reduce not in tuple(REDUCTIONS):
            raise InputError(f"reduce is {self.reduce!r}: expected {', '.join(REDUCTIONS)}")
        if isinstance(self.layers, str):
            raise InputError(f"layers is {self.layers!r}: expected a sequence of names, e.g. ({self.layers!r},)")
        if not isinstance(self.estimator, (str, Estimator)):
            raise InputError(f"estimator is {self.estimator!r}: expected a registered name or an Estimator")
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
                made = registry.backbones.create(self.backbone, layers=self.layers, weights=self.weights)
            else:
                made = self.backbone
            self.backbone_ = self._placed(_checked(made))
        return self.backbone_

    def _placed(self, backbone: Backbone) -> Backbone:
        device = resolve_device(self.device)
        return backbone.to(device).eval().in_precision(resolve_precision(self.precision, device))

    def build_estimator(self) -> Estimator:
        """The estimator that ``estimator`` names."""
        return registry.estimators.create(self.estimator) if isinstance(self.estimator, str) else self.estimator

    @property
    def features_key(self) -> str:
        """Backbone, weights, precision, layers and transform; neither channels nor seed, which are drawn afterwards."""
        backbone = self.build_backbone()
        layers = ",".join(backbone.layers)
        return f"{backbone.name} {backbone.weights_hash} {backbone.precision} {layers} {self.transform.to_dict()}"

    @property
    def cache_key(self) -> str:
        """What :attr:`features_key` tells apart, and the device and the code of the network."""
        backbone = self.build_backbone()
        return f"{self.features_key} {resolve_device(self.device).type} {backbone.response}"

    def draw_reduction(self) -> Reduction:
        """The reduction that ``reduce``, ``dims`` and ``seed`` stand for."""
        backbone = self.build_backbone()
        dims = min(backbone.default_dims, sum(backbone.channels)) if self.dims is None else self.dims
        return draw_reduction(self.reduce or backbone.default_reduction, backbone.channels, dims, self.seed)

    # -- fit ---------------------------------------------------------------------------------------------------------

    def extract(self, images: Any) -> Features:
        """All channels of the feature maps of ``images``."""
        parts = list(self._features(images))
        if not parts:
            raise InputError("there are no images: expected at least one")
        return Features.concatenate(parts)

    def fit(self, images: Any) -> Self:
        """Fit on normal images, forgetting any earlier fit; the reduced embeddings are all that is kept in memory."""
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
        return self._add(self._features(images), self._known_statistics("continue a fit"))

    def merge(self, other: PaDiM) -> Self:
        """Take over what another detector knows, as if its images had been fitted on here.

        Parameters
        ----------
        other : PaDiM
            Fitted on other images with the same backbone, weights, transform and draw.

        Raises
        ------
        InputError
            If the detectors differ in more than their images, or either does not know its statistics.
        """
        mine, theirs = self._known_statistics("merge"), other._known_statistics("merge")
        if mine is None or theirs is None:
            raise InputError("only fitted detectors can be merged: call fit first")
        for what, ours, its in (
            ("backbone, weights or transform", self.features_key, other.features_key),
            ("reduction", _fingerprint(self.reduction_), _fingerprint(other.reduction_)),
            ("image size", self.image_size_, other.image_size_),
        ):
            if ours != its:
                raise InputError(f"the detectors differ in {what}: only images may differ in a merge")
        accumulator = Accumulator(mine, self._budget())
        if isinstance(theirs, Samples):
            accumulator.add(theirs.embeddings)
            return self._set(accumulator.result(), self.reduction_, self.image_size_)
        moments = mine if isinstance(mine, Moments) else Moments.of(mine.embeddings, theirs.shift)
        return self._set(moments + theirs, self.reduction_, self.image_size_)

    def _known_statistics(self, purpose: str) -> Samples | Moments | None:
        """The statistics, or None before the first fit."""
        if self.statistics_ is None and isinstance(self._gaussian, DualGaussian):
            self.statistics_ = Samples(self._gaussian.samples + self._gaussian.mean)
        if self.statistics_ is None and self._gaussian is not None:
            raise InputError(
                f"cannot {purpose}: the model file does not hold the statistics of its images; fit again, or save with "
                "resumable=True (padim-zoo fit --resumable) before the next time"
            )
        return self.statistics_

    def _add(self, parts: Iterable[Features], known: Samples | Moments | None) -> Self:
        reduction = self.draw_reduction() if known is None else self.reduction_
        size = None if known is None else self.image_size_
        self.build_estimator()  # an estimator that does not exist is refused before any image is read
        accumulator = Accumulator(known, self._budget())
        for features in parts:
            if size is not None and features.image_size != size:
                raise InputError(
                    f"images of {_pixels(features.image_size)} after the transform cannot join those of "
                    f"{_pixels(size)}: one detector needs one size; set an exact resize, or a crop"
                )
            size = features.image_size
            check_sigma(self.sigma, size)
            accumulator.add(reduction.apply(features))
        if size is None:
            raise InputError("there are no images to fit on: expected at least one normal image")
        return self._set(accumulator.result(), reduction, size)

    def _set(self, statistics: Samples | Moments, reduction: Reduction, image_size: tuple[int, int]) -> Self:
        self.statistics_, self.reduction_, self.image_size_ = statistics, reduction, image_size
        self.n_images_ = statistics.n
        self.calibration_ = None
        self._gaussian = None
        return self

    def _budget(self) -> int:
        return default_budget() if self.memory is None else self.memory

    @property
    def gaussian_(self) -> Gaussian:
        """The Gaussians, estimated when first wanted after a fit."""
        if self._gaussian is None:
            if self.statistics_ is None:
                raise InputError("the detector is not fitted: call fit with normal images first")
            with arrays_up_to(largest_array(self._budget())):
                self._gaussian = self.build_estimator().fit(self.statistics_)
        return self._gaussian

    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold from out-of-fold scores of the normal images that the detector was fitted on.

        See :func:`padim_zoo.detectors.calibration.calibrate`.
        """
        statistics = self._known_statistics("make a threshold")
        if not isinstance(statistics, Samples):
            raise InputError(
                "a threshold needs the samples, but there are only moments (or no fit): "
                "allow more memory, or fit on fewer images"
            )
        self.check_parameters()
        with arrays_up_to(largest_array(self._budget())):
            self.calibration_ = calibrate(
                self.build_estimator(),
                self._score,
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
        return Prediction(
            np.concatenate([part.scores for part in predictions]),
            np.concatenate([part.maps for part in predictions if part.maps is not None]),
            self.threshold_,
        )

    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features, all channels."""
        gaussian = self.gaussian_
        if features.image_size != self.image_size_:
            raise InputError(
                f"an image of {_pixels(features.image_size)} after the transform cannot be scored by a detector fitted "
                f"on {_pixels(self.image_size_)}: use images of the same shape, or a crop"
            )
        check_sigma(self.sigma, self.image_size_)
        return self._score(gaussian, self.reduction_.apply(features))

    def _score(self, gaussian: Gaussian, embeddings: PatchEmbeddings) -> Prediction:
        return self.predict_distances(gaussian.squared_distances(embeddings), embeddings.grid)

    def predict_distances(self, squared: Tensor, grid: tuple[int, int]) -> Prediction:
        """Score images by the squared distances (P, N) of the patches of a grid, by whatever Gaussians."""
        distances = squared.sqrt().T.reshape(-1, *grid)
        maps = anomaly_maps(distances, self.image_size_, self.sigma)
        return Prediction(maps.amax((1, 2)).numpy(), maps.numpy(), self.threshold_)

    def _features(self, images: Any, fitted: bool = False) -> Iterator[Features]:
        if fitted:
            self.gaussian_  # noqa: B018  an unfitted detector says so before any image is read
        backbone = self.build_backbone()
        device = backbone.device
        size = self.batch_size if fitted else self._batch_within_budget(backbone)
        for batch in batches(images, self.transform, size):
            with torch.inference_mode():
                maps = backbone(batch.to(device).float().div_(255))
            yield Features(tuple(layer.float().cpu() for layer in maps), (int(batch.shape[2]), int(batch.shape[3])))

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

    def size_in_bytes(self) -> int:
        """Size of the fitted arrays as :meth:`save` writes them, without the backbone's weights."""
        return self.gaussian_.size_in_bytes()

    def save(self, path: str | Path, *, resumable: bool = False, dtype: str = "float16") -> None:
        """Write all that is needed to score an image file, the backbone's weights included, as one safetensors file.

        Parameters and the calibration are JSON in the file's header.

        Parameters
        ----------
        path : str or Path
            The file; replaced whole or not at all.
        resumable : bool
            Add the moments of the normal images (8·P·D² bytes), so that :meth:`partial_fit` and :meth:`merge` go on
            after loading. A detector in the dual form, fitted on no more images than it has dimensions, holds its
            samples and is resumable without.
        dtype : str
            ``"float16"`` keeps the factors of Gaussians in 16 bit where that moves distances by less than
            :data:`~padim_zoo.estimators.gaussian.HALF_ERROR`, measured and put down in the file; ``"float32"`` keeps
            them as they are. The dual form is never in 16 bit.

        Raises
        ------
        InputError
            If the file cannot be written, or the detector is not fitted or does not know its statistics.
        """
        if dtype not in MODEL_DTYPES:
            raise InputError(f"dtype is {dtype!r}: expected {' or '.join(MODEL_DTYPES)}")
        half = dtype == "float16"
        gaussian, backbone = self.gaussian_, self.build_backbone()
        estimator = self.estimator if isinstance(self.estimator, str) else registry.estimators.spec_of(self.estimator)
        with arrays_up_to(largest_array(self._budget())):
            arrays = {f"gaussian.{name}": array for name, array in gaussian.arrays(half=half).items()}
        arrays |= {f"mean.{number}": layer for number, layer in enumerate(gaussian.mean.layers)}
        arrays |= {f"backbone.{name}": array for name, array in backbone.state_in_use().items()}
        arrays |= {f"reduction.{name}": array for name, array in self.reduction_.arrays().items()}
        if resumable and not isinstance(gaussian, DualGaussian):
            known = self._known_statistics("save a resumable model")
            moments = Moments.of(known.embeddings, known.mean) if isinstance(known, Samples) else known
            assert moments is not None
            arrays |= {f"moments.{name}": array for name, array in moments.arrays().items()}
            arrays |= {f"shift.{number}": layer.clone() for number, layer in enumerate(moments.shift.layers)}
        header: dict[str, Any] = {
            "detector": "padim",
            "parameters": {
                **{name: value for name, value in self.get_params().items() if name not in RUNTIME},
                "backbone": backbone.name,
                "estimator": estimator,
                "weights": Path(backbone.weights_source).name,
                "layers": list(backbone.layers),
                "precision": backbone.precision,
            },
            "weights_hash": backbone.weights_hash,
            "form": gaussian.form,
            "half_error": gaussian.half_error() if half else None,
            "reduction": next(name for name, kind in REDUCTIONS.items() if type(self.reduction_) is kind),
            "grids": gaussian.mean.grids,
            "image_size": self.image_size_,
            "n_images": self.n_images_,
            "calibration": None,
        }
        if self.calibration_ is not None:
            header["calibration"] = self.calibration_.to_dict()
            arrays["calibration.scores"] = torch.from_numpy(self.calibration_.scores)
        write_detector(path, header, arrays)

    @classmethod
    def from_file(cls, file: DetectorFile, *, device: str = "auto", batch_size: int = 32) -> PaDiM:
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
        grids = tuple((height, width) for height, width in header["grids"])
        mean = _embeddings(file.arrays("mean."), grids)
        if header["form"] not in FORMS:
            raise InputError(
                f"{file.path} holds Gaussians of the form {header['form']!r}, this version knows "
                f"{', '.join(FORMS)}: upgrade padim-zoo"
            )
        detector._gaussian = FORMS[header["form"]].from_arrays(mean, file.arrays("gaussian."))
        detector.reduction_ = REDUCTIONS[header["reduction"]].from_arrays(file.arrays("reduction."))
        moments = file.arrays("moments.")
        if moments:
            shift = _embeddings(file.arrays("shift."), grids)
            detector.statistics_ = Moments.from_arrays(header["n_images"], shift, moments)
        detector.image_size_ = (header["image_size"][0], header["image_size"][1])
        detector.n_images_ = header["n_images"]
        if header["calibration"] is not None:
            detector.calibration_ = Calibration(
                **header["calibration"], scores=file.arrays("calibration.")["scores"].numpy()
            )
        return detector


def _checked(backbone: Any) -> Backbone:
    """What is registered or given as a backbone, if it is one."""
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"the backbone is a {type(backbone).__name__}: expected a padim_zoo.backbones.backbone.Backbone; wrap a "
            "network by Backbone(network, name=…, layers=…, strides=…, state=network.state_dict(), weights_source=…)"
        )
    return backbone


def _embeddings(layers: Mapping[str, Tensor], grids: tuple[tuple[int, int], ...]) -> PatchEmbeddings:
    """Embeddings from the layers that a file holds by number."""
    ordered = tuple(layers[str(number)] for number in range(len(layers)))
    return PatchEmbeddings(ordered, grids, max(grids, key=lambda grid: grid[0] * grid[1]))


def _fingerprint(reduction: Reduction) -> str:
    return f"{type(reduction).__name__} {hash_of(reduction.arrays())}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels"
