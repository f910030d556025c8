"""The contract of every detector: images in, anomaly scores and maps out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.errors import InputError
from padim_zoo.features import Features

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
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
    """

    scores: np.ndarray
    maps: np.ndarray | None
    threshold: float | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def concatenate(parts: Sequence[Prediction]) -> Prediction:
        """What was said of some images, and of others, by one detector."""
        maps = [part.maps for part in parts if part.maps is not None]
        return Prediction(
            np.concatenate([part.scores for part in parts]), np.concatenate(maps) if maps else None, parts[0].threshold
        )

    @property
    def anomalous(self) -> np.ndarray | None:
        """The decision of each image, bool (N,), or None without a threshold."""
        return None if self.threshold is None else self.scores > self.threshold


class Detector(ABC):
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

    def fit(self, images: Any) -> Self:
        """Fit on normal images, forgetting any earlier fit."""
        return self.fit_features(self.extract_normal(images))

    def predict(self, images: Any) -> Prediction:
        """Score images."""
        return self.predict_features(self.extract(images))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name, as scikit-learn's estimators give them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **parameters: Any) -> Self:
        """Change constructor arguments; what was made or fitted with other values is forgotten: :meth:`forget`.

        Raises
        ------
        ValueError
            If a name is no argument of the constructor; nothing is changed then.
        """
        known = self.get_params()
        for name in parameters:
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}: expected one of {', '.join(known)}")
        changed = {name for name, value in parameters.items() if value is not known[name] and value != known[name]}
        for name, value in parameters.items():
            setattr(self, name, value)
        if changed:
            self.forget(changed)
        return self

    def forget(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed: here, the threshold."""
        self.calibration_ = None
