"""PaDiM: a Gaussian of normal patch embeddings at every position (Defard et al. 2020, arXiv 2011.08785)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from padim_zoo import registry
from padim_zoo.anomaly_map import anomaly_maps
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.data.loading import batches
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import Calibration, calibrate
from padim_zoo.detectors.detector import Detector, Prediction
from padim_zoo.detectors.storage import DetectorFile, write_detector
from padim_zoo.embedding import PatchEmbeddings, choose_channels
from padim_zoo.errors import InputError
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.estimators.gaussian import FORMS, Gaussian
from padim_zoo.features import Features
from padim_zoo.registry import detectors

if TYPE_CHECKING:
    from typing_extensions import Self

    Size = int | tuple[int, int] | None
    Channels = tuple[np.ndarray, ...]


@detectors.register("padim", source="padim_zoo", summary="One Gaussian per patch position (arXiv 2011.08785)")
class PaDiM(Detector):
    """Patch Distribution Modeling.

    A frozen backbone turns an image into a grid of patch embeddings: some channels, drawn at random, of several layers.
    One Gaussian per grid position models the normal embeddings; the Mahalanobis distance to it, upsampled and blurred,
    is the anomaly map, and its maximum is the score of the image.

    Parameters
    ----------
    backbone : str or Backbone
        A registered name (``padim-zoo list backbones``) or a module that keeps the backbone contract.
    estimator : str or Estimator
        A registered name, with arguments if wanted (``"shrinkage(0.2)"``), or an estimator.
    weights : str
        ``"default"``, ``"none"`` (random, seeded) or the path of a weights file. Ignored when ``backbone`` is a module.
    layers : sequence of str, optional
        Layers of the backbone; its first three stages by default.
    dims : int, optional
        Channels drawn from all layers together; the backbone's default otherwise (100 for resnet18, 550 for
        wide_resnet50_2), or all channels where there are fewer.
    seed : int
        Seed of the channel draw.
    resize : int, (int, int) or None
        Length of the shorter side in pixels, or exact height and width, before the crop.
    crop : int, (int, int) or None
        Size of the centre crop in pixels, or None for no crop.
    sigma : float
        Standard deviation in pixels of the Gaussian that smooths the anomaly map; 0 for none.
    batch_size : int
        Images that pass through the backbone at once; changes speed and memory only.
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` …, for the backbone.

    Attributes
    ----------
    backbone_ : Backbone
    channels_ : tuple of ndarray
        The drawn channels of each layer.
    samples_ : PatchEmbeddings or None
        The embeddings of the normal images seen so far; None in a loaded detector.
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
        seed: int = 0,
        resize: Size = 256,
        crop: Size = 224,
        sigma: float = 4.0,
        batch_size: int = 32,
        device: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.estimator = estimator
        self.weights = weights
        self.layers = layers
        self.dims = dims
        self.seed = seed
        self.resize = resize
        self.crop = crop
        self.sigma = sigma
        self.batch_size = batch_size
        self.device = device
        self.backbone_: Backbone | None = None
        self.samples_: PatchEmbeddings | None = None
        self.calibration_: Calibration | None = None
        self._gaussian: Gaussian | None = None

    # -- what the parameters stand for -------------------------------------------------------------------------------

    @property
    def transform(self) -> Transform:
        """What happens to an image before the backbone."""
        return Transform(resize=self.resize, crop=self.crop)

    def build_backbone(self) -> Backbone:
        """The backbone, made at first use.

        Raises
        ------
        InputError
            If the name is unknown, the weights do not fit or cannot be had, or the device is not there.
        """
        if self.backbone_ is None:
            if isinstance(self.backbone, str):
                made = registry.backbones.create(self.backbone, layers=self.layers, weights=self.weights)
            else:
                made = self.backbone
            self.backbone_ = made.to(_device(self.device)).eval()
        return self.backbone_

    def build_estimator(self) -> Estimator:
        """The estimator that ``estimator`` names."""
        return registry.estimators.create(self.estimator) if isinstance(self.estimator, str) else self.estimator

    @property
    def features_key(self) -> str:
        """Backbone, weights, layers and transform; neither channels nor seed, which are drawn afterwards."""
        backbone = self.build_backbone()
        return f"{backbone.name} {backbone.weights_hash} {','.join(backbone.layers)} {self.transform.to_dict()}"

    def draw_channels(self) -> Channels:
        """The channels that ``dims`` and ``seed`` stand for."""
        backbone = self.build_backbone()
        dims = min(backbone.default_dims, sum(backbone.channels)) if self.dims is None else self.dims
        return choose_channels(backbone.channels, dims, self.seed)

    # -- fit ---------------------------------------------------------------------------------------------------------

    def extract(self, images: Any) -> Features:
        """All channels of the feature maps of ``images``."""
        parts = list(self._features(images))
        if not parts:
            raise InputError("there are no images: expected at least one")
        return Features.concatenate(parts)

    def fit(self, images: Any) -> Self:
        """Fit on normal images, forgetting any earlier fit; only the drawn channels are kept in memory."""
        self._forget()
        return self.partial_fit(images)

    def fit_features(self, features: Features) -> Self:
        """Fit on the features of normal images, forgetting any earlier fit."""
        self._forget()
        return self._append([features])

    def partial_fit(self, images: Any) -> Self:
        """Fit on more normal images beside those seen so far.

        Raises
        ------
        InputError
            If there are no images, or their size differs from those seen so far, or the detector was loaded from a
            file, which does not hold the samples.
        """
        if self.samples_ is None and self._gaussian is not None:
            raise InputError(
                "a loaded detector does not hold the features of the images it was fitted on: "
                "fit a new one on the old and new images together"
            )
        return self._append(self._features(images))

    def _append(self, parts: Iterable[Features]) -> Self:
        channels = self.draw_channels()
        old = [] if self.samples_ is None else [self.samples_]
        new, size = [], self.image_size_ if old else None
        for features in parts:
            if size is not None and features.image_size != size:
                raise InputError(
                    f"images of {_pixels(features.image_size)} after the transform cannot join those of "
                    f"{_pixels(size)}: one detector needs one size; set an exact resize, or a crop"
                )
            size = features.image_size
            new.append(PatchEmbeddings.of(features.select(channels)))
        if size is None or not new:
            raise InputError("there are no images to fit on: expected at least one normal image")
        return self._fit_embeddings(PatchEmbeddings.concatenate([*old, *new]), channels, size)

    def _fit_embeddings(self, samples: PatchEmbeddings, channels: Channels, image_size: tuple[int, int]) -> Self:
        self._forget()
        self.samples_, self.channels_, self.image_size_ = samples, channels, image_size
        self.n_images_ = samples.n
        return self

    @property
    def gaussian_(self) -> Gaussian:
        """The Gaussians, estimated when first wanted after a fit."""
        if self._gaussian is None:
            if self.samples_ is None:
                raise InputError("the detector is not fitted: call fit with normal images first")
            self._gaussian = self.build_estimator().fit(self.samples_)
        return self._gaussian

    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold from out-of-fold scores of the normal images that the detector was fitted on.

        See :func:`padim_zoo.detectors.calibration.calibrate`.
        """
        if self.samples_ is None:
            raise InputError("a threshold needs the features of the normal images: calibrate before saving")
        self.calibration_ = calibrate(self, self.samples_, false_alarm_rate=false_alarm_rate, folds=folds)
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
        return self._score(gaussian, PatchEmbeddings.of(features.select(self.channels_)))

    @property
    def threshold_(self) -> float | None:
        """Scores above it are called anomalous; None until :meth:`calibrate`."""
        return None if self.calibration_ is None else self.calibration_.threshold

    def _score(self, gaussian: Gaussian, embeddings: PatchEmbeddings) -> Prediction:
        distances = gaussian.squared_distances(embeddings).sqrt().T.reshape(embeddings.n, *embeddings.grid)
        maps = anomaly_maps(distances, self.image_size_, self.sigma)
        return Prediction(maps.amax((1, 2)).numpy(), maps.numpy(), self.threshold_)

    def _features(self, images: Any, fitted: bool = False) -> Iterator[Features]:
        if fitted:
            self.gaussian_  # noqa: B018  an unfitted detector says so before any image is read
        backbone = self.build_backbone()
        device = next(iter(backbone.buffers())).device
        for batch in batches(images, self.transform, self.batch_size):
            with torch.inference_mode():
                maps = backbone(batch.to(device).float().div_(255))
            yield Features(tuple(layer.float().cpu() for layer in maps), (int(batch.shape[2]), int(batch.shape[3])))

    def _forget(self) -> None:
        self.samples_ = None
        self.calibration_ = None
        self._gaussian = None

    # -- files -------------------------------------------------------------------------------------------------------

    def size_in_bytes(self) -> int:
        """Size of the fitted arrays as :meth:`save` writes them, without the backbone's weights."""
        return self.gaussian_.size_in_bytes()

    def save(self, path: str | Path) -> None:
        """Write all that is needed to score an image file, the backbone's weights included, as one safetensors file.

        Parameters and the calibration are JSON in the file's header. The samples are not kept.
        """
        gaussian, backbone = self.gaussian_, self.build_backbone()
        estimator = self.estimator if isinstance(self.estimator, str) else type(self.estimator).__name__
        arrays = {f"gaussian.{name}": array for name, array in gaussian.arrays().items()}
        arrays |= {f"mean.{number}": layer for number, layer in enumerate(gaussian.mean.layers)}
        arrays |= {f"backbone.{name}": array for name, array in backbone.state_in_use().items()}
        arrays |= {f"channels.{number}": torch.from_numpy(kept) for number, kept in enumerate(self.channels_)}
        header: dict[str, Any] = {
            "detector": "padim",
            "parameters": {
                **{name: value for name, value in self.get_params().items() if name not in ("device", "batch_size")},
                "backbone": backbone.name,
                "estimator": estimator,
                "weights": backbone.weights_source,
                "layers": list(backbone.layers),
            },
            "weights_hash": backbone.weights_hash,
            "form": gaussian.form,
            "grids": gaussian.mean.grids,
            "grid": gaussian.mean.grid,
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
        weights = file.arrays("backbone.")
        made = registry.backbones.create(header["parameters"]["backbone"], layers=detector.layers, weights=weights)
        detector.backbone_ = made.to(_device(device)).eval()
        if made.weights_hash != header["weights_hash"]:
            raise InputError(
                f"{file.path} was fitted with weights {header['weights_hash']} of {made.name}, but holds "
                f"{made.weights_hash}: the file is damaged"
            )
        mean = PatchEmbeddings(
            tuple(layer for _, layer in sorted(file.arrays("mean.").items())),
            tuple((height, width) for height, width in header["grids"]),
            (header["grid"][0], header["grid"][1]),
        )
        detector._gaussian = FORMS[header["form"]].from_arrays(mean, file.arrays("gaussian."))
        detector.channels_ = tuple(kept.numpy() for _, kept in sorted(file.arrays("channels.").items()))
        detector.image_size_ = (header["image_size"][0], header["image_size"][1])
        detector.n_images_ = header["n_images"]
        if header["calibration"] is not None:
            detector.calibration_ = Calibration(
                **header["calibration"], scores=file.arrays("calibration.")["scores"].numpy()
            )
        return detector


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels"


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {name!r} cannot be used ({reason}): expected auto, cpu or cuda") from None
    return device
