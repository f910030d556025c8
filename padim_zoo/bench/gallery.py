"""Pictures of a few test images of a run: the worst misses, the worst false alarms and some at random.

A run keeps them small and ready to show: the image as the backbone saw it, its mask and its anomaly map, some 10 to
20 KB each together, so that a report can be made where neither the data set nor the detector is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import zip_longest

import numpy as np
from PIL import Image, features

from padim_zoo.core.fields import read_json
from padim_zoo.data.image import read_image
from padim_zoo.data.sample import Category
from padim_zoo.data.transform import Transform

PER_REASON = 4
"""Images for each reason to show one."""

IMAGE_SIDE = 256
"""Longest side of an image and a mask that is kept, in pixels."""

MAP_SIDE = 128
"""Longest side of an anomaly map that is kept; maps are smooth, and half the size loses nothing that can be seen."""

_QUALITY = 82
_LOSSY, _LOSSLESS = ("WEBP", "WEBP") if features.check("webp") else ("JPEG", "PNG")
_LEVELS = 255


@dataclass(frozen=True)
class Shown:
    """A test image of a gallery.

    Attributes
    ----------
    index : int
        Its number in the test set.
    name : str
        The last two parts of its path.
    kind : str
        The kind of defect.
    label : int
        0 for a normal image, 1 for an anomalous one.
    score : float
        The mean over the folds.
    reasons : tuple of str
        Why it is shown: ``"miss"``, ``"false alarm"``, ``"random"``.
    """

    index: int
    name: str
    kind: str
    label: int
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """What a run shows.

    Attributes
    ----------
    items : list of Shown
    images : dict of int to bytes
        By index; WebP, or JPEG where Pillow has no WebP.
    masks : dict of int to bytes
        PNG, white where anomalous; only of images that have a mask.
    maps : dict of int to bytes
        Gray and lossless, WebP or PNG: the level ``q`` stands for the score ``low + (q / 255)² (high - low)``, which
        spends more levels on the low scores of normal pixels. Empty for detectors without maps.
    low, high : float
        Of all maps of the run.
    color_low, color_high : float
        The scores that the first and the last color stand for: median and 99.9th percentile of normal pixels.
    colors_from : str
        Which pixels these are: ``"held-out"`` normal images, normal ``"test"`` images where there are no folds, or
        ``"all"`` test images where none is normal.
    score_is_map_maximum : bool
        Whether a threshold of scores is one of maps too.
    """

    items: list[Shown]
    images: dict[int, bytes]
    masks: dict[int, bytes]
    maps: dict[int, bytes]
    low: float = 0.0
    high: float = 0.0
    color_low: float = 0.0
    color_high: float = 0.0
    colors_from: str = "all"
    score_is_map_maximum: bool = True

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As a run store keeps it."""
        about = asdict(self)
        contents = {f"{kind}.{index}": picture for kind in PICTURES for index, picture in about.pop(kind).items()}
        contents["about"] = json.dumps(about, allow_nan=False).encode()
        return {name: np.frombuffer(content, dtype=np.uint8) for name, content in contents.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Gallery:
        """The inverse of :meth:`to_arrays`.

        Raises
        ------
        ValueError, KeyError, TypeError
            If the arrays are none of a gallery.
        """
        contents = {name: array.tobytes() for name, array in arrays.items()}
        about = read_json(contents.pop("about"))
        about["items"] = [Shown(**{**item, "reasons": tuple(item["reasons"])}) for item in about["items"]]
        about |= {kind: {} for kind in PICTURES}
        for name, content in contents.items():
            kind, _, index = name.partition(".")
            about[kind][int(index)] = content
        return cls(**about)


PICTURES = ("images", "masks", "maps")
"""What a gallery holds of each image, where there is one."""


def choose(labels: np.ndarray, scores: np.ndarray, data: str) -> dict[int, tuple[str, ...]]:
    """The images to show, and why.

    Parameters
    ----------
    labels, scores : ndarray (N,)
    data : str
        Hexadecimal fingerprint of the data: all runs on it show the same random images.

    Returns
    -------
    dict
        Indices of the anomalous images of the lowest scores (whether or not they are below any threshold), the normal
        ones of the highest, and a draw of both kinds in turn; the worst first.
    """

    def split(order: np.ndarray) -> tuple[list[int], list[int]]:
        return order[labels[order] == 1].tolist(), order[labels[order] == 0].tolist()

    misses, passes = split(np.argsort(scores, kind="stable"))
    draws = zip_longest(*split(np.random.default_rng(int(data[:8] or "0", 16)).permutation(len(labels))))
    random = [index for both in draws for index in both if index is not None]
    reasons: dict[int, tuple[str, ...]] = {}
    for reason, indices in (("miss", misses), ("false alarm", passes[::-1]), ("random", random)):
        for index in indices[:PER_REASON]:
            reasons[index] = (*reasons.get(index, ()), reason)
    return reasons


class FoldMaps:
    """Anomaly maps of the test images, reduced and averaged over the folds, and what normal pixels score."""

    def __init__(self) -> None:
        self._total: np.ndarray | None = None
        self._folds = 0
        self._normal: list[np.ndarray] = []

    def add(self, maps: np.ndarray | None, held_out: np.ndarray | None = None) -> None:
        """Count the maps (N, H, W) of one fold in; and those (n, H, W) of the normal images that it holds out.

        Pixels that do not count are NaN: they have no part in the colors, and are shown as the lowest of all.
        """
        if maps is None:
            return
        small = _reduce(maps)
        self._total = small if self._total is None else self._total + small
        self._folds += 1
        if held_out is not None:
            self._normal.append(_sample_of_pixels(held_out))

    @property
    def mean(self) -> np.ndarray | None:
        """Maps (N, h, w); None where there are none."""
        return None if self._total is None else self._total / self._folds

    def colors(self, labels: np.ndarray) -> tuple[float, float, str]:
        """Median and 99.9th percentile of normal pixels, and where these are from."""
        if self._normal:
            pixels, source = np.concatenate(self._normal), "held-out"
        else:
            assert self.mean is not None
            normal = labels == 0
            pixels, source = (self.mean[normal], "test") if normal.any() else (self.mean, "all")
        finite = pixels[np.isfinite(pixels)]
        low, high = np.quantile(finite, [0.5, 0.999]).tolist() if finite.size else (0.0, 0.0)
        return low, high, source


def thumbnail(category: Category, index: int, transform: Transform) -> bytes:
    """The test image of a number as the backbone sees it, reduced and encoded."""
    picture = Image.fromarray(transform.image(read_image(category.test[index].path, transform.bit_depth)))
    picture.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    return _encode(picture, _LOSSY, quality=_QUALITY, method=2)  # of 4: half the time, 4 % larger


def make_gallery(
    category: Category,
    scores: np.ndarray,
    masks: Sequence[np.ndarray | None],
    maps: FoldMaps,
    encoded: Callable[[int, Transform], bytes],
    transform: Transform,
    data: str,
    *,
    score_is_map_maximum: bool = True,
) -> Gallery:
    """The gallery of a run.

    Parameters
    ----------
    category : Category
    scores : ndarray (N,)
        The mean over the folds.
    masks : sequence of N (bool ndarray (H, W) or None)
        In register with the maps.
    maps : FoldMaps
        With all folds counted in.
    encoded : callable
        Gives the :func:`thumbnail` of a number, which several runs may show.
    transform : Transform
        The detector's.
    data : str
        Fingerprint of the data.
    score_is_map_maximum : bool
        The detector's.
    """
    labels = np.array([sample.label for sample in category.test])
    gallery = Gallery([], {}, {}, {})
    chosen = choose(labels, scores, data)
    with ThreadPoolExecutor(2) as pool:
        images = pool.map(lambda index: encoded(index, transform), chosen)
        for (index, reasons), image in zip(chosen.items(), images, strict=True):
            sample, mask, name = category.test[index], masks[index], "/".join(category.test[index].path.parts[-2:])
            gallery.items.append(Shown(index, name, sample.kind, sample.label, float(scores[index]), reasons))
            gallery.images[index] = image
            if mask is not None:
                gallery.masks[index] = _encode_mask(mask > 0)
        mean = maps.mean
        shown = {} if mean is None else {index: mean[index] for index in gallery.images}
        if not np.isfinite(list(shown.values())).any():
            return gallery
        low, high = (float(bound(list(shown.values()))) for bound in (np.nanmin, np.nanmax))
        maps_encoded = pool.map(lambda values: _encode_map(values, low, high), shown.values())
        gallery.maps.update(zip(shown, maps_encoded, strict=True))
    pictures = gallery.items, gallery.images, gallery.masks, gallery.maps
    return Gallery(*pictures, low, high, *maps.colors(labels), score_is_map_maximum)


def _reduce(maps: np.ndarray) -> np.ndarray:
    """Maps (N, H, W) of which neither side is longer than MAP_SIDE, each pixel the mean of a square of them."""
    factor = -(-max(maps.shape[1:]) // MAP_SIDE)
    if factor == 1:
        return np.asarray(maps, dtype=np.float32)
    import torch  # a report reads galleries without it
    from torch.nn.functional import avg_pool2d

    batch = torch.from_numpy(np.asarray(maps, dtype=np.float32))[:, None]

    def means(pixels: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(pixels, factor, ceil_mode=True, count_include_pad=False)[:, 0]

    finite = batch.isfinite()
    if finite.all():
        return means(batch).numpy()
    # Squares of which a part counts are the mean of that part, or thin regions of interest would not be seen.
    return (means(batch.nan_to_num(0.0, 0.0, 0.0)) / means(finite.float())).numpy()


def _sample_of_pixels(maps: np.ndarray) -> np.ndarray:
    """The pixels of every fourth row and column; of maps of which a part counts, about as many of that part.

    Maps are smooth, so a sixteenth of the pixels has the quantiles of all.
    """
    finite: np.ndarray = maps[np.isfinite(maps)]
    if finite.size == maps.size:
        return maps[:, ::4, ::4].ravel()
    return finite[:: max(1, 16 * finite.size // maps.size)]


def _encode_map(values: np.ndarray, low: float, high: float) -> bytes:
    position = (values - low) / (high - low) if high > low else np.zeros_like(values)
    levels = np.round(_LEVELS * np.sqrt(np.clip(np.nan_to_num(position), 0, 1))).astype(np.uint8)
    # A third smaller than PNG; more effort than this makes maps no smaller.
    return _encode(Image.fromarray(levels), _LOSSLESS, lossless=True, method=1, quality=0)


def _encode_mask(mask: np.ndarray) -> bytes:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    picture.thumbnail((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.NEAREST)
    return _encode(picture.convert("1"), "PNG")


def _encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
