"""Large images through networks that take them row by row: which these are, and how many rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from padim_zoo.backbones.backbone import AT_ONCE_PIXELS, Backbone
from padim_zoo.backbones.cpu.rolling import RollingNetwork
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.features.receptive_field import agree

_networks: WeakKeyDictionary[Backbone, RollingNetwork | None] = WeakKeyDictionary()


@dataclass(frozen=True)
class RollingBands:
    """Bands of an image that pass through a network once each.

    Attributes
    ----------
    network : RollingNetwork
    height : int
        Rows of the image.
    rows : int
        Of a band; the last may have fewer.
    """

    network: RollingNetwork
    height: int
    rows: int

    @property
    def overhead(self) -> float:
        """How many times the pixels of the image pass through the network."""
        return 1.0

    def __len__(self) -> int:
        return -(-self.height // self.rows)

    def __str__(self) -> str:
        return f"{len(self)} bands, each pixel once"

    def maps(self, backbone: Backbone, pixels_of: Callable[[Tensor], Tensor], images: Tensor) -> list[Tensor]:
        """The maps of images, in the type of the network.

        Parameters
        ----------
        backbone : Backbone
        pixels_of : callable
            What the backbone takes of a part of the images.
        images : Tensor (N, 3, H, W)

        Raises
        ------
        InputError
            If the network cannot take images of this size.
        """
        with backbone.blaming_size_of(images):
            of_images = [self._of_image(backbone, pixels_of, images[n : n + 1]) for n in range(len(images))]
        return of_images[0] if len(of_images) == 1 else [torch.cat(layers) for layers in zip(*of_images, strict=True)]

    def _of_image(self, backbone: Backbone, pixels_of: Callable[[Tensor], Tensor], image: Tensor) -> list[Tensor]:
        def bands() -> Iterator[Tensor]:
            for start in range(0, self.height, self.rows):
                yield backbone.network_input(pixels_of(image[:, :, start : start + self.rows]))

        with torch.no_grad():
            return self.network(bands(), self.height)


def rolling_bands(
    backbone: Backbone, image_size: tuple[int, int], count: int | None = None, most: float = AT_ONCE_PIXELS
) -> RollingBands | None:
    """How images of a size pass through a network row by row; None where it cannot take them so.

    Parameters
    ----------
    backbone : Backbone
    image_size : (int, int)
        Height and width in pixels.
    count : int, optional
        Of bands, at most; by default as many as are fast.
    most : float
        Pixels of a band, unless ``count`` is given. Where a stride of rows has more, a band has these.
    """
    network = rolling_network(backbone)
    if network is None:
        return None
    height, width = image_size
    stride = max(backbone.strides)
    if count is not None:
        return RollingBands(network, height, -(-height // count))
    rows = int(min(most, AT_ONCE_PIXELS)) // width
    return RollingBands(network, height, max(1, rows // stride) * stride)


def rolling_network(backbone: Backbone) -> RollingNetwork | None:
    """The network of a backbone by its rows; None if it has operations that look further, or another runtime has it.

    It is made at the first call, and held to whole images. Of a subclass that computes in a way of its own it is None.
    """
    if backbone.device.type != "cpu" or backbone.converted is not None:
        return None
    if type(backbone).forward is not Backbone.forward or type(backbone).compute is not Backbone.compute:
        return None
    if backbone not in _networks:
        _networks[backbone] = _find(backbone)
    return _networks[backbone]


def _find(backbone: Backbone) -> RollingNetwork | None:
    try:
        network = RollingNetwork.of(backbone.network)
        return network if network is not None and _is_exact(backbone, network) else None
    except Exception as error:  # a network that takes images of few sizes, or whatever else its own code raises
        if is_out_of_memory(error):
            raise
        return None


def _is_exact(backbone: Backbone, network: RollingNetwork) -> bool:
    """Whether bands of an odd number of rows give the features of the whole image."""
    stride = max(backbone.strides)
    height, width = (4 * stride + side + 5 for side in backbone.example_size)
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    bands = RollingBands(network, height, stride + 3)
    return agree(backbone.compute(images), bands.maps(backbone, torch.Tensor.float, images), backbone.precision)
