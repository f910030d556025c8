"""How usual poses are: conformal p-values by the distance from the nearest pose of a normal image.

Angle and shift each have a p-value. It is the share of normal poses that are as far from all others, or farther. No
rank tells p-values below that of the farthest one. Beyond it a tail goes on that falls as the inverse of the distance:
few poses say little of what lies far beyond them, and a lighter tail promises more than they can hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LEAST_SPREAD = 0.1
"""Of normal distances between poses, as a share of the largest."""

LEAST_GROUPS = 3
"""Different normal images with a pose; of fewer, no pose is unusual."""


@dataclass(frozen=True)
class NormalPoses:
    """The poses of n normal images, with which others are compared.

    Attributes
    ----------
    poses : ndarray (n, 3), float32
        Angle in radians, shift to the right, shift down. Zero of an image whose pose was not found.
    distances : ndarray (n, 2), float32
        How far the angle and the shift of each are from the nearest ones of images that it is compared with.
    groups : ndarray (n,), int, or None
        Equal for images that show one thing, of which each counts as one image. None where all differ.
    """

    poses: np.ndarray
    distances: np.ndarray
    groups: np.ndarray | None = None

    @cached_property
    def _known(self) -> np.ndarray:
        return np.asarray((self.poses != 0).any(1) & np.isfinite(self.distances).all(1))

    @cached_property
    def _group_of(self) -> np.ndarray:
        groups = np.arange(len(self.poses)) if self.groups is None else self.groups
        return np.asarray(np.unique(groups[self._known], return_inverse=True)[1])

    @cached_property
    def _ranks(self) -> tuple[_Ranks, ...]:
        weights = 1 / np.bincount(self._group_of)[self._group_of] if self._known.any() else np.empty(0)
        return tuple(_Ranks.of(column, weights) for column in self.distances[self._known].T)

    @property
    def _are_few(self) -> bool:
        return len(np.unique(self._group_of)) < LEAST_GROUPS

    def p_values(self, poses: np.ndarray) -> np.ndarray:
        """How usual the poses (k, 3) of other images are, (k,), float64.

        Angle and shift each have a p-value, and the smaller counts twice.
        """
        if self._are_few:
            return np.ones(len(poses))
        nearest = nearest_distances(poses, self.poses[self._known])
        both = [ranks.p_values(column) for ranks, column in zip(self._ranks, nearest.T, strict=True)]
        return np.asarray(np.minimum(1, 2 * np.minimum(*both)))

    def own_p_values(self) -> np.ndarray:
        """How usual each normal pose is among those of other groups, (n,), float64; 1 of one that was not found."""
        result = np.ones(len(self.poses))
        if self._are_few:
            return result
        own, both = self.distances[self._known], np.empty((2, len(self._group_of)))
        for p_values, ranks, column in zip(both, self._ranks, own.T, strict=True):
            for group in _members(self._group_of):
                p_values[group] = ranks.without(group).p_values(column[group])
        result[self._known] = np.minimum(1, 2 * both.min(0))
        return result


@dataclass(frozen=True)
class _Ranks:
    """Distances (n,) of normal poses, ascending.

    Attributes
    ----------
    ascending : ndarray (n,)
    weights : ndarray (n,)
        One over the size of their groups.
    places : ndarray (n,)
        Of each pose among them.
    """

    ascending: np.ndarray
    weights: np.ndarray
    places: np.ndarray

    @staticmethod
    def of(distances: np.ndarray, weights: np.ndarray) -> _Ranks:
        order = np.argsort(distances, kind="stable")
        return _Ranks(distances[order], weights[order], np.argsort(order))

    def without(self, images: np.ndarray) -> _Ranks:
        """Without those of some images, for which others have no place."""
        out = self.places[images]
        return _Ranks(np.delete(self.ascending, out), np.delete(self.weights, out), out[:0])

    def p_values(self, distances: np.ndarray) -> np.ndarray:
        """The p-values of other distances (k,)."""
        ascending, highest = self.ascending, self.ascending[-1]
        groups = self.weights.sum()
        from_here = np.append(np.cumsum(self.weights[::-1])[::-1], 0)
        ranks = (1 + from_here[np.searchsorted(ascending, distances)]) / (1 + groups)
        spread = max(float(ascending.std()), LEAST_SPREAD * float(highest), 1e-6)
        return np.asarray(ranks / (1 + np.maximum(distances - highest, 0) / spread))


def nearest_distances(poses: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far the angle and the shift of poses (k, 3) are from the nearest ones of others (n, 3): (k, 2), float32."""
    poses, others = poses.astype(np.float64), others.astype(np.float64)
    if not len(others):
        return np.full((len(poses), 2), np.nan, dtype=np.float32)
    turns = np.abs((poses[:, None, 0] - others[None, :, 0] + np.pi) % (2 * np.pi) - np.pi)
    x, y = (poses[:, None, axis] - others[None, :, axis] for axis in (1, 2))
    return np.stack([turns.min(1), np.hypot(x, y).min(1)], 1).astype(np.float32)


def distances_between(poses: np.ndarray, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """How far normal poses (n, 3) are from the nearest ones of some others, (n, 2), float32.

    Parameters
    ----------
    poses : ndarray (n, 3), float32
        Zero of an image whose pose was not found: it is near to none.
    parts : iterable of (ndarray, ndarray)
        Images, by their indices, and those that they are compared with.
    """
    found = (poses != 0).any(1)
    result = np.full((len(poses), 2), np.nan, dtype=np.float32)
    for images, others in parts:
        result[images] = nearest_distances(poses[images], poses[others[found[others]]])
    result[~found] = np.nan
    return result


def _members(group_of: np.ndarray) -> list[np.ndarray]:
    """The images of each group, by the group (n,) of each."""
    order = np.argsort(group_of, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group_of))[:-1])
