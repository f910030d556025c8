"""Devices and precisions by name, and a backbone that computes in bfloat16."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from padim_zoo import InputError, PaDiM, registry
from padim_zoo.backbones import device as devices
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import has_fast_bfloat16, resolve_device, resolve_precision
from padim_zoo.detectors.loading import load

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
    monkeypatch.delenv("PADIM_ZOO_PRECISION")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bfloat16(CPU) is fast
    assert resolve_precision("auto", CPU) == ("bfloat16" if fast else "float32")


def test_auto_is_float32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delenv("PADIM_ZOO_PRECISION")
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", CPU) == "float32"


def test_a_named_precision_is_taken_whatever_the_processor(monkeypatch):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: pytest.fail("not to be asked"))
    assert [resolve_precision(name, CPU) for name in devices.PRECISIONS] == list(devices.PRECISIONS)
    with pytest.raises(InputError, match="unknown precision 'half': expected float32, bfloat16 or auto"):
        resolve_precision("half", CPU)


@pytest.mark.parametrize("fast", [False, True])
def test_the_environment_says_what_auto_is(fast, fast_bfloat16, monkeypatch):
    fast_bfloat16(fast)
    for chosen in ("float32", "bfloat16", "auto"):
        meant = ("bfloat16" if fast else "float32") if chosen == "auto" else chosen
        monkeypatch.setenv("PADIM_ZOO_PRECISION", chosen)
        assert resolve_precision("auto", CPU) == meant
        assert resolve_precision("float32", CPU) == "float32"
    monkeypatch.setenv("PADIM_ZOO_PRECISION", "half")
    with pytest.raises(InputError, match="PADIM_ZOO_PRECISION is 'half': expected float32, bfloat16 or auto"):
        resolve_precision("auto", CPU)


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
        assert torch.equal(one, several[:1])
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


class _RoundsByNumber(nn.Module):
    """As of libraries whose products of several images add up in another order than those of one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=4)
        self.calls: list[int] = []

    def forward(self, images):
        self.calls.append(len(images))
        return [self.convolution(images) * (1 + 2**-6 * (images.dtype == torch.bfloat16) * len(images))]


def test_what_is_found_in_an_image_in_16_bits_depends_on_no_other_image():
    network = _RoundsByNumber()
    odd = Backbone(
        network, name="odd", layers=["only"], strides=[4], state=network.state_dict(), weights_source="none"
    ).in_precision("bfloat16")
    images = torch.rand(5, 3, 16, 16)
    (alone,) = (torch.cat(maps) for maps in zip(*(odd(image[None]) for image in images), strict=True))
    for several in (images, images[:3]):
        assert torch.equal(odd(several)[0], alone[: len(several)])
    odd.network.calls.clear()
    odd(images)
    assert odd.network.calls == [1] * 5  # what was found for a shape once is not looked for again


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


class _GoesByNumpy(_InsistsOnFloat32):
    def forward(self, images):
        return [torch.from_numpy(images.numpy())]  # a TypeError where images are bfloat16


@pytest.mark.parametrize("kind", [_InsistsOnFloat32, _GoesByNumpy])
def test_a_network_that_cannot_compute_in_bfloat16_is_refused_but_not_by_auto(kind, fast_bfloat16):
    odd = _wrapped(kind())
    odd(torch.rand(1, 3, 8, 8))
    with pytest.raises(InputError, match="odd cannot compute in bfloat16: use --precision float32"):
        odd.in_precision("bfloat16")
    for fast in (False, True):
        fast_bfloat16(fast)
        assert odd.in_precision("auto") is odd
        detector = PaDiM(odd, resize=None, crop=None).fit(np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3)) / 255)
        assert detector.precision_ == "float32"


@pytest.mark.parametrize("fast", [False, True])
def test_auto_is_the_default_of_every_detector(fast, fast_bfloat16):
    fast_bfloat16(fast)
    for name in registry.detectors.names():
        detector = registry.detectors.create(name)
        assert clone(detector).get_params()["precision"] == "auto"
        assert detector.build_backbone().precision == detector.precision_ == ("bfloat16" if fast else "float32")
        assert detector.get_params()["precision"] == "auto"
        asked = registry.detectors.create(name, precision="float32")
        assert asked.build_backbone().precision == "float32"
    given = registry.backbones.create("builtin").in_precision("bfloat16")
    assert PaDiM(given).build_backbone().precision == "bfloat16"  # what has left float32 stays as it is


def test_the_response_tells_what_the_weights_do_not():
    one, same, other = (_wrapped(_InsistsOnFloat32(gain)) for gain in (1, 1, 1.001))
    assert one.weights_hash == other.weights_hash
    assert one.response == same.response != other.response


IMAGES = np.random.default_rng(0).integers(0, 255, (8, 40, 40, 3)).astype(np.uint8)
SMALL = {"weights": "none", "resize": 40, "crop": 32, "n_components": 20}


