"""PaDiM: a Gaussian of normal patch embeddings at every position (Defard et al. 2020, arXiv 2011.08785)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.backbone import hash_of
from padim_zoo.core.errors import InputError
from padim_zoo.core.moving import supports_devices
from padim_zoo.core.numbers import number_of
from padim_zoo.core.parallel import one_thread_for
from padim_zoo.detectors.aligning_extractor import AligningExtractor
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.calibration import WHOLE_IMAGES
from padim_zoo.detectors.choose_registration import choose_registration
from padim_zoo.detectors.config import SMALL_FIT, PaDiMConfig, check_trim_patches, check_whole_number
from padim_zoo.detectors.feature_extractor import FeatureExtractor
from padim_zoo.detectors.image_poses import ImagePoses
from padim_zoo.detectors.merging import merge_images
from padim_zoo.detectors.normal_poses import NormalPoses
from padim_zoo.detectors.padim_file import InFile, padim_in, padim_to_file, registration_to_file, statistics_for
from padim_zoo.detectors.padim_network import PaDiMNetwork, padim_network
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.registration import KINDS, Registration
from padim_zoo.detectors.reset import drop_fit
from padim_zoo.detectors.scoring import predict_patches
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.estimators.estimator import Estimator, estimators_for_missing_patches
from padim_zoo.estimators.linear_shrinkage import Full, LinearShrinkage
from padim_zoo.estimators.patch_trimming import check_estimator, trim_samples, trimmed_count
from padim_zoo.features.anomaly_map import EDGES, anomaly_maps
from padim_zoo.features.features import REDUCTIONS, Features, Reduction, draw_reduction
from padim_zoo.features.patch_embeddings import PatchEmbeddings, PatchSubset, valid_patches
from padim_zoo.features.poses import Poses, framed
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.gaussians.grid_hierarchy import advice_on_size
from padim_zoo.registry import detectors
from padim_zoo.statistics.masked_samples import MaskedSamples, valid_samples
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from typing_extensions import Self


@detectors.register("padim", source="padim_zoo", summary="One Gaussian per patch position (arXiv 2011.08785)")
class PaDiM(BackboneDetector[Gaussian], PaDiMConfig):
    """Patch Distribution Modeling.

    A frozen backbone turns an image into a grid of patch embeddings: some channels, drawn at random, of several layers.
    One Gaussian per grid position models the normal embeddings; the Mahalanobis distance to it, upsampled and blurred,
    is the anomaly map, and its maximum is the score of the image.

    Parameters are those of :class:`~padim_zoo.detectors.config.PaDiMConfig`. Where neither memory nor disk has room for
    all samples, images are folded into moments, from which no threshold can be made.

    Attributes
    ----------
    reduction_ : Reduction
        What was drawn.
    gaussian_ : Gaussian
        The Gaussians, estimated when first wanted after a fit.

    Others are those of :class:`~padim_zoo.detectors.backbone_detector.BackboneDetector`.
    """

    name = "padim"
    extractor_type = AligningExtractor
    supports_moments = True
    supports_tiles = supports_devices = True
    modeling = frozenset({"estimator", "trim_patches"})
    scoring = frozenset({"sigma", "pad_mode"})

    reduction_: Reduction
    in_file: InFile = InFile()

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        if self.n_components is not None:
            check_whole_number("n_components", self.n_components, 1)
        if self.reduction is not None and self.reduction not in tuple(REDUCTIONS):
            raise InputError(f"reduction is {self.reduction!r}: expected {', '.join(REDUCTIONS)}")
        if self.pad_mode not in tuple(EDGES):
            raise InputError(f"pad_mode is {self.pad_mode!r}: expected {' or '.join(EDGES)}")
        if self.register is not None and self.register not in (*KINDS, "auto"):
            raise InputError(f"register is {self.register!r}: expected {', '.join(KINDS)} or auto")
        for other in ("augment", "tta", "roi", "tiles"):
            if self.register is not None and getattr(self, other) is not None:
                raise InputError(f"register and {other} both say which pixels are looked at: leave one out")
        if not isinstance(self.estimator, (str, Estimator)):
            raise InputError(f"estimator is {self.estimator!r}: expected a registered name or an Estimator")
        check_trim_patches(self.trim_patches, self.augment)
        estimator = self.build_estimator()
        if self.trim_patches is not None:
            check_estimator(estimator)

    def build_estimator(self) -> Estimator:
        """The estimator that ``estimator`` names."""
        return registry.estimators.create(self.estimator) if isinstance(self.estimator, str) else self.estimator

    # -- embed -------------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Draw the reduction that ``reduction``, ``n_components`` and ``seed`` stand for."""
        backbone = self.build_backbone()
        default = min(backbone.default_n_components, sum(backbone.channels))
        n_components = default if self.n_components is None else self.n_components
        kind = self.reduction or backbone.default_reduction
        self.reduction_ = draw_reduction(kind, backbone.channels, n_components, self.seed)

    @property
    def draws(self) -> tuple[str, ...]:
        """The channels, unless the leading ones or all are taken; and augmented views."""
        backbone = self.build_backbone() if isinstance(self.backbone, str) else self.backbone
        kind, channels = self.reduction or backbone.default_reduction, sum(backbone.channels)
        is_subset = (self.n_components or backbone.default_n_components) < channels
        drawn = kind == "orthogonal" or (kind == "random" and is_subset)
        return ("channels",) * drawn + self.drawn_views

    def embed(self, features: Features) -> PatchEmbeddings:
        """The channels that were drawn, of all layers."""
        return PatchEmbeddings.of(self.reduction_.apply(features))

    def select_patches(self, embeddings: PatchEmbeddings, like: PatchEmbeddings | None) -> PatchEmbeddings:
        """Of one mask for all images, the patches that count alone: nothing is estimated at the others."""
        region = self.extractor.region_of_interest()
        subset = None if like is None else like.subset
        if subset is None:
            augmentation = self.extractor.views.of_fit.augmentation
            moved = any(operation.moves for operation in augmentation.operations)
            if like is not None or region is None or not region.common or moved or embeddings.roi_masks is None:
                return embeddings
            counted = valid_patches(embeddings.roi_masks[:1], embeddings.grid)
            subset = PatchSubset(embeddings.grid, counted[:, 0].nonzero().flatten())
        return embeddings.within(subset)

    # -- fit ---------------------------------------------------------------------------------------------------------

    def prepare(self, extractor: FeatureExtractor, images: Any) -> tuple[FeatureExtractor, Any]:
        """Learn the mean pose of the part, where ``register`` asks for it."""
        if self.register is None:
            return extractor, images
        assert isinstance(extractor, AligningExtractor)
        images = list(images) if isinstance(images, Iterator) else images
        probe = copy.copy(self)
        probe.draw()
        learned = choose_registration(extractor, images, probe.embed)
        for each in (extractor, self.extractor):
            each.facts = replace(each.facts, registration=learned[0], registration_note=learned[1])
        return extractor, images

    def add_features(self, parts: Iterable[Features], earlier: Any) -> None:
        """As of every detector; says where another size of the images would take far less memory."""
        estimator = self.build_estimator()  # one that does not exist is refused before any image is read
        super().add_features(self._with_registration(parts), earlier)
        if isinstance(estimator, LinearShrinkage) and estimator.same_shrinkage_everywhere:
            statistics = self.statistics_
            assert statistics is not None
            embeddings = statistics.embeddings if isinstance(statistics, Samples) else statistics.reference
            if statistics.n > statistics.D and embeddings.subset is None and embeddings.roi_masks is None:
                tiles = self.tile_layout
                size = self.image_size_ if tiles is None else tiles.tile_size
                advice = advice_on_size(embeddings.layout, size, max(self.build_backbone().strides))
                if advice is not None:
                    warnings.warn(advice, stacklevel=4)

    def _with_registration(self, parts: Iterable[Features]) -> Iterator[Features]:
        """Parts as they are; features of another detector bring the registration along by which they were made."""
        for part in parts:
            if part.poses is not None:
                self.extractor.facts = replace(self.extractor.facts, registration=part.poses.registration)
            yield part

    def fits_on_device(self, statistics: Samples | Moments) -> bool:
        """Where every patch counts in every image, and the estimator can: masks and poses stay in main memory."""
        at = statistics.embeddings if isinstance(statistics, Samples) else statistics.reference
        is_plain = all(each is None for each in (at.subset, at.roi_masks, at.poses, self.trim_patches))
        return is_plain and supports_devices(self.build_estimator())

    def fit_model(self, statistics: Samples | Moments) -> Gaussian:
        """A Gaussian at each patch that counts."""
        estimator = self.build_estimator()
        if isinstance(statistics, Moments):
            if self.trim_patches is not None:
                raise InputError(
                    "trim_patches needs the samples, and there are only moments: allow more memory, or fit on fewer "
                    "images"
                )
            return estimator.fit(statistics)
        samples = statistics
        if statistics.embeddings.roi_masks is not None:
            samples = valid_samples(statistics.embeddings)
        if isinstance(samples, MaskedSamples) and not estimator.supports_missing_patches:
            raise InputError(
                f"the estimator {self.estimator} needs every patch in every image, and regions of interest that differ "
                f"leave some out: use {', '.join(estimators_for_missing_patches())}, or one mask for all images"
            )
        if self.trim_patches is not None:
            if isinstance(samples, MaskedSamples):
                raise InputError("trim_patches needs every patch in every image: use one mask for all images")
            samples = trim_samples(samples, estimator, self.trim_patches)
        return estimator.fit(samples)

    @property
    def gaussian_(self) -> Gaussian:
        """The Gaussians, estimated when first wanted after a fit."""
        return self.model_

    def merge(self, other: PaDiM) -> Self:
        """Add the images that another detector was fitted on, as if they had been fitted on here.

        Images that both were fitted on count once: they are taken out of the samples of either, with a warning.

        Raises
        ------
        InputError
            If the detectors differ in more than their images, or either does not know its statistics; or if both
            hold moments, of which some images are the same.
        """
        if _fingerprint_of(self.registration_) != _fingerprint_of(other.registration_):
            raise InputError("the detectors differ in registration, and a merge cannot mend that: fit on all images")
        merge_images(self, other, {"reduction": lambda each: _fingerprint(each.reduction_)})
        return self

    def from_gaussian(self, reduction: Reduction, gaussian: Gaussian, image_size: tuple[int, int]) -> Self:
        """Take over Gaussians that were estimated elsewhere, of a number of images that is not known.

        Parameters
        ----------
        reduction : Reduction
            How the embeddings were made that they are of.
        gaussian : Gaussian
        image_size : tuple of int
            Height and width of the transformed images.
        """
        self.build_backbone()
        drop_fit(self)
        self.in_file = InFile()
        self.reduction_, self.image_size_ = reduction, image_size
        self.made_model = gaussian
        return self

    def forget(self, images: Any) -> Self:
        """As of every detector; not with ``register``, whose mean image is of all images of the fit."""
        if self.registration_ is not None:
            raise InputError("a detector with register cannot forget images: its mean image holds them; fit again")
        return super().forget(images)

    def require_statistics(self, purpose: str) -> Samples | Moments | None:
        """The statistics, or None before the first fit; a file may hold them."""
        return statistics_for(self, purpose)

    # -- score -------------------------------------------------------------------------------------------------------

    def score_embeddings(self, model: Gaussian, embeddings: PatchEmbeddings) -> Prediction:
        """Maps of Mahalanobis distances, and their maxima."""
        subset, grid = model.mean.subset, embeddings.grid
        counted = embeddings.present(grid)
        if subset is None:
            if embeddings.grids != model.mean.grids:  # Gaussians of trimmed patches
                embeddings = embeddings.on_one_grid()
            squared = model.squared_distances(embeddings)
            return self.predict_distances(squared, grid, embeddings.roi_masks, counted, embeddings.poses)
        of_fit = subset.mask()[:, None].expand(-1, embeddings.n)
        squared = torch.zeros(of_fit.shape)
        inside = replace(embeddings.within(subset), roi_masks=None)
        if inside.grids != model.mean.grids:  # Gaussians of images that differ in what counts
            inside = inside.on_one_grid()
        squared[subset.indices] = model.squared_distances(inside)
        counted = of_fit if counted is None else of_fit & counted
        return self.predict_distances(squared, grid, embeddings.roi_masks, counted)

    def predict_distances(
        self,
        squared: Tensor,
        grid: tuple[int, int],
        roi_masks: Tensor | None = None,
        counted: Tensor | None = None,
        poses: Poses | None = None,
    ) -> Prediction:
        """Score images by squared distances, by whatever Gaussians.

        Parameters
        ----------
        squared : Tensor (P, N)
            Of the patches of a grid.
        grid : tuple of int
        roi_masks : Tensor (N, H, W), bool, optional
            The pixels that count.
        counted : Tensor (P, N), bool, optional
            The patches that have a distance.
        poses : Poses, optional
            Of images that were brought to the mean pose: patches of what was beyond an image do not count, and none
            that no normal image shows.
        """
        if poses is not None:  # which lie in main memory
            distances = squared.cpu().sqrt().T.reshape(-1, *grid)
            seen, frame = poses.seen(grid, self.image_size_), framed(self.image_size_, poses.margin)
            if self.registration_ is not None:
                trust = self.registration_.trust(grid, self.image_size_)
                distances, seen = distances * trust, seen & (trust > 0)
            moved = anomaly_maps(distances, frame, self.sigma, self.pad_mode, counted=seen)
            prediction = Prediction.from_maps(poses.to_image(moved), threshold=self.threshold_, roi_masks=None)
            if self.registration_ is None or poses.found is None:
                return prediction
            return replace(prediction, poses=ImagePoses.of(poses.found, self._normal_poses(self.registration_)))
        edges = self.pad_mode
        with one_thread_for(squared.numel()):
            distances = squared.sqrt()
        return predict_patches(self, distances, grid, roi_masks=roi_masks, counted=counted, edges=edges)

    def with_evidence(self, prediction: Prediction) -> Prediction:
        """With scores and maps that unusual poses have lifted, where a calibration says how rare these are."""
        evidence = None if self.calibration_ is None else self.calibration_.pose_evidence
        return prediction if evidence is None else evidence.lift(prediction)

    def _normal_poses(self, registration: Registration) -> NormalPoses:
        evidence = None if self.calibration_ is None else self.calibration_.pose_evidence
        return registration.normal_poses if evidence is None else evidence.normal

    @property
    def scores_need_calibration(self) -> bool:
        """Whether scores say more after :meth:`calibrate`, which is possible: p-values, and how rare a pose is."""
        return self.values_of_maps is not None or (
            self.registration_ is not None and isinstance(self.statistics_, Samples)
        )

    # -- state -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        mean = self.gaussian_.mean
        network = self.build_backbone().name
        counted = "" if mean.subset is None else f"{mean.P} of "
        images = number_of(self.n_images_, "normal image") if self.n_images_ else "an unknown number of normal images"
        return {
            "fitted": f"{self.name} ({network}, {self.estimator}) on {images}, in {self.precision_}",
            "patches": f"{counted}{mean.grid[0]} × {mean.grid[1]}, of {mean.D} dimensions",
            **self.extractor.describe_images(),
            **self._describe_trimming(),
            **({} if self.registration_ is None else {"register": self.registration_.describe()}),
        }

    def _describe_trimming(self) -> dict[str, str]:
        if self.trim_patches is None:
            return {}
        out = f"{trimmed_count(self.n_images_, self.trim_patches)} of {self.n_images_} images at each patch"
        return {"trimmed patches": f"{out}; {WHOLE_IMAGES}"}

    @property
    def registration_(self) -> Registration | None:
        """What normal images say of poses; None where images are not moved."""
        registration = self.extractor.facts.registration
        assert registration is None or isinstance(registration, Registration)
        return registration

    def notes_of_fit(self) -> list[str]:
        """That images are few for poses, and that the ridge decides, where few images leave it the most directions."""
        mean = self.gaussian_.mean
        estimator = self.build_estimator()
        of_images = "" if self.registration_ is None else self.registration_.note_on_images()
        notes = [note for note in (self.extractor.facts.registration_note, of_images) if note]
        if not isinstance(estimator, Full) or self.augment is not None:
            return notes
        if not 0 < self.n_images_ < min(SMALL_FIT, mean.D + 1):
            return notes
        return [
            *notes,
            f"{number_of(self.n_images_, 'image')} can vary in only {self.n_images_ - 1} of {mean.D} directions: in "
            f"the others the ridge {estimator.epsilon:g} decides, and not the data; use more images, or ledoit-wolf",
        ]

    def size_in_bytes(self) -> int:
        """Size of the Gaussians as :meth:`save` writes them."""
        return self.gaussian_.size_in_bytes()

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Gaussians and reduction; what to go on from too where it is asked for: samples, or moments if fewer bytes.

        A detector that was fitted on no more images than it has dimensions holds its samples, and is resumable
        without.
        """
        return padim_to_file(self, resumable=resumable, half=half)

    def restore(self, file: DetectorFile) -> Gaussian:
        """The Gaussians; sets the reduction, and the samples or moments that a resumable file holds."""
        return padim_in(file, self)

    def scoring_network(self) -> PaDiMNetwork:
        """Scores and maps by the Gaussians; see :func:`~padim_zoo.detectors.padim_network.padim_network`."""
        return padim_network(self)


def _fingerprint(reduction: Reduction) -> str:
    return f"{type(reduction).__name__} {hash_of(reduction.arrays())}"


def _fingerprint_of(registration: Registration | None) -> str:
    if registration is None:
        return ""
    arrays, about = registration_to_file(registration)
    return f"{hash_of(arrays)} {sorted(about.items())}"
