"""padim-zoo's geometry of images as a pre-processor of anomalib, byte for byte.

anomalib resizes in floating point; padim-zoo, as Pillow does, to whole numbers of 0 to 255. Detectors see the same
images in both only if both resize in one way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from anomalib.pre_processing import PreProcessor
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import CenterCrop, Compose, Identity, Resize

from padim_zoo.plugin import InputError, Transform

Size = int | tuple[int, int] | None


class PillowResize(Resize):
    """Resizes as padim-zoo does: images bilinearly and to whole numbers, masks by nearest neighbor.

    A kind of ``Resize``, so that anomalib finds it and resizes images of different sizes before it stacks them; what
    has the size already is left as it is.

    Parameters
    ----------
    size : int or (int, int)
        Length of the shorter side, or height and width.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__(size if isinstance(size, int) else list(size), antialias=True)
        self.geometry = Transform(resize=size, crop=None)

    def transform(self, inpt: Any, params: Any) -> Any:
        """Resize an image (…, 3, H, W) in [0, 1], or a mask (…, H, W)."""
        if not isinstance(inpt, Tensor):
            return inpt
        height, width = inpt.shape[-2:]
        if self.geometry.resized_size(height, width) == (height, width):
            return inpt
        if isinstance(inpt, tv_tensors.Mask):
            flat = inpt.reshape(-1, height, width).cpu().numpy().astype(bool)
            resized = torch.from_numpy(np.stack([self.geometry.mask(one) for one in flat]))
            made = resized.reshape(*inpt.shape[:-2], *resized.shape[1:]).to(inpt.device, inpt.dtype)
            return tv_tensors.wrap(made, like=inpt)
        flat = whole_numbers(inpt).reshape(-1, 3, height, width).permute(0, 2, 3, 1).cpu().numpy()
        resized = torch.from_numpy(np.stack([self.geometry.image(one) for one in flat])).permute(0, 3, 1, 2)
        made = resized.reshape(*inpt.shape[:-2], *resized.shape[2:]).to(inpt.device, torch.float32).div_(255)
        return tv_tensors.wrap(made, like=inpt) if isinstance(inpt, tv_tensors.Image) else made

    _transform = transform
    """What torchvision before 0.21 calls."""


def whole_numbers(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8.

    Raises
    ------
    InputError
        If they are not in [0, 1].
    """
    low, high = float(images.min()), float(images.max())
    if low < -0.01 or high > 1.01:
        raise InputError(
            f"images have values of {low:.3g} to {high:.3g}: expected 0 to 1; a detector of padim-zoo normalizes them "
            "itself, so leave Normalize out of the pre-processor"
        )
    return images.detach().mul(255).round_().clamp_(0, 255).to(torch.uint8)


class ZooPreProcessor(PreProcessor):
    """Resize and center crop as padim-zoo's detectors do it; no normalization, for these normalize themselves.

    Parameters
    ----------
    resize, crop
        As of :class:`padim_zoo.Transform`.
    """

    def __init__(self, resize: Size = (256, 256), crop: Size = None) -> None:
        geometry = Transform(resize=resize, crop=crop)
        steps: list[Any] = []
        if geometry.resize is not None:
            steps.append(PillowResize(geometry.resize))
        if geometry.crop is not None:
            steps.append(CenterCrop(geometry.crop))
        super().__init__(transform=Compose(steps or [Identity()]))
        # anomalib would take the antialiasing off, and exported models would see other images.
        self.export_transform = self.transform
        self.resize = geometry.resize
        self.crop = geometry.crop

    # The model makes its pre-processor anew from its own parameters, so that a checkpoint need not hold it.
    def checkpoint_config(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Change nothing."""