@pytest.fixture
def model(fast_bfloat16, tmp_path):
    """Fits a detector where bfloat16 is fast, or is not, and saves it; gives the file and the scores."""

    def fitted(fast: bool, **options):
        fast_bfloat16(fast)
        detector = PaDiM("resnet18", **SMALL, **options).fit(IMAGES[:5])
        detector.calibrate(false_alarm_rate=0.5)
        detector.save(tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors", detector.predict(IMAGES).scores

    return fitted


def told(recorded) -> list[str]:
    return [str(warning.message) for warning in recorded if "precision" in str(warning.message)]


def test_a_model_that_auto_fitted_in_bfloat16_computes_in_float32_where_that_is_faster(model, fast_bfloat16, tmp_path):
    path, scores = model(fast=True)
    with warnings.catch_warnings(record=True) as recorded:
        same = load(path)
    assert told(recorded) == []
    assert (same.precision, same.precision_, same.backbone_.precision) == ("auto", "bfloat16", "bfloat16")
    np.testing.assert_allclose(same.predict(IMAGES).scores, scores, rtol=1e-4)

    fast_bfloat16(False)
    with pytest.warns(UserWarning, match="fitted in bfloat16 and computes in float32 here"):
        other = load(path)
    assert (other.precision, other.precision_, other.backbone_.precision) == ("auto", "bfloat16", "float32")
    assert other.threshold_ == same.threshold_
    found = other.predict(IMAGES).scores
    np.testing.assert_allclose(found[5:], scores[5:], rtol=0.05)  # images of the fit lie so close that it is all noise
    assert not np.allclose(found, scores, rtol=1e-5)

    other.save(tmp_path / "again.safetensors")  # the fit remains one in bfloat16
    fast_bfloat16(True)
    assert load(tmp_path / "again.safetensors").backbone_.precision == "bfloat16"
    assert other.fit(IMAGES[:5]).precision_ == "float32"  # and another fit is one of its own


def test_a_model_fitted_in_float32_stays_so(model, fast_bfloat16):
    path, scores = model(fast=False)
    fast_bfloat16(True)
    loaded = load(path)
    assert (loaded.precision, loaded.precision_, loaded.backbone_.precision) == ("auto", "float32", "float32")
    np.testing.assert_allclose(loaded.predict(IMAGES).scores, scores, rtol=1e-4)


def test_bfloat16_that_was_asked_for_is_slow_but_not_silent(model, fast_bfloat16):
    path, scores = model(fast=True, precision="bfloat16")
    fast_bfloat16(False)
    with pytest.warns(UserWarning, match="several times as long as float32 on this processor"):
        loaded = load(path)
    assert loaded.precision == loaded.backbone_.precision == "bfloat16"
    np.testing.assert_allclose(loaded.predict(IMAGES).scores, scores, rtol=1e-4)


def test_more_images_in_another_precision_are_told_of_and_merges_refused(model, fast_bfloat16):
    path, _ = model(fast=True)
    fast_bfloat16(False)
    with pytest.warns(UserWarning, match="computes in float32 here"):
        loaded = load(path)
    here = PaDiM("resnet18", **SMALL).fit(IMAGES[5:])
    with pytest.raises(InputError, match=r"differ in precision \(bfloat16, float32\)"):
        loaded.merge(here)
    with pytest.warns(UserWarning, match="added in float32 join those seen in bfloat16"):
        loaded.partial_fit(IMAGES[5:])
    assert (loaded.n_images_, loaded.precision_) == (8, "bfloat16")


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


def test_maps_in_the_type_of_the_network_are_those_of_forward():
    images = torch.rand(5, 3, 64, 96)
    for precision, dtype in devices.PRECISIONS.items():
        backbone = registry.backbones.create("resnet18", weights="none").in_precision(precision)
        maps = backbone.forward_native_dtype(images)
        assert {layer.dtype for layer in maps} == {dtype}
        assert all(torch.equal(one.float(), other) for one, other in zip(maps, backbone(images), strict=True))


def test_a_forward_of_its_own_is_respected():
    class Negative(Backbone):
        def forward(self, images):
            return [-layer for layer in super().forward(images)]

    backbone = registry.backbones.create("builtin", weights="none").in_precision("bfloat16")
    expected = [-layer for layer in backbone(torch.ones(1, 3, 64, 64))]
    backbone.__class__ = Negative
    found = backbone.forward_native_dtype(torch.ones(1, 3, 64, 64))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_the_layout_of_images_changes_no_bit_of_their_normalization():
    backbone = registry.backbones.create("resnet18", weights="none")
    images = torch.rand(3, 3, 20, 36)
    last = images.to(memory_format=torch.channels_last)
    assert torch.equal(backbone._normalized(last), backbone._normalized(images))
    assert torch.equal(backbone._normalized(images), (images - backbone._shift) * backbone._scale)


@pytest.mark.parametrize("reduction", ["random", "orthogonal"])
def test_features_in_bfloat16_give_what_features_in_float32_do(reduction):
    images = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    detector = PaDiM(
        "builtin", weights="none", n_components=8, reduction=reduction, resize=64, crop=None, precision="bfloat16"
    )
    found = detector.fit(images).predict(images)
    expected = detector.fit_features(detector.extract_normal(images)).predict_features(detector.extract(images))
    assert {layer.dtype for layer in detector.extract(images).maps} == {torch.float32}
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)


def test_a_backbone_asked_for_an_unknown_precision_says_which_there_are():
    with pytest.raises(InputError, match="unknown precision 'half': expected float32, bfloat16 or auto"):
        PaDiM("builtin", weights="none", precision="half").build_backbone()
