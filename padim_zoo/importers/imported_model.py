"""What another program's PaDiM consists of, and the detector that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.weights import Weights
from padim_zoo.core.cholesky import upper_factor
from padim_zoo.core.errors import InputError
from padim_zoo.core.parallel import map_blocks
from padim_zoo.data.transform import Size, Transform
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.scoring_network import grids_of
from padim_zoo.features.features import RandomChannels, nearest_positions
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import PrimalGaussian
from padim_zoo.gaussians.packed_triangular import Triangles, column_blocks

if TYPE_CHECKING:
    from padim_zoo.detectors.detector import Detector

MEAN_SPREAD = 1e-3
"""How far the means of the patches of one cell of a coarser layer may lie apart, relative to the largest mean."""


@dataclass
class ImportedModel:
    """A PaDiM of another program, as its files hold it.

    Attributes
    ----------
    source : str
        What wrote it.
    backbone : str
        Name in the registry.
    layers : tuple of str or None
        None for the backbone's default ones.
    channels : Tensor (D,), int64
        Indices into the channels of all layers, one after the other.
    mean : Tensor (P, D)
    matrix : Tensor (P, D, D)
        The covariance of each patch, or its inverse.
    is_inverse : bool
    resize, crop : int, (int, int) or None
        The geometry of its transform.
    pad_mode : str
        As :class:`~padim_zoo.detectors.padim.PaDiM` takes it.
    sigma : float
        Standard deviation in pixels of the blur; 0 for none.
    estimator : str
        What it would be called here.
    weights : mapping of str to Tensor or None
        The network's, if the file holds them.
    notes : list of str
        What is not, or may not be, as it was there.
    """

    source: str
    backbone: str
    layers: tuple[str, ...] | None
    channels: Tensor
    mean: Tensor
    matrix: Tensor
    is_inverse: bool
    resize: Size
    crop: Size
    pad_mode: str
    sigma: float = 4.0
    estimator: str = "full"
    weights: Weights | None = None
    notes: list[str] = field(default_factory=list)

    def detector(self) -> Detector:
        """A fitted detector that gives the same scores.

        Raises
        ------
        InputError
            If the statistics do not go with the backbone, its layers or the size of the images, or a matrix is not
            positive definite.
        """
        weights = "default" if self.weights is None else self.weights
        backbone = registry.backbones.create(self.backbone, layers=self.layers, weights=weights)
        detector = PaDiM(
            backbone,
            self.estimator,
            n_components=len(self.channels),
            reduction="random",
            resize=self.resize,
            crop=self.crop,
            sigma=self.sigma,
            pad_mode=self.pad_mode,
            precision="float32",  # whatever is faster here would not give the same scores
        )
        detector.check_parameters()
        image_size = self._image_size()
        grids = grids_of(backbone, image_size)
        channels, order = by_layer(self.channels, backbone.channels)
        embeddings = per_layer(self.mean[:, order].float(), list(map(len, channels)), grids, backbone.layers)
        gaussian = PrimalGaussian(embeddings, factor_of(self.matrix, order, self.is_inverse))
        return detector.from_gaussian(RandomChannels(channels), gaussian, image_size)

    def _image_size(self) -> tuple[int, int]:
        size = self.crop or self.resize
        if size is None or (self.crop is None and isinstance(size, int)):
            raise InputError(
                f"the size of the images is not known from resize {self.resize} and crop {self.crop}: expected an "
                "exact resize (--resize HEIGHTxWIDTH) or a crop (--crop N)"
            )
        Transform(self.resize, self.crop)
        return (size, size) if isinstance(size, int) else size


def by_layer(channels: Tensor, widths: Sequence[int]) -> tuple[tuple[np.ndarray, ...], Tensor]:
    """Channels of each layer, ascending, and the order that brings D dimensions into theirs.

    Raises
    ------
    InputError
        If they are no indices into all channels, each at most once.
    """
    total, D = sum(widths), len(channels)
    different = len(set(channels.tolist()))
    low, high = (int(channels.min()), int(channels.max())) if D else (0, -1)
    if D == 0 or different != D or low < 0 or high >= total:
        raise InputError(
            f"the {D} channel indices lie from {low} to {high}, {different} of them different: expected different ones "
            f"of the {total} channels of the layers"
        )
    ordered, order = channels.long().sort()
    stops = np.cumsum(widths)
    of_layers = tuple(
        ordered[(ordered >= stop - width) & (ordered < stop)].numpy() - (stop - width)
        for width, stop in zip(widths, stops.tolist(), strict=True)
    )
    return of_layers, order


def per_layer(
    mean: Tensor, counts: Sequence[int], grids: Sequence[tuple[int, int]], layers: Sequence[str]
) -> PatchEmbeddings:
    """Means (P, D) of the patches, ``counts`` dimensions of each layer, as embeddings at the layers' own resolution.

    Nearest-neighbor upsampling repeats values, so the patches of one cell of a coarser layer have one mean.

    Raises
    ------
    InputError
        If there are means for another number of patches, or those of one cell differ.
    """
    grid = max(grids, key=lambda grid: grid[0] * grid[1])
    if len(mean) != grid[0] * grid[1]:
        raise InputError(
            f"there are statistics of {len(mean)} patches, but images of this size have {grid[0]}x{grid[1]} = "
            f"{grid[0] * grid[1]} on these layers: give the size and the layers of the fit (--resize, --crop, --layers)"
        )
    scale = float(mean.abs().max())
    parts = []
    for part, own, layer in zip(torch.split(mean, list(counts), dim=1), grids, layers, strict=True):
        cells = nearest_positions(own, grid)
        total = torch.zeros(own[0] * own[1], part.shape[1], dtype=torch.float64).index_add_(0, cells, part.double())
        average = (total / torch.bincount(cells, minlength=len(total))[:, None]).float()
        if part.numel() and float((part - average[cells]).abs().max()) > MEAN_SPREAD * scale:
            raise InputError(
                f"the means differ within a cell of {layer}: the layers were not joined by nearest neighbors, or the "
                "channel indices are not those of the fit (--channels FILE)"
            )
        parts.append(average[:, None])
    return PatchEmbeddings(tuple(parts), tuple(grids), grid)


def factor_of(matrix: Tensor, order: Tensor, is_inverse: bool) -> Triangles:
    """F, D × D at each of P patches, with F Fᵀ = Σ⁻¹, of covariances or of their inverses with dimensions reordered.

    Raises
    ------
    InputError
        If a matrix is not positive definite.
    """
    P, D = matrix.shape[:2]

    def block(patches: slice) -> tuple[Tensor, ...]:
        part = matrix[patches][:, order][:, :, order].double()  # in blocks, for all may be gigabytes
        # A quadratic form knows the symmetric part of its matrix only.
        factor, failed = upper_factor((part + part.mT) / 2, is_inverse)
        return failed, *column_blocks(factor.float())

    failed, *factor = map_blocks(block, P, 8 * 6 * D * D)
    if failed.any():
        kind = "inverse covariance" if is_inverse else "covariance"
        raise InputError(
            f"the {kind} of {int(failed.count_nonzero())} of {P} patches (the first is number "
            f"{int(failed.nonzero()[0])}) is not positive definite: no distance is defined there; fit again"
        )
    return Triangles(tuple(factor))
