"""The contract of every detector, in scikit-learn's manners: images in, anomaly scores and maps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import nn

from padim_zoo.cache.caches import Caches
from padim_zoo.cache.fingerprints import FingerprintCache, FingerprintsInMemory
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.data.sources import image_items, listed
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.config import CALIBRATION_FOLDS, DECIDES, BackboneConfig, FrozenConfig
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.parameters import constructor_call, nested_parameters, parameter_names, set_arguments
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.regions import RegionRule
from padim_zoo.detectors.scikit_learn import normal_images, tags_of_outlier_detectors
from padim_zoo.features.features import Features
from padim_zoo.pictures.colormap import Scale, scale_of_maps

if TYPE_CHECKING:
    from typing_extensions import Self


class Detector(ABC):
    """An image anomaly detector that learns from normal images only, in scikit-learn's manners.

    Constructor arguments are stored unchanged under their own names; attributes that a fit sets end in ``_``.
    ``fit(images)`` is ``fit_features(extract_normal(images))`` and ``predict(images)`` is
    ``predict_features(extract(images))``, so that several detectors with one :attr:`features_key` can be fitted and
    compared on features that were extracted once.

    Attributes
    ----------
    calibration_ : Calibration or None
        Threshold and what it was made from; None until :meth:`calibrate`.
    learned_images_ : LearnedImages
        What is known of the normal images of the fit.

    Images are anything :func:`padim_zoo.data.loading.batches` takes: paths, PIL images, arrays, tensors, a data loader.
    """

    name: ClassVar[str]
    """The name in the registry, by which a file says what made it."""
    calibration_: Calibration | None = None
    learned_images_: LearnedImages = LearnedImages()
    makes_maps: bool = True
    """Whether predictions have anomaly maps."""
    score_is_map_maximum: ClassVar[bool] = True
    """Whether the score of an image is the maximum of its map, unless a parameter says otherwise."""
    cache: bool | Caches = False
    """What a detector keeps on disk of image files, if it keeps anything at all."""
    _estimator_type = "outlier_detector"  # for scikit-learn before 1.6, which has no tags

    @property
    def fingerprints(self) -> FingerprintCache | FingerprintsInMemory | None:
        """Where what tells one image file from others is kept."""
        return Caches.of(self.cache).fingerprints

    # -- features ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def transform(self) -> Transform:
        """What happens to an image before the backbone, and to a mask before it is compared with a map."""

    @property
    @abstractmethod
    def features_key(self) -> str:
        """Identity of what :meth:`extract` gives: equal keys mean equal features."""

    def cache_key(self, *, fit: bool) -> str | None:
        """Identity of features beyond this process and version of the code; None: not to be kept.

        Images with equal bytes have equal features under equal keys, so that they can be read from a disk.

        Parameters
        ----------
        fit : bool
            Of what :meth:`extract_normal` gives; otherwise of :meth:`extract`.
        """
        return None

    @property
    def precision_(self) -> str | None:
        """Floating-point type in which the features of the fit were computed; None where there is but one."""
        return None

    @property
    def runtime_(self) -> str | None:
        """What ran the network of the fit; None where there is but one way."""
        return None

    def expect(self, images: int) -> None:  # noqa: B027
        """Say how many images will come, batch by batch; here nothing depends on it."""

    canvas: tuple[int, int] | None = None
    """Height and width of maps of images of several sizes; None where all have one size."""

    def make_room(self, paths: Sequence[Path]) -> None:  # noqa: B027
        """Say which images will be fitted on or scored, where these may differ in size; here they may not."""

    @abstractmethod
    def extract(self, images: Any) -> Features:
        """Features of images, all that a fit or a prediction needs."""

    def look_at(self, images: Any) -> None:  # noqa: B027
        """Find out what only the normal images of a fit tell, before any feature is extracted; here nothing."""

    def extract_normal(self, images: Any) -> Features:
        """Features of normal images: all that a fit, and a prediction of them, need."""
        return self.extract(images)

    # -- fit and predict ---------------------------------------------------------------------------------------------

    def fit(self, images: Any, y: Any = None) -> Self:
        """Fit on normal images, forgetting any earlier fit.

        Parameters
        ----------
        images
            As above. Samples that are labeled anomalous are left out.
        y : array-like (N,), optional
            Labels as scikit-learn's outlier detectors have them, 1 for normal images and -1 for anomalous ones, which
            are left out of the fit: so a cross-validation can hand over whatever falls into its folds.
        """
        return self.fit_features(self.extract_normal(normal_images(images, y)))

    @abstractmethod
    def fit_features(self, features: Features) -> Self:
        """Fit on the features of normal images, forgetting any earlier fit."""

    def predict(self, images: Any) -> Prediction:
        """Score images."""
        images = listed(images)
        return self.with_scale(self.predict_features(self.extract(images))).of(images, self.transform)

    def predict_iter(self, images: Any, **options: Any) -> Iterator[Prediction]:
        """Score images of any number, a few at a time: predictions of one after the other are in memory.

        Parameters
        ----------
        images
            As above; of an iterator no more than these few are taken at once.
        **options
            Of :meth:`predict`.
        """
        items = image_items(listed(images))
        at_once: int = getattr(self, "images_at_once", BackboneConfig.batch_size)
        while few := list(islice(items, at_once)):
            yield self.predict(few, **options)

    @abstractmethod
    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features."""

    def score_features(self, features: Features) -> np.ndarray:
        """The scores (N,) of :meth:`predict_features` alone; a detector that needs no maps for them makes none."""
        return self.predict_features(features).scores

    def score_samples(self, images: Any) -> np.ndarray:
        """Anomaly scores with the opposite sign, (N,), as scikit-learn has them: higher is more normal."""
        return -self.predict(images).scores

    def decision_function(self, images: Any) -> np.ndarray:
        """The threshold less the anomaly scores, (N,), as scikit-learn has it: below 0 is anomalous.

        A detector without a threshold is calibrated first, which takes some fits: :class:`~padim_zoo.Scorer`, which
        only ranks, does not need one.
        """
        calibration = self.calibration_ or self.calibrate()
        scores = self.predict(images).deciding_scores
        return np.asarray(calibration.deciding_threshold - scores.astype(np.float64))

    @property
    def draws(self) -> tuple[str, ...]:
        """What the seed decides in a fit with these parameters, in words; empty where every seed gives the same.

        The cut into folds that :meth:`calibrate` makes is not among it. Of a detector that takes a seed, nothing more
        is known here.
        """
        return ("what its seed decides",) if "seed" in parameter_names(type(self)) else ()

    @property
    def threshold_serves_maps(self) -> bool:
        """Whether the score of an image is the maximum of its map, so that one threshold serves both."""
        return self.score_is_map_maximum

    # -- threshold and colors ----------------------------------------------------------------------------------------

    def calibrate(
        self, *, false_alarm_rate: float | None = None, folds: int = CALIBRATION_FOLDS, groups: np.ndarray | None = None
    ) -> Calibration:
        """Set the threshold from out-of-fold scores of the normal images of the fit.

        Images of one group are held out together and count once.

        Parameters
        ----------
        false_alarm_rate : float, optional
            In (0, 1). By default 0.05, or the least that the number of images allows.
        folds : int
            At least 2; lowered to the number of groups when there are fewer.
        groups : ndarray (n,), int, optional
            Equal for images that show one thing, in the order of the fit; see
            :func:`~padim_zoo.data.duplicates.groups_of`.

        Raises
        ------
        InputError
            If there are fewer than two groups, or too few for the rate asked for, or not all is known of them, or the
            detector makes no threshold, as here.
        """
        raise InputError(f"{type(self).__name__} makes no threshold: give one, e.g. padim-zoo predict --threshold")

    def recalibrate(self, *, false_alarm_rate: float | None = None) -> Calibration:
        """Set the threshold for another false-alarm rate, from the out-of-fold scores that are known: without a fit.

        Parameters
        ----------
        false_alarm_rate : float, optional
            In (0, 1). By default 0.05, or the least that the number of images allows.

        Raises
        ------
        InputError
            If there are no such scores, or too few for the rate.
        """
        if self.calibration_ is None:
            raise InputError(f"this {type(self).__name__} holds no out-of-fold scores: set a threshold by hand")
        self.calibration_ = self.calibration_.at_rate(false_alarm_rate)
        return self.calibration_

    @property
    def threshold_(self) -> float | None:
        """Scores above it are called anomalous; None until :meth:`calibrate`.

        A number may be assigned. The file then says that it was set by hand, and promises no false-alarm rate.
        """
        return None if self.calibration_ is None else self.calibration_.threshold

    @threshold_.setter
    def threshold_(self, threshold: float) -> None:
        self.calibration_ = Calibration.by_hand(threshold, self.calibration_)

    @property
    def decision(self) -> tuple[str, float | None]:
        """Which threshold decides, of :data:`~padim_zoo.detectors.config.DECIDES`, and where it is, if it is known."""
        calibration = self.calibration_
        return (DECIDES[0], None) if calibration is None else (calibration.decides, calibration.deciding_threshold)

    def color_scale(self, threshold: float | None = None) -> tuple[Scale, float]:
        """What the colors of all pictures of this detector's maps rest on.

        They start at the score of a typical normal pixel, or at 0 where the detector knows none, and have the
        threshold at two thirds of the way, where they turn bright.

        Parameters
        ----------
        threshold : float, optional
            Instead of the one that decides.

        Returns
        -------
        scale : (low, high)
            The scores of the first and the last color.
        map_threshold : float
            Pixels whose score exceeds it lie within the boundary.

        Raises
        ------
        InputError
            If there is no threshold, or it is no higher than a typical normal pixel, or the detector makes no maps.
        """
        if not self.makes_maps:
            raise InputError(f"{type(self).__name__} scores whole images and makes no anomaly maps: none to color")
        if self.calibration_ is None:
            return scale_of_maps(threshold, (None, None), self.threshold_serves_maps)
        return self.calibration_.color_scale(threshold, self.threshold_serves_maps)

    def with_scale(self, prediction: Prediction) -> Prediction:
        """The prediction with the threshold that decides, what a region is, and the scale of its pictures."""
        calibration = self.calibration_
        if calibration is not None:
            prediction = replace(prediction, threshold=calibration.deciding_threshold, decides=calibration.decides)
        try:
            scale, limit = self.color_scale()
        except InputError:
            return prediction
        return replace(prediction, scale=scale, map_threshold=limit, region_rule=self.region_rule())

    def region_rule(self, threshold: float | None = None) -> RegionRule:
        """What a region of a map is: by the region threshold and its least area, or as :meth:`color_scale` has it."""
        _, limit = self.color_scale(threshold)
        return RegionRule(limit) if self.calibration_ is None else self.calibration_.region_rule(threshold, limit)

    # -- state -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write the fitted detector as one safetensors file."""

    @abstractmethod
    def size_in_bytes(self) -> int:
        """Size of the fitted arrays as :meth:`save` would write them, without the backbone's weights."""

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words, by titles of at most ten letters."""
        return {"fitted": type(self).__name__}

    def notes_of_fit(self) -> list[str]:
        """What a reader of figures should know of the fit; here nothing."""
        return []

    def scoring_network(self) -> nn.Module:
        """The fitted detector as a module of plain tensor operations, after the backbone, for an export.

        Its ``forward(maps, images)`` takes the maps (N, C_l, H_l, W_l) of the backbone's layers, a list of float32,
        and the images (N, 3, H, W) in [0, 1]. It gives scores (N,), and maps (N, H, W) or None. Where there is none,
        as here, or no fit, an InputError says so.
        """
        name = getattr(self, "name", type(self).__name__)
        raise InputError(f"a detector {name} cannot be exported: it gives no scoring network; choose another detector")

    # -- parameters --------------------------------------------------------------------------------------------------

    @property
    def config(self) -> Any:
        """The constructor's arguments as they are now, frozen."""
        return FrozenConfig({name: getattr(self, name) for name in parameter_names(type(self))})

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name; with ``deep`` also those of arguments that have some, as ``a__b``."""
        own = dict(vars(self.config))
        return own | nested_parameters(own) if deep else own

    def set_params(self, **parameters: Any) -> Self:
        """Change constructor arguments; what was made or fitted with other values is forgotten: :meth:`reset_fit`.

        Raises
        ------
        ValueError
            If a name is no argument of the constructor; nothing is changed then.
        """
        changed = set_arguments(self, parameters)
        if changed:
            self.reset_fit(changed)
        return self

    def reset_fit(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed: here, the threshold."""
        self.calibration_ = None

    def __repr__(self) -> str:
        """The call of the constructor, without arguments that are as by default; and what was fitted."""
        return constructor_call(self) + self._fitted_on()

    def _fitted_on(self) -> str:
        n, size = getattr(self, "n_images_", None), getattr(self, "image_size_", None)
        if n is None or not getattr(self, "__sklearn_is_fitted__", lambda: False)():
            return ""
        pixels = "" if size is None else f" of {size[0]}x{size[1]}"
        threshold = "no threshold" if self.threshold_ is None else f"threshold {self.threshold_:.4g}"
        return f"  # fitted on {number_of(n, 'normal image')}{pixels}, {threshold}"

    # Two detectors are never one, whatever the dataclass of their parameters says.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __sklearn_tags__(self) -> Any:
        return tags_of_outlier_detectors()
