"""Products and convolutions of float32 with all their bits on CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def whole_float32() -> Iterator[None]:
    """Keep all 24 bits of float32, where torch, or the program that we run in, lets them drop to TF32's 11."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    # Torch before 2.9 has the older switches only, and later ones want them not to be mixed.
    newer = hasattr(cudnn, "conv")
    switches = (matmul, cudnn.conv) if newer else (matmul, cudnn)
    name, whole = ("fp32_precision", "ieee") if newer else ("allow_tf32", False)
    before = [getattr(switch, name) for switch in switches]
    for switch in switches:
        setattr(switch, name, whole)
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, name, value)
