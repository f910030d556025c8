"""PaDiM: a Gaussian of normal patch embeddings at every position (Defard et al. 2020, arXiv 2011.08785)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

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
from padim_zoo.parallel import map_blocks
from padim_zoo.registry import detectors

if TYPE_CHECKING:
    from typing_extensions import Self

Size = int | tuple[int, int] | None


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
    samples_ : Features or None
        The drawn channels of the normal images seen so far; None in a loaded detector.
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
        self.samples_: Features | None = None
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

    def draw_channels(self) -> tuple[np.ndarray, ...]:
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
        self.channels_ = self.draw_channels()
        return self._append([features.select(self.channels_)])

    def partial_fit(self, images: Any) -> Self:
        """Fit on more normal images beside those seen so far.

        Raises
        ------
        InputError
            If there are no images, or their size differs from those seen so far, or the detector was loaded from a
            file, which does not hold the samples.
        """
        if self.samples_ is None:
            if self._gaussian is not None:
                raise InputError(
                    "a loaded detector does not hold the features of the images it was fitted on: "
                    "fit a new one on the old and new images together"
                )
            self.channels_ = self.draw_channels()
        return self._append([features.select(self.channels_) for features in self._features(images)])

    def _append(self, parts: list[Features]) -> Self:
        if not parts:
            raise InputError("there are no images to fit on: expected at least one normal image")
        if self.samples_ is not None:
            parts = [self.samples_, *parts]
        sizes = {part.image_size for part in parts}
        if len(sizes) > 1:
            raise InputError(
                f"images of {parts[-1].image_size} pixels after the transform cannot join those of "
                f"{parts[0].image_size}: one detector needs one size; set an exact resize, or a crop"
            )
        self.samples_ = Features.concatenate(parts)
        self._gaussian = None
        self.calibration_ = None
        self.image_size_ = self.samples_.image_size
        self.n_images_ = len(self.samples_)
        return self

    @property
    def gaussian_(self) -> Gaussian:
        """The Gaussians, estimated when first wanted after a fit."""
        if self._gaussian is None:
            if self.samples_ is None:
                raise InputError("the detector is not fitted: call fit with normal images first")
            embeddings = PatchEmbeddings(self.samples_)
            self.grid_ = embeddings.grid
            self._gaussian = self.build_estimator().fit(embeddings)
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
        predictions = [self._score(part.select(self.channels_)) for part in self._features(images, fitted=True)]
        if not predictions:
            raise InputError("there are no images to score: expected at least one")
        return Prediction(
            np.concatenate([part.scores for part in predictions]),
            np.concatenate([part.maps for part in predictions if part.maps is not None]),
            self.threshold_,
        )

    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features, all channels."""
        return self._score(features.select(self.channels_))

    @property
    def threshold_(self) -> float | None:
        """Scores above it are called anomalous; None until :meth:`calibrate`."""
        return None if self.calibration_ is None else self.calibration_.threshold

    def _score(self, selected: Features) -> Prediction:
        gaussian = self.gaussian_
        if selected.image_size != self.image_size_:
            raise InputError(
                f"an image of {selected.image_size} pixels after the transform cannot be scored by a detector fitted "
                f"on {self.image_size_}: use images of the same shape, or a crop"
            )
        maps = distance_maps(gaussian, PatchEmbeddings(selected), self.image_size_, self.sigma)
        scores = maps.amax((1, 2))
        return Prediction(scores.numpy(), maps.numpy(), self.threshold_)

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
        arrays = {f"gaussian.{name}": array for name, array in gaussian.state().items()}
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
            "grid": list(self.grid_),
            "image_size": list(self.image_size_),
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
        detector._gaussian = FORMS[header["form"]](**file.arrays("gaussian."))
        detector.channels_ = tuple(kept.numpy() for _, kept in sorted(file.arrays("channels.").items()))
        detector.grid_ = (header["grid"][0], header["grid"][1])
        detector.image_size_ = (header["image_size"][0], header["image_size"][1])
        detector.n_images_ = header["n_images"]
        if header["calibration"] is not None:
            detector.calibration_ = Calibration(
                **header["calibration"], scores=file.arrays("calibration.")["scores"].numpy()
            )
        return detector


def distance_maps(
    gaussian: Gaussian, embeddings: PatchEmbeddings, image_size: tuple[int, int], sigma: float
) -> Tensor:
    """Anomaly maps of N images: Mahalanobis distances, upsampled and blurred.

    Returns
    -------
    Tensor (N, H, W), float32
    """
    squared = torch.cat(
        map_blocks(
            lambda patches: gaussian.squared_distances(embeddings[patches], patches),
            embeddings.P,
            16 * embeddings.n * embeddings.D,
        )
    )
    return anomaly_maps(squared.sqrt().T.reshape(embeddings.n, *embeddings.grid), image_size, sigma)


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
