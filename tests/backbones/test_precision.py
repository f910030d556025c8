"""Devices and precisions by name, and a backbone that computes in bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from padim_zoo import InputError, PaDiM, registry
from padim_zoo.backbones import device as devices
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import has_fast_bfloat16, resolve_device, resolve_precision
from padim_zoo.detectors import load

CPU = torch.device("cpu")


def test_devices_by_name():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match=r"'abacus' cannot be used .*: expected auto, cpu or cuda"):
        resolve_device("abacus")


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_f": True, "avx2": True}, False),
        ({}, False),
    ],
)
def test_auto_asks_the_processor(capabilities, fast, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bfloat16(CPU) is fast
    assert resolve_precision("auto", CPU) == ("bfloat16" if fast else "float32")


def test_auto_is_float32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", CPU) == "float32"


def test_a_named_precision_is_taken_whatever_the_processor(monkeypatch):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: pytest.fail("not to be asked"))
    assert [resolve_precision(name, CPU) for name in devices.PRECISIONS] == list(devices.PRECISIONS)
    with pytest.raises(InputError, match="unknown precision 'half': expected float32, bfloat16 or auto"):
        resolve_precision("half", CPU)


@pytest.fixture(scope="module", params=["builtin", "resnet18", "timm/vit_tiny_patch16_224"])
def backbone(request) -> Backbone:
    return registry.backbones.create(request.param, weights="none")


def test_bfloat16_rounds_the_maps_and_nothing_else(backbone):
    images = torch.rand(3, 3, 64, 96) if backbone.name != "timm/vit_tiny_patch16_224" else torch.rand(3, 3, 224, 224)
    reduced = backbone.in_precision("bfloat16")
    exact, rounded = backbone(images), reduced(images)
    for found, expected in zip(rounded, exact, strict=True):
        assert found.dtype == expected.dtype == torch.float32
        assert torch.equal(found.bfloat16().float(), found)  # 16 bits hold what was computed in 16 bits
        distance = (found - expected).norm() / expected.norm()
        assert 0 < distance < 0.05
    for one, several in zip(reduced(images[:1]), rounded, strict=True):
        torch.testing.assert_close(one, several[:1], rtol=0, atol=2 * 2**-8 * float(several.abs().max()))
    assert reduced.weights_hash == backbone.weights_hash
    assert all(torch.equal(reduced.state_in_use()[name], value) for name, value in backbone.state_in_use().items())
    assert {tensor.dtype for tensor in reduced.state_in_use().values()} == {torch.float32}
    assert all(torch.equal(again, first) for again, first in zip(backbone(images), exact, strict=True))


def test_a_backbone_keeps_its_precision_or_is_made_anew(backbone):
    reduced = backbone.in_precision("bfloat16")
    assert backbone.in_precision("float32") is backbone
    assert reduced.in_precision("bfloat16") is reduced
    with pytest.raises(InputError, match="make a new one"):
        reduced.in_precision("float32")


class _InsistsOnFloat32(nn.Module):
    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1, bias=False)
        nn.init.constant_(self.convolution.weight, 0.5)
        self.gain = gain

    def forward(self, images):
        return [
            torch.maximum(self.gain * nn.functional.conv2d(images, torch.ones(4, 3, 1, 1)), self.convolution(images))
        ]


def _wrapped(network: nn.Module) -> Backbone:
    return Backbone(
        network, name="odd", layers=["one"], strides=[1], state=network.state_dict(), weights_source="builtin"
    )


def test_a_network_that_cannot_compute_in_bfloat16_is_refused():
    odd = _wrapped(_InsistsOnFloat32())
    odd(torch.rand(1, 3, 8, 8))
    with pytest.raises(InputError, match="odd cannot compute in bfloat16: use --precision float32"):
        odd.in_precision("bfloat16")


def test_the_response_tells_what_the_weights_do_not():
    one, same, other = (_wrapped(_InsistsOnFloat32(gain)) for gain in (1, 1, 1.001))
    assert one.weights_hash == other.weights_hash
    assert one.response == same.response != other.response


def test_a_saved_detector_keeps_the_precision_it_was_fitted_in(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: True)
    images = np.random.default_rng(0).integers(0, 255, (6, 40, 40, 3)).astype(np.uint8)
    options = {"weights": "none", "resize": 40, "crop": 32, "dims": 10}
    detector = PaDiM("resnet18", precision="auto", **options).fit(images[:5])
    assert detector.features_key != PaDiM("resnet18", **options).features_key
    assert detector.precision == "auto"
    detector.save(tmp_path / "model.safetensors")
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: False)
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.precision == loaded.backbone_.precision == "bfloat16"
    np.testing.assert_allclose(loaded.predict(images).scores, detector.predict(images).scores, rtol=1e-4)


def convolutions_may_round() -> bool:
    """Whether convolutions of float32 may be computed in TF32 on CUDA, as torch's own switches say."""
    cudnn = torch.backends.cudnn
    return cudnn.conv.fp32_precision != "ieee" if hasattr(cudnn, "conv") else cudnn.allow_tf32


def test_float32_is_no_tf32_within_a_forward_and_as_before_after_it():
    backbone = registry.backbones.create("builtin", weights="none")
    before, seen = convolutions_may_round(), []
    backbone.network.register_forward_hook(lambda *_: seen.append(convolutions_may_round()))
    backbone(torch.rand(1, 3, 32, 32))
    assert seen == [False]
    assert convolutions_may_round() == before
    assert before, "torch's default has changed: the switch is of no use any more"
