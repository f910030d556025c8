"""Which images of a fit show one thing, kept so that a later fit or merge can go on from it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.data.duplicates import find_duplicates, names_by_pattern
from padim_zoo.data.groups import joined_groups, numbered_groups
from padim_zoo.data.image_hashes import HashedImages, KeptFingerprints


@dataclass(frozen=True)
class ImageGroups:
    """The groups of n images, in the order of the fit.

    Attributes
    ----------
    numbers : ndarray (n,), int64
        Equal for images that show one thing.
    names : ndarray (n,), int64
        Hashes of the names that the pattern gives; 0 of an image without one. Equal names are one group, whenever
        the images were fitted.
    pattern : str or None
        The regular expression on paths that gave the names.
    """

    numbers: np.ndarray
    names: np.ndarray
    pattern: str | None = None

    @classmethod
    def of(cls, paths: Sequence[Path], pattern: str | None, kept: KeptFingerprints | None = None) -> ImageGroups:
        """Groups of copies, and of what a pattern names alike; a path without a match has no name, with a warning."""
        numbers = find_duplicates(paths, kept).groups
        if pattern is None:
            return cls.of_numbers(numbers)
        found = names_by_pattern(paths, pattern)
        unnamed = [path for path, name in zip(paths, found, strict=True) if name is None]
        if unnamed:
            warnings.warn(
                f"the groups {pattern!r} of the model match nothing in {len(unnamed)} of {len(paths)} paths, e.g. "
                f"{unnamed[0]}: apart from copies, each of these images counts as a group of its own",
                stacklevel=2,
            )
        names = np.array([0 if name is None else _hash(name) for name in found], dtype=np.int64)
        return cls(numbers, names, pattern)._with_names_joined()

    @classmethod
    def of_numbers(cls, numbers: np.ndarray) -> ImageGroups:
        """Groups without names."""
        numbers = np.asarray(numbers, dtype=np.int64)
        return cls(numbers, np.zeros_like(numbers))

    @classmethod
    def apart(cls, n: int) -> ImageGroups:
        """Images that all differ."""
        return cls.of_numbers(np.arange(n))

    @property
    def told(self) -> ImageGroups | None:
        """These groups, or None where they tell nothing: all images differ, and a pattern names none."""
        says_something = self.pattern is not None or len(np.unique(self.numbers)) < len(self.numbers)
        return self if says_something else None

    def some(self, images: np.ndarray) -> ImageGroups:
        """Those of some of the images, by their indices."""
        return replace(self, numbers=numbered_groups(self.numbers[images].tolist()), names=self.names[images])

    def joined(self, numbers: np.ndarray) -> ImageGroups:
        """With other groups (n,) of the same images kept together too."""
        return replace(self, numbers=joined_groups(self.numbers, numbers))

    def followed_by(self, others: ImageGroups) -> ImageGroups:
        """With other images after these; of two patterns the first stays, and names by the second go."""
        offset = self.numbers.max(initial=-1) + 1 - others.numbers.min(initial=0)
        numbers = np.concatenate([self.numbers, others.numbers + offset])
        other_names = others.names if self.pattern in (None, others.pattern) else np.zeros_like(others.names)
        names = np.concatenate([self.names, other_names])
        return ImageGroups(numbers, names, self.pattern or others.pattern)._with_names_joined()

    def with_added(self, groups: ImageGroups | np.ndarray | None, hashed: HashedImages) -> ImageGroups | None:
        """These groups and those of the images of a later fit, which were gone through; None where they tell nothing.

        Parameters
        ----------
        groups : ImageGroups or ndarray (n,), int, or None
            Of all n images that were given, with those that were passed over. None where they all differ.
        hashed : HashedImages

        Raises
        ------
        InputError
            If there is not one for each image that was given.
        """
        n = len(hashed.positions) + hashed.passed_over
        if groups is None:
            groups = ImageGroups.apart(n)
        elif not isinstance(groups, ImageGroups):
            groups = ImageGroups.of_numbers(groups)
        if len(groups.numbers) != n:
            raise InputError(f"there are {len(groups.numbers)} groups of {n} images: expected one for each")
        return self.followed_by(groups.some(np.array(hashed.positions, dtype=np.int64))).told

    def _with_names_joined(self) -> ImageGroups:
        by_name = [("name", name) if name else ("image", index) for index, name in enumerate(self.names.tolist())]
        return self.joined(numbered_groups(by_name))


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big", signed=True)
