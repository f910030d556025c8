"""MahalanobisAD: a Gaussian of each stage's averaged features (Rippel et al. 2020, arXiv 2005.14140)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from padim_zoo import registry
from padim_zoo.backbones.stages import stages
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.config import (
    CALIBRATION_FOLDS,
    FALSE_ALARM_RATE,
    MahalanobisADConfig,
    check_share,
    check_text,
)
from padim_zoo.detectors.feature_extractor import FeatureExtractor
from padim_zoo.detectors.model_file import embeddings_of, numbered
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.estimators.linear_shrinkage import TINY, CovarianceStats, LinearShrinkage
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, masked_mean
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

VARIANTS = ("all", "pca", "npca")
THRESHOLDS = ("out-of-fold", "chi2")


class AverageExtractor(FeatureExtractor):
    """The averages of the maps of all stages: a thousandth of these."""

    @staticmethod
    def layers_wanted(backbone: str) -> tuple[str, ...] | None:
        """All stages."""
        return stages(backbone) or None

    def features_key(self, *, fit: bool = True) -> str:
        """That of the maps, but averaged."""
        return f"{super().features_key(fit=fit)} averaged"

    def _on_canvas(self, features: Features) -> Features:
        """Averages have no size: that of the fit is noted, and nothing else."""
        size = None if self.canvas is None else self.grid or self.canvas
        return features if size is None else replace(features, image_size=size, roi_masks=None)

    def reduce_maps(self, maps: list[Tensor], roi_masks: Tensor | None) -> list[Tensor]:
        """Averages over what counts."""
        return [masked_mean(layer, roi_masks) for layer in maps]


@dataclass(frozen=True)
class StageGaussian:
    """A Gaussian by its principal directions, all in float64.

    Attributes
    ----------
    mean : Tensor (D,)
    directions : Tensor (D, r)
        Orthonormal: those in which the samples vary.
    weights : Tensor (r,)
        Inverse variance in each; 0 where a variant leaves it out.
    rest : Tensor ()
        Inverse variance in all others, or 0.
    """

    mean: Tensor
    directions: Tensor
    weights: Tensor
    rest: Tensor

    def squared_distances(self, vectors: Tensor) -> Tensor:
        """Squared Mahalanobis distances (N,) of vectors (N, D), in the type of the Gaussian."""
        deviations = vectors.to(self.mean.dtype) - self.mean
        along = deviations @ self.directions
        # What is left is subtracted as a vector: the difference of two norms would cancel.
        left = (deviations - along @ self.directions.T).square().sum(1)
        return along.square() @ self.weights + self.rest * left

    @property
    def dimensions(self) -> int:
        """Dimensions that count."""
        others = self.directions.shape[0] - self.directions.shape[1] if self.rest > 0 else 0
        return int((self.weights > 0).sum()) + others

    def arrays(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return dict(vars(self))


@detectors.register("mahalanobis-ad", source="padim_zoo", summary="Gaussians of whole images' features (2005.14140)")
class MahalanobisAD(BackboneDetector[tuple[StageGaussian, ...]], MahalanobisADConfig):
    """A Gaussian of the average of every stage; the score is the sum of the distances. There are no anomaly maps.

    Parameters are those of :class:`~padim_zoo.detectors.config.MahalanobisADConfig`.

    Attributes
    ----------
    model_ : tuple of StageGaussian
        One for each layer.
    """

    name = "mahalanobis-ad"
    supports_tiles = supports_sizes = True
    extractor_type = AverageExtractor
    makes_maps = False
    scoring = frozenset({"threshold"})
    modeling = frozenset({"covariance", "components", "explained_variance"})

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_share("explained_variance", self.explained_variance)
        for name, value, choices in (
            ("components", self.components, VARIANTS),
            ("threshold", self.threshold, THRESHOLDS),
        ):
            if value not in choices:
                raise InputError(f"{name} is {value!r}: expected {' or '.join(choices)}")
        self.build_covariance()

    def build_covariance(self) -> LinearShrinkage:
        """The estimator that ``covariance`` names.

        Raises
        ------
        InputError
            If it is none of the form a·S + b·I.
        """
        check_text("covariance", self.covariance)
        estimator = registry.estimators.create(self.covariance)
        if not isinstance(estimator, LinearShrinkage):
            raise InputError(
                f"covariance is {self.covariance!r}: expected an estimator a·S + b·I, e.g. ledoit-wolf, oas, full"
            )
        return estimator

    @property
    def draws(self) -> tuple[str, ...]:
        """Augmented views and nothing else."""
        return self.drawn_views

    def embed(self, features: Features) -> PatchEmbeddings:
        """The averages of each layer, as layers (1, n, C_l) of a single position."""
        vectors = tuple(masked_mean(layer, None) for layer in features.maps)
        return PatchEmbeddings.of(Features(vectors, features.image_size, features.views))

    def embed_apart(self, features: Features) -> PatchEmbeddings:
        """As :meth:`embed`, for averages have no size."""
        return self.embed(features)

    def fit_model(self, statistics: Samples | Moments) -> tuple[StageGaussian, ...]:
        """A Gaussian of each layer."""
        assert isinstance(statistics, Samples)
        return tuple(self._gaussian(layer[0].double()) for layer in statistics.embeddings.layers)

    def _gaussian(self, vectors: Tensor) -> StageGaussian:
        n, D = vectors.shape
        mean = vectors.mean(0)
        _, singular, rows = torch.linalg.svd(vectors - mean, full_matrices=False)
        rank = min(n - 1, D) if n > 1 else 0  # centered samples have one direction less than there are of them
        variances, directions = singular[:rank].square() / max(n - 1, 1), rows[:rank].T
        total = variances.sum()
        estimator = self.build_covariance()
        sum_fourth_powers = (vectors - mean).square().sum(1).square().sum()
        spread = CovarianceStats(n, D, total.view(1), variances.square().sum().view(1), sum_fourth_powers.view(1))
        a, b = (coefficient[0] for coefficient in estimator.coefficients(spread))
        b = (b + estimator.epsilon).clamp_min(TINY)
        weights, rest = 1 / (a * variances + b), 1 / b
        leading = torch.zeros(rank, dtype=torch.bool)
        if self.components != "all" and rank:
            before = variances.cumsum(0) - variances
            leading = before < self.explained_variance * total * (1 - 1e-12)
        if self.components == "pca":
            weights, rest = torch.where(leading, weights, 0), torch.zeros(())
        elif self.components == "npca":
            weights = torch.where(leading, 0, weights)
        return StageGaussian(mean, directions.contiguous(), weights.double(), rest.double())

    def calibrate(
        self, *, false_alarm_rate: float | None = None, folds: int = CALIBRATION_FOLDS, groups: np.ndarray | None = None
    ) -> Calibration:
        """Set the threshold, as ``threshold`` says: from out-of-fold scores, or from the χ² distribution.

        By χ² it is the sum over the layers of the square root of the quantile of as many degrees of freedom as
        dimensions count: what the sum exceeds with that probability if all layers go up and down together.
        """
        if self.threshold == "out-of-fold":
            return super().calibrate(false_alarm_rate=false_alarm_rate, folds=folds, groups=groups)
        from scipy.stats import chi2

        rate = FALSE_ALARM_RATE if false_alarm_rate is None else false_alarm_rate
        if not 0 < rate < 1:
            raise InputError(f"the false-alarm rate is {rate!r}: expected a number between 0 and 1")
        quantiles = [chi2.isf(rate, gaussian.dimensions) for gaussian in self.model_]
        self.calibration_ = Calibration(
            *(float(np.sqrt(quantiles).sum()), rate, 0, None, None, np.empty(0, dtype=np.float32)),
            rate_asked=false_alarm_rate is not None,
        )
        return self.calibration_

    def recalibrate(self, *, false_alarm_rate: float | None = None) -> Calibration:
        """Set the threshold for another false-alarm rate: by χ² no scores are needed."""
        if self.threshold == "out-of-fold":
            return super().recalibrate(false_alarm_rate=false_alarm_rate)
        return self.calibrate(false_alarm_rate=false_alarm_rate)

    def score_embeddings(self, model: Sequence[StageGaussian], embeddings: PatchEmbeddings) -> Prediction:
        """The sum of the distances of all layers."""
        distances = [
            gaussian.squared_distances(layer[0]).clamp_min(0).sqrt()
            for gaussian, layer in zip(model, embeddings.layers, strict=True)
        ]
        return Prediction(torch.stack(distances).sum(0).float().numpy(), None, self.threshold_)

    # -- state -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        dimensions = " + ".join(str(gaussian.dimensions) for gaussian in self.model_)
        return {**super().describe_fit(), "Gaussians": f"{len(self.model_)}, of {dimensions} dimensions"}

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Gaussians, and the averages of the normal images, which take less: a fit can always go on."""
        statistics = self.statistics_
        assert isinstance(statistics, Samples)
        arrays = {
            f"stage.{number}.{name}": array
            for number, gaussian in enumerate(self.model_)
            for name, array in gaussian.arrays().items()
        }
        return {**arrays, **numbered("samples", statistics.embeddings)}, {"grids": statistics.embeddings.grids}

    def restore(self, file: DetectorFile) -> tuple[StageGaussian, ...]:
        """The Gaussians, and the averages of the normal images."""
        self.statistics_ = Samples(embeddings_of(file.arrays("samples."), file.header["grids"]))
        count = len(self.statistics_.embeddings.layers)
        return tuple(StageGaussian(**file.arrays(f"stage.{number}.")) for number in range(count))

    def scoring_network(self) -> MahalanobisADNetwork:
        """Scores in float32."""
        return MahalanobisADNetwork(self.model_)


class MahalanobisADNetwork(nn.Module):
    """The sum of the distances of the averages of all layers; there are no maps."""

    def __init__(self, gaussians: Sequence[StageGaussian]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_StageDistance(gaussian) for gaussian in gaussians)

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, None]:
        """Scores."""
        averages = [layer.mean((2, 3)) for layer in maps]
        squared = [stage(average) for stage, average in zip(self.stages, averages, strict=True)]
        return torch.stack(squared).sqrt().sum(0), None


class _StageDistance(nn.Module):
    def __init__(self, gaussian: StageGaussian) -> None:
        super().__init__()
        for name, array in gaussian.arrays().items():
            self.register_buffer(name, array.float())

    def forward(self, vectors: Tensor) -> Tensor:
        return StageGaussian(**dict(self.named_buffers())).squared_distances(vectors)
