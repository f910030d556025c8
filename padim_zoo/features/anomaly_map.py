"""Distances on the patch grid to an anomaly map on the image (PaDiM §III-C): bilinear upsampling, Gaussian blur.

Both steps are linear and separable, so together they are one small matrix per axis: ``rows @ distances @ columns.T``.
No dense kernel is slid over the image. Of large images, a block of pixels is made of the patches within its reach.
Images are independent, and products this small gain nothing by several threads each: they go block by block.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn.functional import interpolate

from padim_zoo.core.parallel import map_blocks
from padim_zoo.features.tiles import AxisTiles, TileLayout

BLOCK_PIXELS = 256
"""Pixels of an axis that are made together, of the patches within their reach."""

TRUNCATE = 4.0
"""The Gaussian kernel is cut at this many standard deviations, as scipy does by default."""

EDGES = {"symmetric": "reflect", "reflect": "mirror"}
"""How a map goes on beyond its edges when it is blurred, by NumPy's names, with those that scipy.ndimage has for them.

``symmetric`` repeats the last pixel (d c b a | a b c d | d c b a), as scipy.ndimage does by default and with it the
first implementation of PaDiM; ``reflect`` does not (d c b | a b c d | c b a), as torch does and with it anomalib and
anodet."""


@lru_cache(maxsize=32)
def axis_matrix(
    patches: int, pixels: int, sigma: float, edges: str = "symmetric", tiles: AxisTiles | None = None
) -> Tensor:
    """Upsampling and blur of one axis, (pixels, patches), float32: what they make of each patch alone.

    Half-pixel centers, edges held; rows sum to 1. Of tiles, patches are those of all of them, which are blended before
    the blur.
    """
    if tiles is None:
        units = torch.eye(patches, dtype=torch.float64)[None]
        matrix = interpolate(units, size=pixels, mode="linear", align_corners=False)[0].T.numpy()
    else:
        matrix = tiles.upsampling(patches)
    if sigma > 0:
        matrix = gaussian_filter1d(matrix, sigma, axis=0, mode=EDGES[edges], truncate=TRUNCATE)
    return torch.from_numpy(matrix).float().contiguous()


@lru_cache(maxsize=32)
def axis_blocks(
    patches: int, pixels: int, sigma: float, edges: str, tiles: AxisTiles | None, device: torch.device
) -> list[tuple[slice, Tensor]]:
    """The matrix of an axis in blocks of pixels: the patches that these reach, and their part (pixels, patches)."""
    blocks = []
    for part in torch.split(axis_matrix(patches, pixels, sigma, edges, tiles), BLOCK_PIXELS):
        reached = part.any(0).nonzero().flatten()
        span = slice(int(reached[0]), int(reached[-1]) + 1)
        blocks.append((span, part[:, span].contiguous().to(device)))
    return blocks


def anomaly_maps(
    distances: Tensor,
    image_size: tuple[int, int],
    sigma: float,
    edges: str = "symmetric",
    *,
    counted: Tensor | None = None,
    tiles: TileLayout | None = None,
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
    tiles : TileLayout, optional
        The tiles of which the patches are a mosaic.

    Returns
    -------
    Tensor (N, H, W), float32, on the device of the distances
    """
    if counted is not None:
        values = anomaly_maps(torch.where(counted, distances, 0), image_size, sigma, edges, tiles=tiles)
        weights = anomaly_maps(counted.to(distances.dtype), image_size, sigma, edges, tiles=tiles)
        return torch.where(weights > 0, values / weights.clamp_min(torch.finfo(torch.float32).tiny), 0)
    of_rows, of_columns = (None, None) if tiles is None else (tiles.rows, tiles.columns)
    device = distances.device
    rows = axis_blocks(distances.shape[1], image_size[0], sigma, edges, of_rows, device)
    columns = axis_blocks(distances.shape[2], image_size[1], sigma, edges, of_columns, device)

    def block(images: slice) -> tuple[Tensor]:
        # Distances come with the images innermost, which batched products take one image at a time.
        values = distances[images].float().contiguous()
        values = _joined([part @ values[:, reached] for reached, part in rows], 1)
        return (_joined([values[:, :, reached] @ part.T for reached, part in columns], 2),)

    bytes_per_map = 4 * image_size[0] * (image_size[1] + distances.shape[2])
    (maps,) = map_blocks(block, len(distances), bytes_per_map, device)
    return maps


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)
