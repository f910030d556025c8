"""Distances on the patch grid to an anomaly map on the image (PaDiM §III-C): bilinear upsampling, Gaussian blur.

Both steps are linear and separable, so together they are one small matrix per axis: ``rows @ distances @ columns.T``.
No dense kernel is slid over the image.
Images are independent, and products this small gain nothing by several threads each: they go block by block.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.parallel import map_blocks

TRUNCATE = 4.0
"""The Gaussian kernel is cut at this many standard deviations, as scipy.ndimage.gaussian_filter does."""

EDGES = ("symmetric", "reflect")
"""How a map goes on beyond its edges when it is blurred, by NumPy's names: ``symmetric`` repeats the last pixel
(d c b a | a b c d | d c b a), as scipy.ndimage does by default and with it the first implementation of PaDiM;
``reflect`` does not (d c b | a b c d | c b a), as torch does and with it anomalib and anodet."""


def bilinear_matrix(patches: int, pixels: int) -> np.ndarray:
    """Bilinear interpolation of one axis, half-pixel centers, edges held.

    Returns
    -------
    ndarray (pixels, patches), float64
        Rows sum to 1; the rule is that of ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.
    """
    position = np.clip((np.arange(pixels) + 0.5) * patches / pixels - 0.5, 0, patches - 1)
    below = np.minimum(position.astype(np.int64), max(patches - 2, 0))
    weight = position - below
    matrix = np.zeros((pixels, patches))
    rows = np.arange(pixels)
    np.add.at(matrix, (rows, below), 1 - weight)
    np.add.at(matrix, (rows, np.minimum(below + 1, patches - 1)), weight)
    return matrix


def blur_matrix(pixels: int, sigma: float, edges: str = "symmetric") -> np.ndarray:
    """Gaussian blur of one axis.

    Parameters
    ----------
    pixels : int
        Length of the axis.
    sigma : float
        Standard deviation in pixels.
    edges : str
        How the axis goes on beyond its ends, one of :data:`EDGES`.

    Returns
    -------
    ndarray (pixels, pixels), float64
        Rows sum to 1; the rule is that of ``scipy.ndimage.gaussian_filter1d``, whose modes ``"reflect"`` and
        ``"mirror"`` are the edges ``"symmetric"`` and ``"reflect"``.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    kernel /= kernel.sum()
    repeated = 1 if edges == "symmetric" else 0
    period = max(2 * (pixels - 1 + repeated), 1)
    source = np.mod(np.arange(pixels)[:, None] + offsets[None, :], period)
    source = np.where(source < pixels, source, period - repeated - source)
    matrix = np.zeros((pixels, pixels))
    np.add.at(matrix, (np.arange(pixels)[:, None], source), kernel[None, :])
    return matrix


@lru_cache(maxsize=32)
def axis_matrix(patches: int, pixels: int, sigma: float, edges: str = "symmetric") -> Tensor:
    """Upsampling and blur of one axis, (pixels, patches), float32."""
    matrix = bilinear_matrix(patches, pixels)
    if sigma > 0:
        matrix = blur_matrix(pixels, sigma, edges) @ matrix
    return torch.from_numpy(matrix).float()


def anomaly_maps(
    distances: Tensor,
    image_size: tuple[int, int],
    sigma: float,
    edges: str = "symmetric",
    *,
    counted: Tensor | None = None,
) -> Tensor:
    """Bring distances to the size of the image and blur them.

    Parameters
    ----------
    distances : Tensor (N, h, w)
        Mahalanobis distance of each patch.
    image_size : tuple of int
        Height H and width W in pixels.
    sigma : float
        Standard deviation of the Gaussian in pixels of the image; 0 leaves the map unblurred.
    edges : str
        How the blur goes on beyond the edges, one of :data:`EDGES`.
    counted : Tensor (N, h, w), bool, optional
        The patches that have a distance. The others have no part in a pixel: it is the mean of those that do, weighed
        as always; 0 where there is none within reach.

    Returns
    -------
    Tensor (N, H, W), float32
    """
    if counted is not None:
        values = anomaly_maps(torch.where(counted, distances, 0), image_size, sigma, edges)
        weights = anomaly_maps(counted.to(distances.dtype), image_size, sigma, edges)
        return torch.where(weights > 0, values / weights.clamp_min(torch.finfo(torch.float32).tiny), 0)
    rows = axis_matrix(distances.shape[1], image_size[0], sigma, edges)
    columns = axis_matrix(distances.shape[2], image_size[1], sigma, edges)

    def block(images: slice) -> tuple[Tensor]:
        # Distances come with the images innermost, which batched products take one image at a time.
        return (rows @ distances[images].float().contiguous() @ columns.T,)

    (maps,) = map_blocks(block, len(distances), 4 * image_size[0] * (image_size[1] + distances.shape[2]))
    return maps
