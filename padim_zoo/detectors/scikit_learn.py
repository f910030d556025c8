"""What scikit-learn's tools ask of an estimator: parameters that nest, tags, labels, scores that rise with normality.

Here, and nowhere else in the package, labels are those of scikit-learn's outlier detectors, 1 for a normal image and -1
for an anomalous one, and a higher score is more normal. Labels 0 and 1 are refused, for they would be taken the wrong
way round without anybody's notice.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import Sample

if TYPE_CHECKING:
    from typing_extensions import Self

    from padim_zoo.detectors.calibration import Calibration
    from padim_zoo.detectors.detector import Prediction

NORMAL, ANOMALOUS = 1, -1
"""Labels of images, as scikit-learn's outlier detectors have them."""


class ScikitLearnEstimator:
    """Parameters by name, as scikit-learn's estimators have them, and the interface of its outlier detectors."""

    _estimator_type = "outlier_detector"  # for scikit-learn before 1.6, which has no tags
    calibration_: Calibration | None

    # -- parameters --------------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name; with ``deep`` also those of arguments that have some, as ``a__b``."""
        own = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        nested = {
            f"{name}__{inner}": value
            for name, part in own.items()
            if deep and hasattr(part, "get_params") and not isinstance(part, type)
            for inner, value in part.get_params().items()
        }
        return own | nested

    def set_params(self, **parameters: Any) -> Self:
        """Change constructor arguments; what was made or fitted with other values is forgotten: :meth:`reset_fit`.

        Raises
        ------
        ValueError
            If a name is no argument of the constructor; nothing is changed then.
        """
        known = self.get_params(deep=False)
        own = {name: value for name, value in parameters.items() if "__" not in name}
        nested: dict[str, dict[str, Any]] = {}
        for name, value in parameters.items():
            outer, separator, inner = name.partition("__")
            part: Any = own.get(outer, known.get(outer))
            takes = hasattr(part, "set_params") and inner.partition("__")[0] in part.get_params() if separator else True
            if outer not in known or not takes:
                expected = ", ".join(self.get_params())
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}: expected one of {expected}")
            if separator:
                nested.setdefault(outer, {})[inner] = value
        for outer, values in nested.items():  # first, for a part may refuse a value
            own.get(outer, known[outer]).set_params(**values)
        changed = {name for name, value in own.items() if _differ(value, known[name])}
        for name, value in own.items():
            setattr(self, name, value)
        if changed | nested.keys():
            self.reset_fit(changed | nested.keys())
        return self

    @abstractmethod
    def reset_fit(self, changed: Collection[str]) -> None:
        """Drop what rests on parameters that have changed."""

    def __repr__(self) -> str:
        """The call of the constructor, without arguments that are as by default."""
        given = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value, usual = getattr(self, name), parameter.default
            if value is not usual and (type(value) is not type(usual) or value != usual):
                text = repr(value)
                given.append(f"{name}={text if chr(10) not in text else f'<{type(value).__name__}>'}")
        return f"{type(self).__name__}({', '.join(given)})"

    # -- the interface of outlier detectors --------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        images = InputTags(two_d_array=False, string=True)
        return Tags(estimator_type="outlier_detector", target_tags=TargetTags(required=False), input_tags=images)

    @abstractmethod
    def predict(self, images: Any) -> Prediction:
        """Score images."""

    @abstractmethod
    def calibrate(self, *, false_alarm_rate: float | None = None, folds: int = 5) -> Calibration:
        """Set the threshold from normal images only."""

    def score_samples(self, images: Any) -> np.ndarray:
        """Anomaly scores with the opposite sign, (N,), as scikit-learn has them: higher is more normal."""
        return -self.predict(images).scores

    def decision_function(self, images: Any) -> np.ndarray:
        """The threshold less the anomaly scores, (N,), as scikit-learn has it: below 0 is anomalous.

        A detector without a threshold is calibrated first, which takes some fits: :class:`~padim_zoo.Scorer`, which
        only ranks, does not need one.
        """
        calibration = self.calibration_ or self.calibrate()
        return np.asarray(calibration.threshold - self.predict(images).scores.astype(np.float64))


def labels_of(images: Any, y: Any = None) -> np.ndarray | None:
    """Labels (N,) of images, 1 and -1, from ``y`` or from samples that know their own; None where nothing is known.

    Raises
    ------
    InputError
        If ``y`` has other values or another length, or images cannot be counted.
    """
    if y is None:
        if not isinstance(images, Sequence) or not images or not all(isinstance(image, Sample) for image in images):
            return None
        return np.array([ANOMALOUS if sample.label else NORMAL for sample in images])
    labels = np.asarray(y)
    if labels.ndim != 1 or labels.dtype == bool or not set(labels.tolist()) <= {NORMAL, ANOMALOUS}:
        found = ", ".join(sorted(map(str, set(labels.ravel().tolist())))[:6])
        raise InputError(
            f"y has the values {found}: expected scikit-learn's labels of outliers, one per image, 1 for normal and -1 "
            "for anomalous ones; labels 0 and 1 become these by numpy.where(y, -1, 1)"
        )
    if isinstance(images, (str, bytes)) or not hasattr(images, "__len__"):
        raise InputError(f"y labels images one by one, but they are a {type(images).__name__}: expected a list")
    if len(images) != len(labels):
        raise InputError(f"y has {len(labels)} labels for {len(images)} images: expected one per image")
    return labels


def normal_images(images: Any, y: Any = None) -> Any:
    """Those images that are not labeled anomalous; all of them where there are no labels.

    Raises
    ------
    InputError
        If there is none, or the labels do not fit the images.
    """
    labels = labels_of(images, y)
    if labels is None or (labels == NORMAL).all():
        return images
    chosen = np.flatnonzero(labels == NORMAL)
    if not len(chosen):
        raise InputError(f"all {len(labels)} images are labeled anomalous: expected normal images to fit on")
    return images[chosen] if hasattr(images, "shape") else [images[index] for index in chosen]


def _differ(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are not the same; masks may be arrays, whose comparison is no yes or no."""
    if one is other:
        return False
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is not type(other) or not np.array_equal(one, other)
    return bool(one != other)
