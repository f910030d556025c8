"""MahalanobisAD: a Gaussian of each stage's averaged features (Rippel et al. 2020, arXiv 2005.14140)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.stages import stages
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.backbone_detector import BackboneDetector, Size, embeddings_of, numbered
from padim_zoo.detectors.calibration import USUAL_FALSE_ALARM_RATE, Calibration
from padim_zoo.detectors.detector import Prediction
from padim_zoo.detectors.parameters import check_share
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.estimators.linear_shrinkage import TINY, CovarianceStats, LinearShrinkage
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, masked_mean
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

VARIANTS = ("all", "pca", "npca")
THRESHOLDS = ("out-of-fold", "chi2")


class ImageVectors:
    """The averages of each layer, as layers of a single position."""

    def apply(self, features: Features) -> PatchEmbeddings:
        """Embeddings (1, n, C_l) per layer."""
        vectors = tuple(masked_mean(layer, None) for layer in features.maps)
        return PatchEmbeddings.of(Features(vectors, features.image_size, features.views))


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
        """Squared Mahalanobis distances (N,) of vectors (N, D)."""
        deviations = vectors.double() - self.mean
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
class MahalanobisAD(BackboneDetector[tuple[StageGaussian, ...]]):
    """A Gaussian of the average of every stage; the score is the sum of the distances. There are no anomaly maps.

    Parameters
    ----------
    backbone : str or Backbone
        A registered name or a :class:`~padim_zoo.backbones.backbone.Backbone`; the paper's are ``timm/efficientnet_b4``
        and its like.
    covariance : str
        An estimator of the form a·S + b·I: the paper's is Ledoit and Wolf's, with nothing added to the diagonal.
    components : str
        ``"all"``; ``"pca"`` for the leading principal components that together explain the share
        ``explained_variance`` of the variance of the samples; ``"npca"``, negated PCA, for all but these.
    explained_variance : float
        In (0, 1].
    threshold : str
        How :meth:`calibrate` makes a threshold: ``"out-of-fold"``, from scores of images that were left out; or
        ``"chi2"``, from the χ² distribution that squared distances have if the features are Gaussian and the
        covariance is known. It needs no images, and promises what it says only as far as that holds.
    weights, layers, seed, resize, crop, batch_size, memory, cache, device, precision, augment, passes, tta, roi
        As of :class:`~padim_zoo.detectors.backbone_parameters.BackboneParameters`. ``layers`` are by default all
        stages.

    Attributes
    ----------
    model_ : tuple of StageGaussian
        One for each layer.
    """

    name = "mahalanobis-ad"
    makes_maps = False
    scoring = frozenset({"threshold"})
    modeling = frozenset({"covariance", "components", "explained_variance"})

    def __init__(
        self,
        backbone: str | Backbone = "builtin",
        *,
        covariance: str = "ledoit-wolf(epsilon=0)",
        components: str = "all",
        explained_variance: float = 0.99,
        threshold: str = "out-of-fold",
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
        self.covariance = covariance
        self.components = components
        self.explained_variance = explained_variance
        self.threshold = threshold

    @classmethod
    def layers_wanted(cls, backbone: str) -> tuple[str, ...] | None:
        """All stages."""
        return stages(backbone) or None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_share("explained_variance", self.explained_variance)
        for name, value, known in (
            ("components", self.components, VARIANTS),
            ("threshold", self.threshold, THRESHOLDS),
        ):
            if value not in known:
                raise InputError(f"{name} is {value!r}: expected {' or '.join(known)}")
        self.build_covariance()

    def build_covariance(self) -> LinearShrinkage:
        """The estimator that ``covariance`` names.

        Raises
        ------
        InputError
            If it is none of the form a·S + b·I.
        """
        estimator = registry.estimators.create(self.covariance)
        if not isinstance(estimator, LinearShrinkage):
            raise InputError(
                f"covariance is {self.covariance!r}: expected an estimator a·S + b·I, e.g. ledoit-wolf, oas, full"
            )
        return estimator

    @property
    def features_key(self) -> str:
        """That of all detectors on a backbone, but of averaged maps."""
        return f"{super().features_key} averaged"

    def kept(self, maps: list[Tensor], roi_masks: Tensor | None) -> list[Tensor]:
        """Averages only, over what counts: a thousandth of the maps."""
        return [masked_mean(layer, roi_masks) for layer in maps]

    def make_embedding(self) -> ImageVectors:
        """Averages of all layers."""
        return ImageVectors()

    def fit_model(self, statistics: Samples | Moments) -> tuple[StageGaussian, ...]:
        """A Gaussian of each layer."""
        assert isinstance(statistics, Samples)
        return tuple(self._gaussian(layer[0].double()) for layer in statistics.embeddings.layers)

    def _gaussian(self, vectors: Tensor) -> StageGaussian:
        n, D = vectors.shape
        mean = vectors.mean(0)
        _, singular, rows = torch.linalg.svd(vectors - mean, full_matrices=False)
        rank = min(n - 1, D) if n > 1 else 0  # centerd samples have one direction less than there are of them
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

    def require_statistics(self, purpose: str) -> Samples | Moments | None:
        """The averages of the normal images, which every file holds."""
        return self.statistics_

    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold, as ``threshold`` says: from out-of-fold scores, or from the χ² distribution.

        By χ² it is the sum over the layers of the square root of the quantile of as many degrees of freedom as
        dimensions count: what the sum exceeds with that probability if all layers go up and down together.
        """
        if self.threshold == "out-of-fold":
            return super().calibrate(false_alarm_rate=false_alarm_rate, folds=folds)
        from scipy.stats import chi2

        rate = USUAL_FALSE_ALARM_RATE if false_alarm_rate is None else false_alarm_rate
        if not 0 < rate < 1:
            raise InputError(f"the false-alarm rate is {rate!r}: expected a number between 0 and 1")
        quantiles = [chi2.isf(rate, gaussian.dimensions) for gaussian in self.model_]
        self.calibration_ = Calibration(
            float(np.sqrt(quantiles).sum()), rate, 0, None, None, np.empty(0, dtype=np.float32)
        )
        return self.calibration_

    def score(self, model: Sequence[StageGaussian], embeddings: PatchEmbeddings) -> Prediction:
        """The sum of the distances of all layers."""
        distances = [
            gaussian.squared_distances(layer[0]).clamp_min(0).sqrt()
            for gaussian, layer in zip(model, embeddings.layers, strict=True)
        ]
        return Prediction(torch.stack(distances).sum(0).float().numpy(), None, self.threshold_)

    # -- files -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        dims = " + ".join(str(gaussian.dimensions) for gaussian in self.model_)
        return {**super().describe_fit(), "Gaussians": f"{len(self.model_)}, of {dims} dimensions"}

    def size_in_bytes(self) -> int:
        """Size of the Gaussians and of the averages of the normal images."""
        arrays, _ = self.model_arrays(resumable=True, half=False)
        return sum(array.numel() * array.element_size() for array in arrays.values())

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Gaussians, and the averages of the normal images, which take less: a fit can always go on."""
        known = self.require_statistics("save")
        assert isinstance(known, Samples)
        arrays = {
            f"stage.{number}.{name}": array
            for number, gaussian in enumerate(self.model_)
            for name, array in gaussian.arrays().items()
        }
        return {**arrays, **numbered("samples", known.embeddings)}, {"grids": known.embeddings.grids}

    def restore(self, file: DetectorFile) -> None:
        """Take over what :meth:`model_arrays` gave."""
        self.statistics_ = Samples(embeddings_of(file.arrays("samples."), file.header["grids"]))
        count = len(self.statistics_.embeddings.layers)
        self._model = tuple(StageGaussian(**file.arrays(f"stage.{number}.")) for number in range(count))
        self.embedding_ = self.make_embedding()
