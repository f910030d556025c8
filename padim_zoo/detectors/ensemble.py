"""Ensembles of fitted detectors, each brought to one scale by the normal images that it had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import Fields
from padim_zoo.data.groups import joined_groups
from padim_zoo.data.sources import listed
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.calibration import Calibration, usual_rate
from padim_zoo.detectors.combining import WEIGHTS, combined_maps, combined_scores, member_weights
from padim_zoo.detectors.config import CALIBRATION_FOLDS, DECIDES, ENSEMBLE_RULES, BackboneConfig, EnsembleConfig
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scikit_learn import normal_images
from padim_zoo.detectors.storage import DetectorFile, write_detector
from padim_zoo.features.features import Features
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.statistics.accumulator import pixels

if TYPE_CHECKING:
    from typing_extensions import Self

FOLDS_OF_MEMBERS = "folds of the members"
"""What the seed decides in an ensemble, whatever its members are."""


class Ensemble(Detector, EnsembleConfig):
    """Several detectors, fitted on the same normal images in the same order, that score together.

    A member's scale comes of its out-of-fold scores: those of its calibration. Scores are taken in standard deviations
    from their mean, maps from their median (0) to their 99.9th percentile (1).

    Parameters are those of :class:`~padim_zoo.detectors.config.EnsembleConfig`.

    Attributes
    ----------
    weights_ : ndarray (M,)
        They sum to 1.
    """

    name = "ensemble"
    score_is_map_maximum = False

    members: Sequence[BackboneDetector[Any]]

    @property
    def makes_maps(self) -> bool:  # type: ignore[override]  # as its members do
        """Whether any member makes maps."""
        return any(member.makes_maps for member in self.members)

    @property
    def cache(self) -> bool | Caches:
        """That of the members."""
        return next((member.cache for member in self.members), False)

    @cache.setter
    def cache(self, cache: bool | Caches) -> None:
        for member in self.members:
            member.cache = cache

    @property
    def images_at_once(self) -> int:
        """As many as every member takes together."""
        return min(member.images_at_once for member in self.members)

    def check_parameters(self) -> None:
        """Refuse members that cannot score together.

        Raises
        ------
        InputError
            Naming what was found and what was expected.
        """
        if self.rule not in ENSEMBLE_RULES:
            raise InputError(f"rule is {self.rule!r}: expected {', '.join(ENSEMBLE_RULES)}")
        if len(self.members) < 2 or not all(isinstance(member, BackboneDetector) for member in self.members):
            kinds = ", ".join(type(member).__name__ for member in self.members) or "none"
            raise InputError(f"the members of the ensemble are {kinds}: expected two or more, each on a backbone")
        fitted = all(member.__sklearn_is_fitted__() for member in self.members)
        # Before a fit of all, one that was fitted may have a grid already.
        transforms = {member.transform if fitted else Transform(member.resize, member.crop) for member in self.members}
        if len(transforms) > 1:
            listed = "; ".join(sorted(map(str, transforms)))
            raise InputError(f"the members differ in their transforms ({listed}): use one")
        regions = [(member.extractor.region_of_interest(), member.region_per_image) for member in self.members]
        if any(region != regions[0] for region in regions):
            raise InputError("the members judge different pixels: fit all of them with one region of interest (--roi)")
        if isinstance(self.weights, str):
            if self.weights not in WEIGHTS:
                raise InputError(f"weights is {self.weights!r}: expected {', '.join(WEIGHTS)}, or a number per member")
            return
        numbers: list[Any] = list(self.weights) if isinstance(self.weights, (Sequence, np.ndarray)) else []
        are_numbers = all(isinstance(each, Real) and not isinstance(each, bool) for each in numbers)
        one_each = are_numbers and len(numbers) == len(self.members)
        if not one_each or not np.isfinite(numbers).all() or min(numbers) < 0 or not sum(numbers) > 0:
            raise InputError(
                f"weights are {self.weights!r}: expected {len(self.members)} numbers, none negative and not all 0"
            )

    @property
    def draws(self) -> tuple[str, ...]:
        """What those of the members are, and the folds that give their scales."""
        return tuple(dict.fromkeys([*(part for member in self.members for part in member.draws), FOLDS_OF_MEMBERS]))

    @property
    def transform(self) -> Transform:
        """That of all members."""
        self.check_parameters()
        return self.members[0].transform

    @property
    def features_key(self) -> str:
        """Those of all members."""
        return " + ".join(self.sources())

    @property
    def precision_(self) -> str:
        return "+".join(dict.fromkeys(member.precision_ for member in self.members))

    @property
    def runtime_(self) -> str:
        return "+".join(dict.fromkeys(member.runtime_ for member in self.members))

    def expect(self, images: int, at_once: int | None = None) -> None:
        """Say how many images will come, and how many at once, as of the members."""
        for member in self.members:
            member.expect(images, at_once)

    @property
    def canvas(self) -> tuple[int, int] | None:  # type: ignore[override]
        """That of the members."""
        return self.members[0].canvas

    def make_room(self, paths: Sequence[Path]) -> None:
        """Say which images will come, as of the members, which have one canvas."""
        self._share_stride()
        for member in self.members:
            member.make_room(paths)

    def sources(self) -> dict[str, BackboneDetector[Any]]:
        """A member for each kind of features, by its key; members may share them.

        Raises
        ------
        InputError
            If members see different views of an image, or different pixels, or regions of interest in other tiles.
        """
        self.check_parameters()
        keys = {
            (member.extractor.views_key(fit=True), None if member.roi is None else member.tiles)
            for member in self.members
        }
        if len(keys) > 1:
            raise InputError(
                "the members of the ensemble differ in augment, passes, tta, roi or, with a roi, tiles, and so do "
                "the views that they have features of: fit and predict by images, not by features"
            )
        return {member.features_key: member for member in self.members}

    def extract(self, images: Any) -> Features:
        """Features of all members, one kind after the other; images that can be read only once are kept."""
        images = self._for_all(images)
        return self.join([source.extract(images) for source in self.sources().values()])

    def extract_normal(self, images: Any) -> Features:
        """The same of normal images, in all views of a fit and for scoring."""
        images = self._for_all(images)
        return self.join([source.extract_normal(images) for source in self.sources().values()])

    def _for_all(self, images: Any) -> Any:
        """Images that each member can go through, on one grid and by one runtime."""
        self._share_stride()
        images = images if hasattr(images, "__len__") else list(images)
        self.expect(len(images))
        return images

    def _share_stride(self) -> None:
        """Let all members choose grid and canvas by the coarsest stride of any."""
        extractors = [member.extractor for member in self.members]
        stride = max(max(extractor.build_backbone().strides) for extractor in extractors)
        for extractor in extractors:
            extractor.shared_stride = stride

    @staticmethod
    def join(parts: Sequence[Features]) -> Features:
        """The features of all :meth:`sources`, in their order.

        Raises
        ------
        InputError
            If they are of images of different sizes.
        """
        sizes = dict.fromkeys(pixels(part.image_size) for part in parts)
        if len(sizes) > 1:
            raise InputError(
                f"the members of the ensemble have features of images of {' and '.join(sizes)}: give all of them one "
                "resize and crop"
            )
        # Averages have no size, and go with the parts that have one.
        first = next((part for part in parts if part.sizes is not None), parts[0])
        together = first.with_maps(tuple(layer for part in parts for layer in part.maps))
        if first.sizes is None:
            return together
        n = len(first.sizes)
        grids = [torch.tensor([part.grids] * n) if part.own_grids is None else part.own_grids for part in parts]
        return replace(together, own_grids=torch.cat(grids, 1))

    def look_at(self, images: Any) -> None:
        """Let every member find out what only the normal images of a fit can tell."""
        for member in self.members:
            member.look_at(images)

    def fit(self, images: Any, y: Any = None) -> Self:
        """Fit every member on normal images, and calibrate it, for that gives its scale.

        Labels ``y`` are those of :meth:`Detector.fit`.
        """
        self.check_parameters()
        images = normal_images(self._for_all(images), y)
        for member in self.members:
            member.fit(images)
        return self._calibrate_members()

    def predict(self, images: Any, *, roi: Any = None) -> Prediction:
        """Score images by all members; ``roi`` is as of :meth:`BackboneDetector.predict`."""
        self._calibrations()
        images = self._for_all(listed(images))
        predictions = [member.predict(images, roi=roi) for member in self.members]
        together = replace(self.with_scale(self._together(predictions)), sources=predictions[0].sources)
        return together.of(images, self.transform)

    def _parts(self, features: Features) -> list[Features]:
        """The features of each member."""
        parts, start = {}, 0
        for key, source in self.sources().items():
            layers = slice(start, start + source.extractor.map_count)
            own_grids = None if features.own_grids is None else features.own_grids[:, layers]
            parts[key] = replace(features, maps=features.maps[layers], own_grids=own_grids)
            start = layers.stop
        return [parts[member.features_key] for member in self.members]

    def fit_features(self, features: Features) -> Self:
        """Fit every member, and calibrate it, for that gives its scale."""
        self.check_parameters()
        for member, part in zip(self.members, self._parts(features), strict=True):
            member.fit_features(part)
        return self._calibrate_members()

    def _calibrate_members(self) -> Self:
        for member in self.members:
            member.calibrate()
        self.calibration_ = None
        return self

    def _calibrations(self) -> list[Calibration]:
        self.check_parameters()
        calibrations: list[Calibration] = []
        lacking: list[str] = []
        for member in self.members:
            if member.calibration_ is None or len(member.calibration_.scores) < 2:
                lacking.append(member.name)
            else:
                calibrations.append(member.calibration_)
        if lacking:
            raise InputError(
                f"{', '.join(lacking)} in the ensemble has no out-of-fold scores of normal images, which give its "
                "scale: fit it with a threshold"
            )
        counts = {len(calibration.scores) for calibration in calibrations}
        if len(counts) > 1:
            raise InputError(
                f"the members were calibrated on {' and '.join(map(str, sorted(counts)))} normal images: fit all of "
                "them on the same"
            )
        return calibrations

    @property
    def weights_(self) -> np.ndarray:
        """Weights of the members, which sum to 1."""
        return member_weights(self.weights, self._calibrations())

    def predict_features(self, features: Features) -> Prediction:
        """Score images by the features of all members."""
        self._calibrations()
        return self._together(
            [member.predict_features(part) for member, part in zip(self.members, self._parts(features), strict=True)]
        )

    def _together(self, predictions: Sequence[Prediction]) -> Prediction:
        calibrations, weights = self._calibrations(), self.weights_
        scores = combined_scores(self.rule, weights, calibrations, [prediction.scores for prediction in predictions])
        maps = combined_maps(self.rule, weights, calibrations, [prediction.maps for prediction in predictions])
        # On grids of their own, members may differ in the patches that they have seen.
        masks = [prediction.roi_masks for prediction in predictions if prediction.roi_masks is not None]
        roi_masks = np.all(masks, axis=0) if masks else None
        if maps is not None and roi_masks is not None:
            maps = np.where(roi_masks, maps, np.float32(0))
        return Prediction(scores, maps, self.threshold_, roi_masks=roi_masks)

    def calibrate(
        self, *, false_alarm_rate: float | None = None, folds: int = CALIBRATION_FOLDS, groups: np.ndarray | None = None
    ) -> Calibration:
        """Set the threshold from the members' out-of-fold scores of the normal images, combined.

        They have given the scales and learned weights too, so that the promise is a little less strict than that of a
        single detector. ``folds`` are those of the members, and so are ``groups``, beside those that are given.
        """
        calibrations = self._calibrations()
        scores = combined_scores(self.rule, self.weights_, calibrations, [one.scores for one in calibrations])
        of_members = [one.groups for one in calibrations if one.groups is not None]
        of_members += [] if groups is None else [groups]
        together = joined_groups(*of_members) if of_members else np.arange(len(scores))
        rate = usual_rate(len(np.unique(together))) if false_alarm_rate is None else false_alarm_rate
        threshold = float(conformal_threshold(scores, rate, together))
        has_maps = any(one.map_high is not None for one in calibrations)
        low, high = (0.0, 1.0) if has_maps else (None, None)
        adapted = max(one.adapted for one in calibrations)
        count = calibrations[0].folds
        self.calibration_ = Calibration(
            *(threshold, float(rate), count, low, high, scores, adapted, together if of_members else None),
            rate_asked=false_alarm_rate is not None,
        )
        return self.calibration_

    # -- files -------------------------------------------------------------------------------------------------------

    @property
    def learned_images_(self) -> LearnedImages:  # type: ignore[override]  # of its members
        """The images that any member was fitted on, without hashes if one does not know them."""
        hashes = [each for member in self.members if (each := member.learned_images_.hashes) is not None]
        if len(hashes) < len(self.members):
            return LearnedImages()
        different = np.unique(np.concatenate(hashes))
        return LearnedImages(len(different), different)

    def describe_fit(self) -> dict[str, str]:
        """What was combined, in words."""
        parts = [f"{member.name} ({member.build_backbone().name})" for member in self.members]
        if self.rule == "max":
            return {"ensemble": f"max of {', '.join(parts)}"}
        weighted = [f"{weight:.3g} × {part}" for weight, part in zip(self.weights_, parts, strict=True)]
        return {"ensemble": f"{self.rule} of {' + '.join(weighted)}"}

    def size_in_bytes(self) -> int:
        return sum(member.size_in_bytes() for member in self.members)

    def save(self, path: str | Path, *, resumable: bool = False, dtype: str = "float16") -> None:
        """Write all members as one safetensors file; see :meth:`BackboneDetector.save` for the options."""
        arrays: dict[str, Tensor] = {}
        headers = []
        for number, member in enumerate(self.members):
            header, parts = member.to_state(resumable=resumable, dtype=dtype)
            headers.append(header)
            arrays |= {f"member.{number}.{name}": array for name, array in parts.items()}
        calibration = None if self.calibration_ is None else self.calibration_.to_dict()
        weights = self.weights if isinstance(self.weights, str) else [float(weight) for weight in self.weights]
        header = {
            "detector": self.name,
            "described": self.describe_fit(),
            "parameters": {"rule": self.rule, "weights": weights},
            "members": headers,
            "calibration": calibration,
        }
        write_detector(path, header, arrays)

    @classmethod
    def from_file(
        cls, file: DetectorFile, *, device: str = BackboneConfig.device, batch_size: int = BackboneConfig.batch_size
    ) -> Self:
        """Rebuild an ensemble from a file that :meth:`save` wrote; see :func:`padim_zoo.load`."""
        members = []
        for number, header in enumerate(file.header["members"]):
            kind: Any = registry.detectors.entry(header["detector"]).factory
            part = file.part(header, f"member.{number}.")
            members.append(kind.from_file(part, device=device, batch_size=batch_size))
        ensemble = cls(members, **file.header["parameters"])
        told = file.header["calibration"]
        if told is not None:
            calibration = ensemble.calibrate(false_alarm_rate=told["false_alarm_rate"])
            ensemble.calibration_ = replace(calibration, rate_asked=told.get("rate_asked", False))
            if told["false_alarm_rate"] is None:
                ensemble.threshold_ = Fields(told, "calibration.").number("threshold")
            ensemble.calibration_ = ensemble.calibration_.deciding_by(told.get("decides", DECIDES[0]))
        return ensemble
