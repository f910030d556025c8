"""A backbone without weights: filters that are computed, not learned.

Color, the energy of oriented edges, and the energy of oriented edges *of that energy*, at three scales: a wavelet
scattering of second order (Bruna and Mallat 2013, arXiv 1203.1513) that keeps its grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from padim_zoo.backbones.backbone import Backbone, describe_layers
from padim_zoo.backbones.stages import check_layers
from padim_zoo.backbones.weights import Weights, find_state, install
from padim_zoo.registry import backbones

# Gray, and two color opponents: nearly the principal components of the colors of natural images.
_COLORS = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3], [2], [6]])
# How many orientations the first order has on each of them, and the second order on each of the first.
_ORIENTATIONS = (6, 3, 3)
_SECOND_ORIENTATIONS = 4
_FIRST = sum(_ORIENTATIONS)

_STRIDES = {"scale1": 4, "scale2": 8, "scale3": 16}
_CHANNELS = len(_COLORS) + _FIRST + _FIRST * _SECOND_ORIENTATIONS


@backbones.register(
    "scattering",
    source="padim_zoo",
    summary="computed wavelet filters, not trained: what the built-in network has to beat",
    **describe_layers(tuple(_STRIDES), (_CHANNELS,) * len(_STRIDES), tuple(_STRIDES.values()), weights_offline=True),
)
def scattering(layers: Sequence[str] | None = None, weights: Weights = "default") -> Backbone:
    """Wavelet scattering of second order with computed filters.

    Parameters
    ----------
    layers : sequence of str, optional
        Some of ``scale1``, ``scale2`` and ``scale3``, at strides 4, 8 and 16; all by default.
    weights : str, path or mapping
        ``"default"`` or ``"builtin"`` for the computed filters, ``"none"`` for random ones, the path of a file, or
        tensors by name.

    Raises
    ------
    InputError
        If a layer does not exist, or the weights do not fit.
    """
    layers = check_layers("scattering", layers, _STRIDES)
    network = Scattering([tuple(_STRIDES).index(layer) for layer in layers])
    state, source = find_state(weights, name="scattering", default=network.state_dict, default_name="builtin")
    return Backbone(
        network,
        name="scattering",
        layers=layers,
        strides=[_STRIDES[layer] for layer in layers],
        state=install(network, state, name="scattering", source=source),
        weights_source=source,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


class Scattering(nn.Module):
    """Maps (N, 63, H_l, W_l) of images (N, 3, H, W), one for each scale l, at stride 4·2^l."""

    colors: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.register_buffer("colors", _float32(_COLORS[:, :, None, None]))
        self.register_buffer("first", _float32(first_order_filters()))
        self.register_buffer("second", _float32(second_order_filters()))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps, in the order of the scales asked for."""
        pyramid = [images]
        for _ in range(max(self.scales)):
            pyramid.append(_halved(pyramid[-1]))
        return [self._scattered(pyramid[scale]) for scale in self.scales]

    def _scattered(self, images: Tensor) -> Tensor:
        colors = functional.conv2d(_halved(_halved(images)), self.colors)
        edges = _energy(functional.conv2d(_padded(images, 3), self.first, stride=2))
        texture = _energy(functional.conv2d(_padded(edges, 2), self.second, stride=2, groups=_FIRST))
        # Square roots bring the heavy tails of energies nearer to a Gaussian.
        return torch.cat([colors, _halved(edges).sqrt(), texture.sqrt()], dim=1)


def first_order_filters() -> np.ndarray:
    """Even and odd oriented edges of each color, (2 · 12, 3, 7, 7), float64."""
    pairs = zip(_COLORS, _ORIENTATIONS, strict=True)
    return np.concatenate([color[:, None, None] * wavelets(7, count)[:, None] for color, count in pairs])


def second_order_filters() -> np.ndarray:
    """Even and odd oriented edges of each first-order energy by itself, (2 · 48, 1, 5, 5), float64."""
    return np.tile(wavelets(5, _SECOND_ORIENTATIONS)[:, None], (_FIRST, 1, 1, 1))


def wavelets(size: int, orientations: int, wavelength: float = 4.0) -> np.ndarray:
    """Pairs of an even and an odd Gabor filter, (2 · orientations, size, size); without mean, absolute sum 1."""
    steps = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(steps, steps, indexing="ij")
    window = np.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2))
    filters = []
    for angle in np.arange(orientations) * np.pi / orientations:
        phase = 2 * np.pi / wavelength * (x * np.cos(angle) + y * np.sin(angle))
        for wave in (np.cos(phase), np.sin(phase)):
            wavelet = window * (wave - (window * wave).sum() / window.sum())
            filters.append(wavelet / np.abs(wavelet).sum())
    return np.stack(filters)


def _float32(filters: np.ndarray) -> Tensor:
    # Rounded to multiples of 2^-20, and 0 without a sign: the last bits of exp and cos differ between machines, and the
    # hash must not.
    return torch.from_numpy((np.round(filters * 2**20) / 2**20 + 0.0).astype(np.float32))


def _energy(pairs: Tensor) -> Tensor:
    """Modulus (N, C, H, W) of even and odd responses (N, 2 · C, H, W) that lie next to each other."""
    return torch.hypot(pairs[:, ::2], pairs[:, 1::2])


def _halved(maps: Tensor) -> Tensor:
    """Averages at every second position: ceil(H / 2) × ceil(W / 2), as of a padded convolution with stride 2."""
    return functional.avg_pool2d(maps, 3, stride=2, padding=1, count_include_pad=False)


def _padded(maps: Tensor, width: int) -> Tensor:
    return functional.pad(maps, (width,) * 4, mode="replicate")
