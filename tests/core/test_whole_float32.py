"""What is set for products of float32 on CUDA, whatever was set before, and what is left afterwards."""

from __future__ import annotations

import pytest
import torch

from padim_zoo.core.whole_float32 import whole_float32


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has other switches")
def test_all_bits_are_kept_within_and_what_was_set_comes_back() -> None:
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "tf32"
        with whole_float32():
            assert [switch.fp32_precision for switch in switches] == ["ieee", "ieee"]
        assert [switch.fp32_precision for switch in switches] == ["tf32", "tf32"]
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
