"""What may happen to the images of a line: changed light, blur, compression, noise, a camera that has moved.

A corruption changes an image by an exact amount, after the resize and before the crop. So an amount means the same for
images of any size, and what a small move brings into the crop is the image itself. Beyond its edge it is mirrored.
Masks stay as they are: of corrupted images only the image decisions are looked at.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from padim_zoo.core.errors import InputError
from padim_zoo.data.view import View

Pixels = np.ndarray
"""An image (H, W, 3), uint8."""


@dataclass(frozen=True)
class CorruptionKind:
    """A row of :data:`CORRUPTIONS`.

    Attributes
    ----------
    name : str
    unit : str
        What an amount counts, for messages and axes.
    low, high : float
        The range of amounts.
    apply : callable
        Image and amount to the changed image.
    clean : float
        The amount at which nothing is changed. It is refused.
    whole : bool
        Amounts are whole numbers.
    acts_on : str
        How it acts in finer pixels. ``"shares"``: in the same way; ``"lengths"``: by so many times the amount;
        ``"pixels"``: what it changes in the pixels that were asked for is changed in all finer ones within.
    """

    name: str
    unit: str
    low: float
    high: float
    apply: Callable[[Pixels, float], Pixels]
    clean: float = 0.0
    whole: bool = False
    acts_on: str = "shares"

    @property
    def expected(self) -> str:
        """The amounts in words."""
        number = "a whole number" if self.whole else "a number"
        return f"{self.unit}, {number} from {self.low:g} to {self.high:g}, not {self.clean:g}"


def _viewed(view_of: Callable[[float], View]) -> Callable[[Pixels, float], Pixels]:
    """A corruption that is a view of the whole image."""

    def apply(image: Pixels, amount: float) -> Pixels:
        height, width = image.shape[:2]
        return view_of(amount).image(image, (0, 0, height, width))

    return apply


def _blur(image: Pixels, sigma: float) -> Pixels:
    return _rounded(gaussian_filter(image.astype(np.float32), (sigma, sigma, 0), mode="reflect"))


def _compress(image: Pixels, quality: float) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
    with Image.open(buffer) as compressed:
        return np.asarray(compressed)


def _add_noise(image: Pixels, deviation: float) -> Pixels:
    # Drawn by the image's own pixels, so that neither order nor batch nor process changes the noise.
    content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
    rng = np.random.default_rng(np.frombuffer(content, dtype=np.uint32).tolist())
    return _rounded(image + rng.normal(0, 255 * deviation, image.shape))


def _rounded(values: np.ndarray) -> Pixels:
    return np.asarray(np.rint(values).clip(0, 255), dtype=np.uint8)


def _repeated(pixels: np.ndarray, times: int) -> np.ndarray:
    return pixels.repeat(times, 0).repeat(times, 1)


# fmt: off
_ROWS = (
    CorruptionKind("brightness", "share added to all pixels", -0.9, 0.9, _viewed(lambda a: View(brightness=1 + a))),
    CorruptionKind("contrast", "share added to distances from the mean", -0.9, 0.9,
                   _viewed(lambda a: View(contrast=1 + a))),
    CorruptionKind("blur", "sigma in pixels", 0, 32, _blur, acts_on="lengths"),
    CorruptionKind("jpeg", "quality", 1, 95, _compress, clean=100, whole=True, acts_on="pixels"),
    CorruptionKind("noise", "standard deviation, of white", 0, 1, _add_noise, acts_on="pixels"),
    CorruptionKind("translate", "share of width and height, right and down", -0.5, 0.5,
                   _viewed(lambda a: View(translation=(a, a)))),
    CorruptionKind("rotate", "degrees counter-clockwise", -180, 180, _viewed(lambda a: View(angle=a))),
)
# fmt: on

CORRUPTIONS = {kind.name: kind for kind in _ROWS}
"""All corruptions by name: one row for each."""


@dataclass(frozen=True)
class Corruption:
    """One corruption by one amount.

    Attributes
    ----------
    name : str
        Of :data:`CORRUPTIONS`.
    amount : float
    """

    name: str
    amount: float

    def __str__(self) -> str:
        return f"{self.name}({self.amount:g})"

    def apply(self, resized: Pixels, finer: int = 1, *, detailed: bool = True) -> Pixels:
        """The corrupted image, of the same size.

        Parameters
        ----------
        resized : ndarray (H, W, 3), uint8
            The image after its resize and before its crop.
        finer : int
            Its pixels along a side for each one that was asked for, which amounts count.
        detailed : bool
            Whether it has so fine pixels of its own; of other images each pixel is repeated.
        """
        kind = CORRUPTIONS[self.name]
        if finer == 1:
            return kind.apply(resized, self.amount)
        if not detailed:
            return _repeated(kind.apply(resized[::finer, ::finer], self.amount), finer)
        if kind.acts_on == "pixels":
            height, width, channels = resized.shape
            asked = _rounded(resized.reshape(height // finer, finer, width // finer, finer, channels).mean((1, 3)))
            change = kind.apply(asked, self.amount).astype(np.int16) - asked
            return _rounded(resized + _repeated(change, finer))
        return kind.apply(resized, self.amount * finer if kind.acts_on == "lengths" else self.amount)


@dataclass(frozen=True)
class CorruptedFile:
    """The image in a file, corrupted; taken wherever images are.

    Attributes
    ----------
    path : Path
    corruption : Corruption
    """

    path: Path
    corruption: Corruption


def parse_corruptions(option: str, text: Any) -> tuple[Corruption, ...]:
    """Read ``"brightness(0.2),blur(1,2,4)"``.

    Raises
    ------
    InputError
        If something is unknown, twice there, or an amount is missing, no number or out of range.
    """
    if not isinstance(text, str):
        raise InputError(f"{option} is {text!r}: expected text, e.g. brightness(0.2),blur(1,2,4)")
    corruptions: list[Corruption] = []
    for part in re.split(r",(?![^(]*\))", text):
        match = re.fullmatch(r"([a-z]+)(?:\(([^()]*)\))?", part.strip())
        kind = CORRUPTIONS.get(match[1]) if match else None
        if match is None or kind is None:
            known = ", ".join(f"{name}(…)" for name in CORRUPTIONS)
            raise InputError(f"{option} has {part.strip()!r}: expected {known}, comma-separated")
        if any(corruption.name == kind.name for corruption in corruptions):
            raise InputError(f"{option} has {kind.name} twice: give all amounts at once, {kind.name}({kind.high:g},…)")
        amounts = [_amount(option, part.strip(), kind, word) for word in (match[2] or "").split(",")]
        corruptions += [Corruption(kind.name, amount) for amount in sorted(set(amounts))]
    return tuple(corruptions)


def _amount(option: str, part: str, kind: CorruptionKind, word: str) -> float:
    try:
        amount = float(word)
    except ValueError:
        amount = math.nan
    if not kind.low <= amount <= kind.high or amount == kind.clean or (kind.whole and amount != int(amount)):
        raise InputError(f"{option} has {part!r}: expected {kind.name}({kind.expected}); several are separated by ,")
    return amount


def canonical_corruptions(option: str, text: str) -> str:
    """One spelling for equal corruptions: ``blur(2, 1.0)`` is ``blur(1,2)``."""
    by_name = groupby(parse_corruptions(option, text), key=lambda corruption: corruption.name)
    return ",".join(f"{name}({','.join(f'{part.amount:g}' for part in parts)})" for name, parts in by_name)
