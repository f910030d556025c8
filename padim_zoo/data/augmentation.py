"""Which views of an image a fit sees, on several passes, and which an image is scored by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.data.transform import Transform
from padim_zoo.data.view import View as View

OPERATIONS = {
    "flip": None,
    "vflip": None,
    "rotate": 180.0,
    "translate": 0.5,
    "brightness": 0.9,
    "contrast": 0.9,
}
"""What can be done to an image, and the largest amount, or None where there is no amount."""

_MIRRORINGS = ("flip", "vflip")

_EXPECTED = "flip, vflip, rotate(DEGREES), translate(SHARE), brightness(SHARE), contrast(SHARE), comma-separated"


@dataclass(frozen=True)
class Operation:
    """One thing that may be done to an image.

    Attributes
    ----------
    name : str
        Of :data:`OPERATIONS`.
    amount : float
        At most so much of it.
    """

    name: str
    amount: float = 0.0

    def __str__(self) -> str:
        return self.name if OPERATIONS[self.name] is None else f"{self.name}({self.amount!r})".replace(".0)", ")")

    @property
    def moves(self) -> bool:
        """Whether pixels come to lie elsewhere."""
        return self.name not in ("brightness", "contrast")

    def draw(self, view: View, rng: np.random.Generator) -> View:
        """The view with a random amount of this: a mirroring every other time, else anything up to the amount."""
        if self.name in _MIRRORINGS:
            return self._on(view, bool(rng.random() < 0.5))
        if self.name == "translate":
            return self._on(view, tuple(rng.uniform(-self.amount, self.amount, 2).tolist()))
        return self._on(view, float(rng.uniform(-self.amount, self.amount)))

    def extremes(self) -> list[View]:
        """The views with all of it, in every direction."""
        most = self.amount
        values: Sequence[Any] = (-most, most)
        if self.name in _MIRRORINGS:
            values = (True,)
        elif self.name == "translate":
            values = ((-most, 0.0), (most, 0.0), (0.0, -most), (0.0, most))
        return [self._on(View(), value) for value in values]

    def _on(self, view: View, value: Any) -> View:
        if self.name in ("brightness", "contrast"):
            value = 1 + value
        field = {"rotate": "angle", "translate": "translation"}.get(self.name, self.name)
        changed: dict[str, Any] = {field: value}
        return replace(view, **changed)


def parse_operations(option: str, text: Any) -> tuple[Operation, ...]:
    """Read ``"flip,rotate(10),brightness(0.1)"``.

    Raises
    ------
    InputError
        If something is unknown, twice there, or its amount missing or out of range.
    """
    if not isinstance(text, str):
        raise InputError(f"{option} is {text!r}: expected text, {_EXPECTED}")
    operations: list[Operation] = []
    for part in re.split(r",(?![^(]*\))", text):
        match = re.fullmatch(r"([a-z]+)(?:\(\s*([0-9]*\.?[0-9]+)\s*\))?", part.strip())
        if match is None or match[1] not in OPERATIONS:
            raise InputError(f"{option} has {part.strip()!r}: expected {_EXPECTED}")
        name, most = match[1], OPERATIONS[match[1]]
        amount = float(match[2] or 0)
        if most is None and match[2] is not None:
            raise InputError(f"{option} has {part.strip()!r}: expected {name}, without an amount")
        if most is not None and not 0 < amount <= most:
            raise InputError(f"{option} has {part.strip()!r}: expected an amount above 0 and up to {most:g}, {name}(…)")
        if name in {operation.name for operation in operations}:
            raise InputError(f"{option} has {name} twice: expected each at most once")
        operations.append(Operation(name, amount))
    return tuple(operations)


def canonical_operations(option: str, text: str) -> str:
    """One spelling for equal operations: ``flip, rotate(10.0)`` is ``flip,rotate(10)``."""
    return ",".join(map(str, parse_operations(option, text)))


def views_for_scoring(operations: Sequence[Operation]) -> tuple[View, ...]:
    """The views of test-time augmentation: the image itself, and one for every direction of every operation."""
    return (View(), *(view for operation in operations for view in operation.extremes()))


@dataclass(frozen=True)
class Augmentation:
    """Passes over the normal images of a fit: the first shows each as it is, the others a random view of it.

    What is drawn depends on the seed and on the image's own pixels, so that neither the order of the images nor the
    batches nor the other images change it, and a fit that is continued draws what one on all images would.

    Attributes
    ----------
    operations : tuple of Operation
    passes : int
    seed : int
    """

    operations: tuple[Operation, ...] = ()
    passes: int = 1
    seed: int = 0

    def views(self, resized: np.ndarray) -> list[View]:
        """The views of an image, one for each pass."""
        if self.passes == 1:
            return [View()]
        content = hashlib.blake2b(np.ascontiguousarray(resized).data, digest_size=16).digest()
        rng = np.random.default_rng([self.seed, *np.frombuffer(content, dtype=np.uint32).tolist()])
        views = [View()]
        for _ in range(self.passes - 1):
            view = View()
            for operation in self.operations:
                view = operation.draw(view, rng)
            views.append(view)
        return views


@dataclass(frozen=True)
class ViewSet:
    """All views of an image that are wanted: those of the passes of a fit, and those for scoring beyond the first.

    Attributes
    ----------
    augmentation : Augmentation
    others : tuple of View
        The same of every image.
    count : int
        Views of each image.
    """

    augmentation: Augmentation = Augmentation()
    others: tuple[View, ...] = ()
    count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", self.augmentation.passes + len(self.others))

    def of(
        self, resized: np.ndarray, transform: Transform, mask: np.ndarray | None = None, name: str = "image"
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """All views of an image.

        Parameters
        ----------
        resized : ndarray (h', w', 3), uint8
            After the resize and before the crop of the transform.
        transform : Transform
        mask : ndarray (H, W), bool, optional
            Its region of interest, before the resize.
        name : str
            What errors call the image.

        Returns
        -------
        views : ndarray (V, h, w, 3), uint8
        roi_masks : ndarray (V, h, w), bool, or None
            The pixels of each view that are of the region of interest. Without one, those of the views for scoring
            that are of the image: what is mirrored at its edge is there for the backbone, and does not count. None
            where that is all of them.

        Raises
        ------
        InputError
            If nothing of the mask is left within the crop.
        """
        box = transform.crop_box(*resized.shape[:2])
        views = [*self.augmentation.views(resized), *self.others]
        pixels = np.stack([view.image(resized, box) for view in views])
        if mask is None and not any(view.resamples for view in self.others):
            return pixels, None
        roi_mask = np.ones(resized.shape[:2], dtype=np.uint8) if mask is None else mask.astype(np.uint8)
        roi_mask = transform.resized(roi_mask, Image.Resampling.NEAREST).astype(bool)
        roi_masks = np.stack([view.mask(roi_mask, box) for view in views])
        if mask is None:
            roi_masks[: self.augmentation.passes] = True
        elif not roi_masks[0].any():
            raise InputError(
                f"the region of interest of {name} has no pixel left within the crop: expected one that reaches into "
                "it; check the mask, or use a larger crop (--crop none)"
            )
        return pixels, None if roi_masks.all() else roi_masks


AS_IT_IS = ViewSet()
"""The image as it is, and no other view."""
