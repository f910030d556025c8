"""STFPM: a student that knows the teacher's features of normal images only (Wang et al. 2021, arXiv 2103.04257)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from padim_zoo.backbones.trainable import frozen, trainable_network
from padim_zoo.core.errors import InputError
from padim_zoo.core.moving import HOST
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.config import CALIBRATION_FOLDS, STFPMConfig, check_share, check_text, check_whole_number
from padim_zoo.detectors.equal_images import groups_with_copies
from padim_zoo.detectors.feature_extractor import FeatureExtractor
from padim_zoo.detectors.held_out import HeldOutScores
from padim_zoo.detectors.model_cost import ModelCost
from padim_zoo.detectors.out_of_fold import require_other_views, score_normal
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring_network import AnomalyMaps, BackboneNetwork, grids_of
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.detectors.student import TrainedStudent, train_student
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, valid_patches
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples


class PixelExtractor(FeatureExtractor):
    """Images themselves as features, for a student learns from these."""

    map_count = 1

    def check_parameters(self) -> None:
        """Refuse what :class:`FeatureExtractor` refuses, and blocks: a student looks at whole images.

        Raises
        ------
        InputError
            Naming the parameter, what was found and what was expected.
        """
        super().check_parameters()
        if self.config.stream != "auto":
            raise InputError(
                f"stream is {self.config.stream!r}, but stfpm passes whole images through backbone and student: leave "
                "it out (auto), or take padim or patchcore"
            )

    def features_key(self, *, fit: bool = True) -> str:
        """Transform and views."""
        return f"pixels {self.transform.to_dict()}{self.views_key(fit)}"

    def cache_key(self, *, fit: bool) -> str | None:
        """Nothing is kept: images have a cache of their own."""
        return None

    def features(
        self,
        images: Any,
        *,
        fit: bool = False,
        roi: Any = None,
        check_size: Callable[[tuple[int, int]], None] | None = None,
        in_work: int | None = None,
        device: torch.device = HOST,
    ) -> Iterator[Features]:
        """The transformed images, uint8."""
        view_set = self.views.of_fit if fit else self.views.of_score
        for batch, roi_masks in self.image_batches(images, in_work or self.config.batch_size, view_set, roi):
            size = (int(batch.shape[2]), int(batch.shape[3]))
            if check_size is not None:
                check_size(size)
            yield Features((batch,), size, view_set.count, roi_masks).to(device)


class TrainingCost(ModelCost):
    """Of a training, which ends when it does not get better."""

    grows_with_patches = False


@detectors.register("stfpm", source="padim_zoo", summary="A student of the features of normal images (2103.04257)")
class STFPM(BackboneDetector[TrainedStudent], STFPMConfig):
    """Student-teacher feature pyramid matching.

    The teacher is the frozen backbone; the student has the same architecture and learns its features of normal images
    from random weights. Where they differ the image is anomalous: the map is the product over the layers of half the
    squared distance of the normalized features, upsampled, and its maximum is the score.

    Parameters are those of :class:`~padim_zoo.detectors.config.STFPMConfig`.

    Attributes
    ----------
    model_ : TrainedStudent
    progress : callable, optional
        Told the epoch, of how many, and its held-out loss; None by default.
    """

    name = "stfpm"
    extractor_type = PixelExtractor
    cost = TrainingCost()
    not_in_file = "holds a student and not the normal images; fit again"
    modeling = frozenset({"epochs", "patience", "learning_rate", "held_out", "train_batch"})
    scoring = frozenset({"checkpoint"})
    progress: Callable[[int, int, float], None] | None = None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        for name in ("epochs", "patience", "train_batch"):
            check_whole_number(name, getattr(self, name), 1)
        check_share("held_out", self.held_out)
        rate: Any = self.learning_rate
        is_number = isinstance(rate, Real) and not isinstance(rate, bool)
        if rate is not None and not (is_number and 0 < rate < float("inf")):
            raise InputError(f"learning_rate is {rate!r}: expected a number above 0, e.g. 0.4")
        if self.checkpoint is not None:
            check_text("checkpoint", self.checkpoint, Path)
            if Path(self.checkpoint).is_dir():
                raise InputError(f"checkpoint {self.checkpoint} is a folder: expected a file name")

    @property
    def draws(self) -> tuple[str, ...]:
        """The first weights of the student and the order of its images; and augmented views."""
        return ("training of the student", *self.drawn_views)

    # -- embed and fit -----------------------------------------------------------------------------------------------

    def embed(self, features: Features) -> PatchEmbeddings:
        """Images as they are, one layer (H·W, n, 3), uint8."""
        return PatchEmbeddings.of(features)

    def fit_model(self, statistics: Samples | Moments) -> TrainedStudent:
        """Train a student."""
        assert isinstance(statistics, Samples)
        return self._train(statistics.embeddings, self._groups_with_copies(statistics.embeddings))

    def _train(self, embeddings: PatchEmbeddings, groups: np.ndarray) -> TrainedStudent:
        return train_student(
            self.build_backbone(), _images(embeddings), embeddings.roi_masks, self, groups, self.progress
        )

    def _groups_with_copies(self, embeddings: PatchEmbeddings, groups: np.ndarray | None = None) -> np.ndarray:
        return groups_with_copies(embeddings, self.extractor.views.passes, groups)

    def calibrate(
        self, *, false_alarm_rate: float | None = None, folds: int = CALIBRATION_FOLDS, groups: np.ndarray | None = None
    ) -> Calibration:
        """Set the threshold from the scores of the held-out images.

        A training for each fold would take ``folds`` times as long. The held-out images have chosen the epoch, so that
        their scores may be a little low; they are few, so that the least rate they can promise is high.

        A student that is not trained yet holds out whole groups. Of one that is, those held-out images do not count
        that are of one group with images trained on.

        Raises
        ------
        InputError
            If the detector was loaded, or there are too few held-out images for the rate.
        """
        statistics = self.require_statistics("make a threshold")
        if not isinstance(statistics, Samples):
            raise InputError("the detector is not fitted: call fit with normal images first")
        require_other_views(self)
        groups = self._groups_with_copies(statistics.embeddings, groups)
        if self.made_model is None:
            self.made_model = self._train(statistics.embeddings, groups)
        held_out = self.model_.held_out.numpy()
        trained_on = np.delete(groups, held_out)
        held_out = held_out[~np.isin(groups[held_out], trained_on)]
        if not len(held_out):
            raise InputError("each held-out image is a copy of one that was trained on: expected different images")
        scores = HeldOutScores(len(held_out), false_alarm_rate, groups[held_out])
        scores.add(np.arange(len(held_out)), score_normal(self, self.model_, statistics.embeddings, held_out))
        return self.set_calibration(scores.calibration(folds=1))

    # -- score -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score_embeddings(self, model: TrainedStudent, embeddings: PatchEmbeddings) -> Prediction:
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
        return Prediction.from_maps(torch.cat(maps), threshold=self.threshold_, roi_masks=roi_masks)

    # -- state -------------------------------------------------------------------------------------------------------

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

    def restore(self, file: DetectorFile) -> TrainedStudent:
        """The student."""
        teacher = self.build_backbone()
        network = trainable_network(teacher, self.seed)
        network.load_state_dict(file.arrays("student."))
        student = frozen(network, teacher).to(teacher.device)
        return TrainedStudent(student, file.arrays("held_out")[""], file.header["losses"])

    def scoring_network(self) -> STFPMNetwork:
        """Scores and maps by the student beside the backbone."""
        grids = grids_of(self.build_backbone(), self.image_size_)
        to_maps = [AnomalyMaps(grid, self.image_size_, 0.0) for grid in grids]
        return STFPMNetwork(BackboneNetwork(self.model_.network, "float32"), to_maps)


class STFPMNetwork(nn.Module):
    """The product over the layers of half the squared distance of normalized features, and its maximum."""

    def __init__(self, student: BackboneNetwork, to_maps: Sequence[AnomalyMaps]) -> None:
        super().__init__()
        self.student = student
        self.to_maps = nn.ModuleList(to_maps)

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        product: Tensor | None = None
        for t, s, to_map in zip(maps, self.student(images), self.to_maps, strict=True):
            layer = to_map((normalize(t, dim=1) - normalize(s, dim=1)).square().sum(1) / 2)
            product = layer if product is None else product * layer
        assert product is not None
        return product.amax((1, 2)), product


def _images(embeddings: PatchEmbeddings) -> Tensor:
    """The images (n, 3, H, W), uint8, that were kept as embeddings."""
    (layer,) = embeddings.layers
    return layer.permute(1, 2, 0).reshape(embeddings.n, 3, *embeddings.grid)
