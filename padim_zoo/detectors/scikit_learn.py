"""Labels and tags as scikit-learn's outlier detectors have them: 1 for a normal image and -1 for an anomalous one.

Here, and nowhere else in the package, labels are these. Labels 0 and 1 are refused, for they would be taken the wrong
way round without anybody's notice.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.data.files import normal_image_files
from padim_zoo.data.sample import Sample

NORMAL, ANOMALOUS = 1, -1
"""Labels of images, as scikit-learn's outlier detectors have them."""


def tags_of_outlier_detectors() -> Any:
    """What scikit-learn asks of an outlier detector whose samples are images or their paths."""
    from sklearn.utils import InputTags, Tags, TargetTags

    images = InputTags(two_d_array=False, string=True)
    return Tags(estimator_type="outlier_detector", target_tags=TargetTags(required=False), input_tags=images)


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
        values = ", ".join(sorted(map(str, set(labels.ravel().tolist())))[:6])
        raise InputError(
            f"y has the values {values}: expected scikit-learn's labels of outliers, one per image, 1 for normal and "
            "-1 for anomalous ones; labels 0 and 1 become these by numpy.where(y, -1, 1)"
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
        If there is none, the labels do not fit the images, or a folder of images holds others too.
    """
    if _stands_for_files(images):
        return normal_image_files([images])
    if y is None and isinstance(images, (list, tuple)) and any(map(_stands_for_files, images)):
        return normal_image_files(images)
    labels = labels_of(images, y)
    if labels is None or (labels == NORMAL).all():
        return images
    indices = np.flatnonzero(labels == NORMAL)
    if not len(indices):
        raise InputError(f"all {len(labels)} images are labeled anomalous: expected normal images to fit on")
    return images[indices] if hasattr(images, "shape") else [images[index] for index in indices]


def _stands_for_files(image: Any) -> bool:
    """Whether it is a folder or a pattern; files that are named one by one are taken as they are."""
    if not isinstance(image, (str, Path)):
        return False
    return Path(image).is_dir() or (glob.has_magic(str(image)) and not Path(image).exists())
