"""The contract of every detector: images in, anomaly scores and maps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.scikit_learn import ScikitLearnEstimator, normal_images
from padim_zoo.features.features import Features
from padim_zoo.pictures.colormap import Scale, scale_of_maps

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, repr=False)
class Prediction:
    """What a detector says of N images.

    Attributes
    ----------
    scores : ndarray (N,), float32
        Anomaly score of each image; larger is more anomalous.
    maps : ndarray (N, H, W), float32, or None
        Anomaly score of each pixel of the transformed image; None for image-level detectors.
    threshold : float or None
        Images whose score exceeds it are called anomalous; None when the detector has none.
    scale : (low, high) or None
        The scores of the first and the last color of pictures of the maps: :meth:`Detector.color_scale`.
    map_threshold : float or None
        Pixels whose score exceeds it lie within the boundary of such a picture.
    roi_masks : ndarray (N, H, W), bool, or None
        The pixels that were judged, where there is a region of interest; elsewhere maps are 0. None where all were.
    """

    scores: np.ndarray
    maps: np.ndarray | None
    threshold: float | None = None
    scale: Scale | None = None
    map_threshold: float | None = None
    roi_masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def concatenate(parts: Sequence[Prediction]) -> Prediction:
        """What was said of some images, and of others, by one detector."""
        maps = [part.maps for part in parts if part.maps is not None]
        scores = np.concatenate([part.scores for part in parts])
        roi_masks = None
        if maps and any(part.roi_masks is not None for part in parts):
            known = [
                np.ones(some.shape, dtype=bool) if part.roi_masks is None else part.roi_masks
                for some, part in zip(maps, parts, strict=True)
            ]
            roi_masks = np.concatenate(known)
        return replace(parts[0], scores=scores, maps=np.concatenate(maps) if maps else None, roi_masks=roi_masks)

    @property
    def pictured(self) -> np.ndarray | None:
        """The maps for pictures: NaN where nothing was judged."""
        return self.maps if self.maps is None or self.roi_masks is None else np.where(self.roi_masks, self.maps, np.nan)

    def __repr__(self) -> str:
        maps = "no maps" if self.maps is None else f"maps of {'×'.join(map(str, self.maps.shape[1:]))}"
        threshold = "no threshold" if self.threshold is None else f"threshold {self.threshold:.4g}"
        return f"<Prediction of {len(self)} images: {maps}, {threshold}>"

    @property
    def anomalous(self) -> np.ndarray | None:
        """The decision of each image, bool (N,), or None without a threshold."""
        return None if self.threshold is None else self.scores > self.threshold

    def _repr_html_(self) -> str:
        """What a notebook shows: scores, decisions and small pictures of the maps."""
        from padim_zoo.detectors.notebook_view import to_html

        return to_html(self)


class Detector(ScikitLearnEstimator, ABC):
    """An image anomaly detector that learns from normal images only, in scikit-learn's manners.

    Constructor arguments are stored unchanged under their own names; attributes that a fit sets end in ``_``.
    ``fit(images)`` is ``fit_features(extract_normal(images))`` and ``predict(images)`` is
    ``predict_features(extract(images))``, so that several detectors with one :attr:`features_key` can be fitted and
    judged on features that were extracted once.

    Attributes
    ----------
    calibration_ : Calibration or None
        Threshold and what it was made from; None until :meth:`calibrate`.

    Images are anything :func:`padim_zoo.data.loading.batches` takes: paths, PIL images, arrays, tensors, a data loader.
    """

    calibration_: Calibration | None = None
    makes_maps: bool = True
    """Whether predictions have anomaly maps."""
    score_is_map_maximum: ClassVar[bool] = True
    """Whether the score of an image is the maximum of its map, so that one threshold serves both."""
    cache: bool | Caches = False
    """What a detector keeps on disk of image files, if it keeps anything at all."""

    @property
    @abstractmethod
    def transform(self) -> Transform:
        """What happens to an image before the backbone, and to a mask before it is compared with a map."""

    @property
    @abstractmethod
    def features_key(self) -> str:
        """Identity of what :meth:`extract` gives: equal keys mean equal features."""

    @property
    def cache_key(self) -> str | None:
        """Identity of what :meth:`extract` gives, beyond this process and version of the code; None: not to be kept.

        Images with equal bytes have equal features under equal keys, so that they can be read from a disk.
        """
        return None

    @property
    def precision_(self) -> str | None:
        """Floating-point type in which the features of the fit were computed; None where there is but one."""
        return None

    @abstractmethod
    def extract(self, images: Any) -> Features:
        """Features of images, all that a fit or a prediction needs."""

    def extract_normal(self, images: Any) -> Features:
        """Features of normal images: all that a fit, and a prediction of them, need."""
        return self.extract(images)

    @property
    def cache_key_of_normal(self) -> str | None:
        """As :attr:`cache_key`, of :meth:`extract_normal`."""
        return self.cache_key

    @abstractmethod
    def fit_features(self, features: Features) -> Self:
        """Fit on the features of normal images, forgetting any earlier fit."""

    @abstractmethod
    def predict_features(self, features: Features) -> Prediction:
        """Score images by their features."""

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write the fitted detector as one safetensors file."""

    @abstractmethod
    def size_in_bytes(self) -> int:
        """Size of the fitted arrays as :meth:`save` would write them, without the backbone's weights."""

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words, by titles of at most ten letters."""
        return {"fitted": type(self).__name__}

    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold from out-of-fold scores of the normal images of the fit.

        Raises
        ------
        InputError
            If there are too few images for the rate, or the detector makes no threshold, as here.
        """
        raise InputError(f"{type(self).__name__} makes no threshold: give one, e.g. padim-zoo predict --threshold")

    @property
    def threshold_(self) -> float | None:
        """Scores above it are called anomalous; None until :meth:`calibrate`."""
        return None if self.calibration_ is None else self.calibration_.threshold

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

    def predict(self, images: Any) -> Prediction:
        """Score images."""
        return self.with_scale(self.predict_features(self.extract(images)))

    def color_scale(self, threshold: float | None = None) -> tuple[Scale, float]:
        """What the colors of all pictures of this detector's maps rest on.

        They start at the score of a typical normal pixel, or at 0 where the detector knows none, and have the
        threshold at two thirds of the way, where they turn bright.

        Parameters
        ----------
        threshold : float, optional
            Instead of the detector's own.

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
        limit = self.threshold_ if threshold is None else threshold
        known = self.calibration_
        normal = (None, None) if known is None else (known.map_low, known.map_high)
        return scale_of_maps(limit, normal, self.score_is_map_maximum)

    def with_scale(self, prediction: Prediction) -> Prediction:
        """The prediction with the scale of its pictures, where there is one."""
        try:
            scale, limit = self.color_scale()
        except InputError:
            return prediction
        return replace(prediction, scale=scale, map_threshold=limit)

    def reset_fit(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed: here, the threshold."""
        self.calibration_ = None
