"""Where a backbone computes, and in which floating-point type."""

from __future__ import annotations

import warnings

import torch

from padim_zoo.core.errors import InputError
from padim_zoo.core.precision import AUTO, asked_precision

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The types a forward pass can be computed in, by the names that users give them."""


def resolve_device(name: str) -> torch.device:
    """The device that ``name`` stands for: ``"auto"`` is CUDA where present.

    Raises
    ------
    InputError
        If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {name!r} cannot be used ({reason}): expected auto, cpu or cuda") from None
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """``name`` itself, or what ``"auto"``, the default everywhere, stands for on ``device``.

    That is what the environment variable ``PADIM_ZOO_PRECISION`` says, else bfloat16 where it is fast, else float32.
    Bfloat16 has 8 significant bits: on real images of MVTec AD it moved single image scores of PaDiM by up to 2.4 %,
    pixel AUROC by at most 0.0006 and AUPRO by at most 0.0009 (docs/zoo.md has the other detectors), for half the time
    of a resnet. Whatever the precision, neither batch size nor threads change a score.

    Raises
    ------
    InputError
        If there is no such precision.
    """
    asked = asked_precision(name)
    if asked == AUTO:
        return "bfloat16" if has_fast_bfloat16(device) else "float32"
    return asked


def warn_if_slow(precision: str, device: torch.device) -> None:
    """Warn of bfloat16 that a processor emulates: that takes 2 to 7 times as long as float32."""
    if precision == "bfloat16" and device.type == "cpu" and not has_fast_bfloat16(device):
        warnings.warn(
            "bfloat16, which was asked for, takes several times as long as float32 on this processor: use precision "
            "auto or float32",
            stacklevel=3,
        )


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies matrices in bfloat16 faster than in float32, rather than emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.6 cannot tell
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
