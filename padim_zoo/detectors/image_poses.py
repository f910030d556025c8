"""Where the parts of images lie, for those who read predictions: turns, shifts and how usual they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from padim_zoo.detectors.normal_poses import NormalPoses


@dataclass(frozen=True)
class ImagePoses:
    """The poses that were found of N images; NaN of an image that fits the mean image no better than chance.

    Attributes
    ----------
    turn : ndarray (N,), float64
        Degrees, clockwise.
    shift_x, shift_y : ndarray (N,), float64
        To the right and down, in pixels of the transformed image.
    pose_p_value : ndarray (N,), float64
        How likely a normal part is to lie as far from all other normal ones, or farther.
    """

    turn: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray
    pose_p_value: np.ndarray

    @staticmethod
    def of(poses: Tensor, normal: NormalPoses) -> ImagePoses:
        """Of poses (N, 3) that a registration found, compared with normal ones."""
        import numpy as np  # here, so that the names of the columns are had without it

        found = poses.numpy()
        values = np.concatenate([found.astype(np.float64), normal.p_values(found)[:, None]], 1)
        values[~(found != 0).any(1)] = np.nan
        angle, x, y, p_value = values.T
        return ImagePoses(np.rad2deg(angle), x, y, p_value)

    @staticmethod
    def concatenate(parts: Sequence[ImagePoses | None]) -> ImagePoses | None:
        """Of all images of several parts; None if one of them has no poses."""
        import numpy as np

        known = [astuple(part) for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return ImagePoses(*map(np.concatenate, zip(*known, strict=True)))

    def images(self, positions: np.ndarray) -> ImagePoses:
        """Of some images (m,), int64."""
        return ImagePoses(*(each[positions] for each in astuple(self)))

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of a table with a row for each image."""
        return dict(zip(POSE_COLUMNS, astuple(self), strict=True))


POSE_COLUMNS = tuple(field.name for field in fields(ImagePoses))
