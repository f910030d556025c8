"""What a detector remembers of the normal images of its fit: one record, which updates, merges and files go through."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.backbones.weight_provenance import count_adapted
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import FieldError, Fields
from padim_zoo.core.shard import Shard
from padim_zoo.data.image_groups import ImageGroups
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.detectors.storage import DetectorFile

HASHES = "learned_images"
"""The array of the hashes in a file."""
GROUPS = "groups"
"""What the arrays of the groups are called: ``groups.numbers`` and ``groups.names``."""


@dataclass(frozen=True)
class LearnedImages:
    """The normal images of a fit, in their order.

    Attributes
    ----------
    n : int
    hashes : ndarray (n,), int64, or None
        Of their pixels, see :mod:`padim_zoo.data.image_hashes`. None where features were fitted, or all that is known
        is an imported model.
    groups : ImageGroups or None
        Which of them show one thing, as far as that was told or found; None where nothing was.
    adapted : int
        How many of them the weights of the backbone were adapted to, so far as that is known.
    shards : frozenset of Shard
        The parts of a larger set that they are; empty where they are all.
    """

    n: int = 0
    hashes: np.ndarray | None = None
    groups: ImageGroups | None = None
    adapted: int = 0
    shards: frozenset[Shard] = frozenset()

    @property
    def missing_shards(self) -> list[Shard]:
        """The parts that are not among these images, in order."""
        count = max((shard.count for shard in self.shards), default=0)
        return sorted({Shard(number, count) for number in range(1, count + 1)} - self.shards)

    @property
    def all_groups(self) -> ImageGroups:
        """The groups of all images, which all differ where nothing else is known."""
        return self.groups or ImageGroups.apart(self.n)

    def with_groups(self, groups: ImageGroups) -> LearnedImages:
        """The same images in other groups."""
        return replace(self, groups=groups.told)

    def with_added(
        self, hashed: HashedImages, adapted_to: Collection[str], groups: ImageGroups | np.ndarray | None = None
    ) -> LearnedImages:
        """With the images of a later fit, which were gone through.

        Parameters
        ----------
        hashed : HashedImages
        adapted_to : collection of str
            The hashes of the images that the weights were adapted to.
        groups : ImageGroups or ndarray (n,), int, optional
            As of :meth:`~padim_zoo.data.image_groups.ImageGroups.with_added`.

        Raises
        ------
        InputError
            If there is not one group for each image.
        """
        if groups is not None or self.groups is not None:
            groups = self.all_groups.with_added(groups, hashed)
        new = hashed.hashes()
        hashes = new if self.n == 0 else None if self.hashes is None else np.concatenate([self.hashes, new])
        adapted = self.adapted + count_adapted(adapted_to, hashed.paths)
        return replace(self, n=self.n + len(new), hashes=hashes, groups=groups, adapted=adapted)

    def without(self, forgotten: np.ndarray, adapted: int = 0) -> LearnedImages:
        """Without some images (n,), bool, of which ``adapted`` are among those that the weights were adapted to."""
        stays = np.flatnonzero(~forgotten)
        hashes = None if self.hashes is None else self.hashes[stays]
        groups = self.all_groups.some(stays).told
        return replace(self, n=len(stays), hashes=hashes, groups=groups, adapted=max(0, self.adapted - adapted))

    def refuse_another_cut(self, other: LearnedImages) -> None:
        """Refuse to join parts of sets that were cut otherwise.

        Raises
        ------
        InputError
            Naming all parts.
        """
        shards = self.shards | other.shards
        if len({shard.count for shard in shards}) > 1:
            raise InputError(
                f"they are shards {', '.join(map(str, sorted(shards)))}: expected parts of one cut, such as 1/3 and 2/3"
            )

    def merged(self, other: LearnedImages, images: np.ndarray) -> LearnedImages:
        """Some of these images and, behind them, of those of another fit, by their indices among all."""
        groups, hashes = self.all_groups.followed_by(other.all_groups), None
        if self.hashes is not None and other.hashes is not None:
            both = np.concatenate([self.hashes, other.hashes])
            groups, hashes = groups.joined(both), both[images]
        # Which of the images of both were adapted to is not told: these may count twice, but not beyond all.
        adapted = self.adapted * bool((images < self.n).any()) + other.adapted * bool((images >= self.n).any())
        return LearnedImages(
            len(images), hashes, groups.some(images).told, min(adapted, len(images)), self.shards | other.shards
        )

    def to_file(self, adapted_to: Collection[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Header and arrays that :meth:`in_file` reads."""
        header: dict[str, Any] = {"n_images": self.n}
        arrays: dict[str, Tensor] = {}
        if self.hashes is not None:
            arrays[HASHES] = torch.from_numpy(self.hashes)
        if self.groups is not None:
            header["groups_pattern"] = self.groups.pattern
            # A copy: the calibration may have the same array, and no two in a file share memory.
            arrays[f"{GROUPS}.numbers"] = torch.tensor(self.groups.numbers)
            arrays[f"{GROUPS}.names"] = torch.from_numpy(self.groups.names)
        if self.missing_shards:
            header["shards"] = [str(shard) for shard in sorted(self.shards)]
        if adapted_to:
            header |= {"adapted_to": sorted(adapted_to), "adapted_images": self.adapted}
        return header, arrays

    @classmethod
    def in_file(cls, file: DetectorFile) -> LearnedImages:
        """The images that a file holds.

        Raises
        ------
        FieldError
            If it does not hold one number for each.
        """
        fields = Fields(file.header)
        n = fields.whole("n_images")
        hashes = file.arrays(HASHES).get("")
        groups = {f"{GROUPS}.{name}": array for name, array in file.arrays(f"{GROUPS}.").items()}
        for name, array in {**groups, **({} if hashes is None else {HASHES: hashes})}.items():
            if array.dtype != torch.int64 or list(array.shape) != [n]:
                raise FieldError(f"{name} are not one number for each of {n} images")
        return cls(
            n,
            None if hashes is None else hashes.numpy(),
            ImageGroups(
                groups[f"{GROUPS}.numbers"].numpy(),
                groups[f"{GROUPS}.names"].numpy(),
                fields.or_none("groups_pattern", fields.text),
            )
            if groups
            else None,
            file.header.get("adapted_images", 0),
            _shards_in(file.header.get("shards", [])),
        )


def _shards_in(stored: Any) -> frozenset[Shard]:
    """The parts that a file names.

    Raises
    ------
    FieldError
        If they are no parts of one cut.
    """
    listed = stored if isinstance(stored, list) else [stored]
    try:
        shards = frozenset(map(Shard.parse, listed))
    except (TypeError, ValueError):
        shards = frozenset()
    if len(shards) != len(listed) or len({shard.count for shard in shards}) > 1:
        raise FieldError(f"shards is {stored!r}: expected parts of one cut, such as 1/3 and 2/3")
    return shards
