"""STFPM: a student that knows the teacher's features of normal images only (Wang et al. 2021, arXiv 2103.04257)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.trainable import frozen, trainable_network
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.backbone_detector import BackboneDetector, Size
from padim_zoo.detectors.calibration import USUAL_FALSE_ALARM_RATE, Calibration
from padim_zoo.detectors.detector import Prediction
from padim_zoo.detectors.parameters import check_share, check_whole_number
from padim_zoo.detectors.prediction_from_maps import prediction_from_maps
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.detectors.student import Recipe, train_student
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, valid_patches
from padim_zoo.metrics.conformal import conformal_threshold, smallest_false_alarm_rate
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples


class Pixels:
    """Images themselves, for a student learns from these."""

    def apply(self, features: Features) -> PatchEmbeddings:
        """One layer (H·W, n, 3), uint8."""
        return PatchEmbeddings.of(features)


@dataclass(frozen=True)
class TrainedStudent:
    """A trained student.

    Attributes
    ----------
    network : Backbone
    held_out : Tensor (m,), int64
        Indices of the normal images that it was not trained on.
    losses : list of float
        Loss of these after each epoch.
    """

    network: Backbone
    held_out: Tensor
    losses: list[float]


@detectors.register("stfpm", source="padim_zoo", summary="A student of the features of normal images (2103.04257)")
class STFPM(BackboneDetector[TrainedStudent]):
    """Student-teacher feature pyramid matching.

    The teacher is the frozen backbone; the student has the same architecture and learns its features of normal images
    from random weights. Where they differ the image is anomalous: the map is the product over the layers of half the
    squared distance of the normalized features, upsampled, and its maximum is the score.

    Parameters
    ----------
    backbone : str or Backbone
        ``builtin``, or of torchvision or timm; the paper's is resnet18.
    epochs : int
        At most.
    patience : int
        Epochs without a lower held-out loss after which the training ends.
    learning_rate : float, optional
        Of the gradient descent; by default 0.4, the paper's, or 0.05 for students without batch norms.
    held_out : float
        Share of the normal images that is not trained on, but chooses the epoch, and gives the threshold.
    train_batch : int
        Images of a step of the training.
    checkpoint : str, optional
        File that the state of the training is written to after every epoch, and taken up from; one training each.
    weights, layers, seed, resize, crop, batch_size, memory, cache, device, precision, augment, passes, tta, roi
        As of :class:`~padim_zoo.detectors.backbone_parameters.BackboneParameters`. The paper takes 256 × 256 pixels
        without a crop; the default here is that of all detectors, so that they are compared on the same pixels.

    Attributes
    ----------
    model_ : TrainedStudent
    progress : callable, optional
        Told the epoch, of how many, and its held-out loss; None by default.
    """

    name = "stfpm"
    modeling = frozenset({"epochs", "patience", "learning_rate", "held_out", "train_batch"})
    scoring = frozenset({"checkpoint"})

    def __init__(
        self,
        backbone: str | Backbone = "builtin",
        *,
        epochs: int = 100,
        patience: int = 20,
        learning_rate: float | None = None,
        held_out: float = 0.2,
        train_batch: int = 32,
        checkpoint: str | None = None,
        weights: str = "default",
        layers: tuple[str, ...] | list[str] | None = None,
        seed: int = 0,
        resize: Size = 256,
        crop: Size = 224,
        batch_size: int = 32,
        memory: int | None = None,
        cache: bool | Caches = False,
        device: str = "auto",
        precision: str = "auto",
        augment: str | None = None,
        passes: int | None = None,
        tta: str | None = None,
        roi: Any = None,
    ) -> None:
        super().__init__(
            backbone,
            weights=weights,
            layers=layers,
            seed=seed,
            resize=resize,
            crop=crop,
            sigma=0.0,
            batch_size=batch_size,
            memory=memory,
            cache=cache,
            device=device,
            precision=precision,
            augment=augment,
            passes=passes,
            tta=tta,
            roi=roi,
        )
        self.epochs = epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.held_out = held_out
        self.train_batch = train_batch
        self.checkpoint = checkpoint
        self.progress: Callable[[int, int, float], None] | None = None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        for name in ("epochs", "patience", "train_batch"):
            check_whole_number(name, getattr(self, name), 1)
        check_share("held_out", self.held_out)
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate is {self.learning_rate!r}: expected a number above 0, e.g. 0.4")
        if self.checkpoint is not None and Path(self.checkpoint).is_dir():
            raise InputError(f"checkpoint {self.checkpoint} is a folder: expected a file name")

    # -- features are images -----------------------------------------------------------------------------------------

    @property
    def features_key(self) -> str:
        """Features are the transformed images."""
        return f"pixels {self.transform.to_dict()}{self._key_of_views(fit=True)}{self._key_of_roi()}"

    @property
    def cache_key(self) -> str | None:
        """Nothing is kept: features are images, which have a cache of their own."""
        return None

    @property
    def cache_key_of_normal(self) -> str | None:
        """As :attr:`cache_key`."""
        return None

    def _features(self, images: Any, *, fitted: bool = False, fit: bool = False, roi: Any = None) -> Iterator[Features]:
        self.check_parameters()
        for batch, roi_masks, view_set in self._batches(images, self.batch_size, fit=fit, roi=roi):
            yield Features((batch,), (int(batch.shape[2]), int(batch.shape[3])), view_set.count, roi_masks)

    def make_embedding(self) -> Pixels:
        """Images as they are."""
        return Pixels()

    # -- fit and predict ---------------------------------------------------------------------------------------------

    def fit_model(self, statistics: Samples | Moments) -> TrainedStudent:
        """Train a student."""
        assert isinstance(statistics, Samples)
        recipe = Recipe(
            self.epochs,
            self.learning_rate,
            self.train_batch,
            self.held_out,
            self.patience,
            self.seed,
            self.checkpoint,
            self.progress,
            self.views_of_fit().augmentation.passes,
        )
        known = statistics.embeddings
        return TrainedStudent(*train_student(self.build_backbone(), _images(known), recipe, known.roi_masks))

    def require_statistics(self, purpose: str) -> Samples | Moments | None:
        """The images, or None before the first fit; a model file does not hold them."""
        if self.statistics_ is None and self._model is not None:
            raise InputError(f"cannot {purpose}: the model file holds a student and not the normal images; fit again")
        return self.statistics_

    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold from the scores of the held-out images.

        A training for each fold would take ``folds`` times as long. The held-out images have chosen the epoch, so that
        their scores may be a little low; they are few, so that the least rate they can promise is high.

        Raises
        ------
        InputError
            If the detector was loaded, or there are too few held-out images for the rate.
        """
        known = self.require_statistics("make a threshold")
        if not isinstance(known, Samples):
            raise InputError("the detector is not fitted: call fit with normal images first")
        self._require_other_views()
        prediction = self.score_views(self.model_, self._views_to_score(known.embeddings, self.model_.held_out.numpy()))
        least = smallest_false_alarm_rate(len(prediction))
        rate = max(USUAL_FALSE_ALARM_RATE, least) if false_alarm_rate is None else false_alarm_rate
        threshold = float(conformal_threshold(prediction.scores, rate))
        assert prediction.maps is not None
        pixels = prediction.maps[:, ::4, ::4]
        if prediction.roi_masks is not None:
            pixels = prediction.maps[prediction.roi_masks]
        low, high = np.quantile(pixels, [0.5, 0.999]).tolist()
        return self.keep_calibration(Calibration(threshold, float(rate), 1, low, high, prediction.scores))

    @torch.no_grad()
    def score(self, model: TrainedStudent, embeddings: PatchEmbeddings) -> Prediction:
        """Maps of the product of the layers' distances (equations 2 and 4), and their maxima."""
        teacher, images = self.build_backbone(), _images(embeddings)
        maps, roi_masks = [], embeddings.roi_masks
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            pixels = batch.to(teacher.device).float().div_(255)
            product = torch.ones(len(batch), *batch.shape[2:])
            for t, s in zip(teacher(pixels), model.network(pixels), strict=True):
                halves = (normalize(t, dim=1) - normalize(s, dim=1)).square().sum(1) / 2
                counted = None
                if roi_masks is not None:
                    grid = (int(halves.shape[1]), int(halves.shape[2]))
                    counted = valid_patches(roi_masks[start : start + self.batch_size], grid).T.reshape(-1, *grid)
                product *= anomaly_maps(halves.cpu(), self.image_size_, 0.0, counted=counted)
            maps.append(product)
        return prediction_from_maps(torch.cat(maps), threshold=self.threshold_, roi_masks=roi_masks)

    # -- files -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        losses = self.model_.losses
        text = f"{len(losses)} epochs, held-out loss {min(losses):.3g} after {losses.index(min(losses)) + 1}"
        return {**super().describe_fit(), "student": text}

    def size_in_bytes(self) -> int:
        """Size of the student."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.model_.network.state_in_use().values())

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The student's weights."""
        arrays = {f"student.{name}": tensor for name, tensor in self.model_.network.state_in_use().items()}
        return {**arrays, "held_out": self.model_.held_out}, {"losses": self.model_.losses}

    def restore(self, file: DetectorFile) -> None:
        """Take over what :meth:`model_arrays` gave."""
        teacher = self.build_backbone()
        network = trainable_network(teacher, self.seed)
        network.load_state_dict(file.arrays("student."))
        student = frozen(network, teacher).to(teacher.device)
        self._model = TrainedStudent(student, file.arrays("held_out")[""], file.header["losses"])
        self.embedding_ = self.make_embedding()


def _images(embeddings: PatchEmbeddings) -> Tensor:
    """The images (n, 3, H, W), uint8, that were kept as embeddings."""
    (layer,) = embeddings.layers
    return layer.permute(1, 2, 0).reshape(embeddings.n, 3, *embeddings.grid)
