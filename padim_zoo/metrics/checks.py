"""What labels, scores and anomaly maps must look like before a metric is computed from them."""

from __future__ import annotations

import numpy as np

from padim_zoo.core.errors import InputError


def check_labels(labels: np.ndarray) -> np.ndarray:
    """Labels of N images as bool (N,), True for anomalous.

    Raises
    ------
    InputError
        If they are not one row of 0 and 1.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"labels of shape {labels.shape} hold {', '.join(map(str, np.unique(labels)[:5]))}: "
            "expected one row of 0 (normal) and 1 (anomalous)"
        )
    return labels.astype(bool)


def check_scores(scores: np.ndarray, count: int) -> np.ndarray:
    """Scores of ``count`` images, as floats.

    Raises
    ------
    InputError
        If their number is another, or one is NaN or infinite.
    """
    scores = _as_float(scores)
    if scores.shape != (count,):
        raise InputError(f"scores of shape {scores.shape} do not fit {count} images: expected one score per image")
    _refuse_non_finite("scores", np.isfinite(scores))
    return scores


def check_maps(maps: np.ndarray, count: int) -> np.ndarray:
    """Anomaly maps of ``count`` images (count, H, W), as floats.

    Raises
    ------
    InputError
        If the shape is another, or a value is NaN or infinite.
    """
    maps = _as_float(maps)
    if maps.ndim != 3 or len(maps) != count:
        raise InputError(f"anomaly maps of shape {maps.shape} do not fit {count} images: expected ({count}, H, W)")
    _refuse_non_finite("anomaly maps", np.array([bool(np.isfinite(one).all()) for one in maps], dtype=bool))
    return maps


def _as_float(values: np.ndarray) -> np.ndarray:
    """Float32 and float64 as they are; anything else as float64, which holds it exactly."""
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _refuse_non_finite(what: str, finite: np.ndarray) -> None:
    if not finite.all():
        images = np.flatnonzero(~finite)
        raise InputError(
            f"the {what} of {len(images)} of {len(finite)} images, the first at index {images[0]}, "
            "hold NaN or infinity: a detector must give finite numbers"
        )
