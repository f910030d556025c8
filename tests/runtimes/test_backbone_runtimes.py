"""Backbones in ONNX Runtime and OpenVINO: the maps and scores of torch, converted once, kept, told."""

from __future__ import annotations

import copy
import json
import pickle
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from padim_zoo import STFPM, InputError, PaDiM, load, registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.conversion import decide_runtime, in_runtime
from padim_zoo.bench.build import create_detector
from padim_zoo.bench.check.baseline import Baseline
from padim_zoo.bench.check.comparison import compare
from padim_zoo.bench.check.finding import Limits
from padim_zoo.bench.check.row import read_rows
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.cli.main import main
from padim_zoo.core.errors import MissingExtraError
from padim_zoo.detectors.backbone_in_use import BackboneInUse
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.runtimes import choice
from padim_zoo.runtimes.choice import Choice
from padim_zoo.runtimes.converted_network import ConvertedNetwork
from padim_zoo.runtimes.runtime import RUNTIMES, Runtime, resolve_runtime

EXACT = 1e-4
OPTIONS: dict[str, Any] = {"resize": None, "crop": None, "device": "cpu", "precision": "float32"}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(RUNTIMES[request.param].package)
    return request.param


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(name: str) -> Backbone:
    backbone = registry.backbones.create(name, weights="default" if name == "builtin" else "none")
    assert isinstance(backbone, Backbone)
    return backbone


def noise(n: int, height: int = 64, width: int = 64) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


@pytest.mark.parametrize("name", ["builtin", "resnet18"])
def test_maps_are_those_of_torch(name: str, runtime: str) -> None:
    in_torch = make(name)
    other = in_runtime(in_torch, runtime)
    assert (in_torch.runtime, other.runtime, other.weights_hash) == ("torch", runtime, in_torch.weights_hash)
    for n, height, width in ((1, 64, 64), (3, 96, 160), (7, 224, 224)):
        images = torch.rand(n, 3, height, width).to(memory_format=torch.channels_last)
        for expected, maps in zip(in_torch(images), other(images), strict=True):
            assert maps.dtype == torch.float32
            assert maps.shape == expected.shape
            assert difference(maps.numpy(), expected.numpy()) < EXACT
    assert in_runtime(other, "torch").converted is None


def test_an_image_has_the_same_maps_in_every_batch_and_by_every_number_of_threads(runtime: str) -> None:
    backbone, images = in_runtime(make("builtin"), runtime), torch.rand(5, 3, 96, 96)
    together = backbone(images)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        in_two = backbone(images)
    finally:
        torch.set_num_threads(threads)
    for position in range(len(images)):
        alone = backbone(images[position : position + 1])
        assert all(torch.equal(one[position : position + 1], other) for one, other in zip(together, alone, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(together, in_two, strict=True))


@pytest.mark.parametrize("name", ["builtin", "resnet18"])
def test_a_model_of_one_runtime_scores_by_another(name: str, runtime: str, tmp_path: Path) -> None:
    images, path = noise(12), tmp_path / "model.safetensors"
    options = {**OPTIONS, "weights": "default" if name == "builtin" else "none", "n_components": 20}
    expected = PaDiM(name, **options).fit(images[:8]).predict(images)
    detector = PaDiM(name, runtime=runtime, **options).fit(images[:8])
    assert detector.runtime_ == detector.build_backbone().runtime == runtime
    detector.save(path)
    loaded = load(path)
    assert (loaded.runtime_, loaded.build_backbone().runtime) == (runtime, "torch")
    for fitted in (detector, loaded):
        prediction = fitted.predict(images)
        np.testing.assert_allclose(prediction.scores, expected.scores, rtol=EXACT)
        assert difference(prediction.maps, expected.maps) < EXACT
    loaded.set_params(runtime="torch").save(tmp_path / "again.safetensors")
    assert load(tmp_path / "again.safetensors").runtime_ == runtime


def test_images_in_bands_are_those_of_whole_images(runtime: str) -> None:
    images = noise(6, 512, 96)
    options = {**OPTIONS, "n_components": 8, "runtime": runtime}
    whole = PaDiM("builtin", stream=1, **options).fit(images[:4]).predict(images)
    banded = PaDiM("builtin", stream=2, **options).fit(images[:4])
    np.testing.assert_allclose(banded.predict(images).scores, whole.scores, rtol=EXACT)
    assert banded.extractor.plans.latest is not None


def test_a_student_is_trained_on_the_maps_of_any_runtime(runtime: str) -> None:
    images = noise(6)
    options = {**OPTIONS, "epochs": 1, "train_batch": 3}
    expected = STFPM("builtin", **options).fit(images).predict(images)
    prediction = STFPM("builtin", runtime=runtime, **options).fit(images).predict(images)
    np.testing.assert_allclose(prediction.scores, expected.scores, rtol=1e-3)  # a training amplifies rounding


def test_a_network_is_converted_once(runtime: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, images = in_runtime(make("builtin"), runtime), torch.rand(2, 3, 64, 64)
    [entry] = (own_cache / "networks").iterdir()
    convert, calls = Runtime.convert, []

    def count(self: Runtime, *arguments: Any) -> tuple[bytes, ...]:
        calls.append(self.name)
        return convert(self, *arguments)

    monkeypatch.setattr(Runtime, "convert", count)
    again = in_runtime(make("builtin"), runtime)
    assert calls == []
    assert all(torch.equal(one, other) for one, other in zip(first(images), again(images), strict=True))
    content = bytearray(entry.read_bytes())
    content[-1000] ^= 1  # within the weights
    entry.write_bytes(content)
    again = in_runtime(make("builtin"), runtime)
    assert calls == [runtime]
    assert all(torch.equal(one, other) for one, other in zip(first(images), again(images), strict=True))
    assert entry.read_bytes() != bytes(content)


def test_other_weights_and_layers_are_other_networks(runtime: str, own_cache: Path) -> None:
    for layers, weights in ((None, "default"), (("stage1",), "default"), (None, "none")):
        in_runtime(registry.backbones.create("builtin", layers=layers, weights=weights), runtime)
    assert len(list((own_cache / "networks").iterdir())) == 3


def test_nothing_is_kept_by_a_limit_of_zero(runtime: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", "0")
    assert in_runtime(make("builtin"), runtime).runtime == runtime
    assert not own_cache.exists()


def test_backbones_are_copied_and_pickled(runtime: str) -> None:
    backbone, images = in_runtime(make("builtin"), runtime), torch.rand(1, 3, 64, 64)
    expected = backbone(images)
    for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert other.runtime == runtime
        assert all(torch.equal(one, two) for one, two in zip(other(images), expected, strict=True))


class Sorting(nn.Module):
    """What exporters cannot take: the control flow depends on the images."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The images, pooled."""
        pooled = nn.functional.avg_pool2d(images, 4)
        return [pooled if float(images.mean()) > 0 else -pooled]


def test_what_cannot_be_converted_stays_in_torch(runtime: str, capsys: pytest.CaptureFixture[str]) -> None:
    scattering = make("scattering")  # of an operation that neither knows
    with pytest.warns(UserWarning, match=f"scattering stays in torch, not {runtime}: "):
        assert in_runtime(scattering, runtime).runtime == "torch"
    network = Sorting()
    plugin = Backbone(network, name="mine", layers=["a"], strides=[4], state={}, weights_source="none")
    with pytest.warns(UserWarning, match="mine stays in torch"):
        kept = PaDiM(plugin, runtime=runtime, **OPTIONS).build_backbone()
    assert kept.runtime == "torch"
    assert capsys.readouterr().out == ""


def test_bfloat16_is_for_runtimes_that_have_it() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    in_16_bits = make("builtin").in_precision("bfloat16")
    with pytest.warns(UserWarning, match="builtin stays in torch, not onnx: ONNX Runtime computes in float32"):
        assert in_runtime(in_16_bits, "onnx").runtime == "torch"
    other, images = in_runtime(in_16_bits, "openvino"), torch.rand(1, 3, 64, 64)
    assert (other.runtime, other.precision, other.converted.precision) == ("openvino", "bfloat16", "bfloat16")
    assert [layer.dtype for layer in other.forward_native_dtype(images)] == [torch.bfloat16] * 3
    for maps, expected in zip(other(images), make("builtin")(images), strict=True):
        assert difference(maps.numpy(), expected.numpy()) < 0.05


def test_openvino_is_told_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    told: list[Any] = []
    compile_model = openvino.Core.compile_model

    def note(self: Any, model: Any, device: str, hints: dict[str, Any]) -> Any:
        told.append(hints["INFERENCE_PRECISION_HINT"])
        return compile_model(self, model, device, {**hints, "INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(openvino.Core, "compile_model", note)
    images = torch.rand(1, 3, 64, 64)
    for precision in ("float32", "bfloat16"):
        in_runtime(make("builtin").in_precision(precision), "openvino")(images)
    assert [told[-2], told[-1]] == ["f32", "bf16"]


def test_features_are_kept_apart_where_they_differ(runtime: str) -> None:
    keys = {name: PaDiM(runtime=name, **OPTIONS).features_key for name in (None, "torch", runtime)}
    assert keys[None] == keys["torch"]
    assert keys[runtime] == f"{keys['torch']} {runtime}"


def test_which_runtime_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown runtime 'tensorflow': expected auto, torch, onnx or openvino"):
        PaDiM(runtime="tensorflow").check_parameters()
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", "jax")
    with pytest.raises(InputError, match="the environment variable PADIM_ZOO_RUNTIME is 'jax'"):
        PaDiM().check_parameters()
    PaDiM(runtime="torch").check_parameters()
    monkeypatch.delenv("PADIM_ZOO_RUNTIME")
    assert resolve_runtime(None) == "auto"
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", "onnx")
    assert PaDiM(**OPTIONS).build_backbone().runtime == "onnx"
    assert PaDiM(runtime="torch", **OPTIONS).build_backbone().runtime == "torch"


@pytest.mark.parametrize(
    ("precision", "asked", "variable", "decides"),
    [
        ("float32", None, "", True),
        ("bfloat16", None, "", False),
        ("bfloat16", "auto", "", True),
        ("bfloat16", None, "auto", True),
        ("float32", "torch", "auto", False),
        ("float32", None, "torch", False),
    ],
)
def test_by_default_sixteen_bits_stay_with_torch(
    precision: str, asked: str | None, variable: str, decides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", variable)
    decided = []
    monkeypatch.setattr(BackboneInUse, "decide_runtime", lambda self, images, size, **_: decided.append((images, size)))
    detector = PaDiM(**OPTIONS | {"precision": precision, "resize": (64, 64)}, runtime=asked)
    detector.expect(10**6)
    assert decided == [(10**6, (64, 64))] * decides


@pytest.mark.parametrize(
    ("asked", "variable", "expected"),
    [(None, "", "torch"), (None, "auto", "auto"), ("auto", "torch", "auto"), ("torch", "auto", "torch")],
)
def test_a_benchmark_stays_with_torch_unless_told(
    images: Path, asked: str | None, variable: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", variable)
    suite = Suite(dataset="mvtec", data_root=images, estimators=("full",), runtime=asked)
    [run] = make_plan(suite).runs
    assert create_detector(suite, run, make("builtin")).get_params()["runtime"] == expected


def test_a_runtime_that_is_not_installed_names_its_extra(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, RUNTIMES[runtime].package, None)
    with pytest.raises(MissingExtraError, match=rf"padim-zoo\[{runtime}\]"):
        PaDiM(runtime=runtime, **OPTIONS).build_backbone()


@pytest.fixture
def measured(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretends that an image takes 40 ms in torch, 20 in ONNX Runtime and 30 in OpenVINO; notes what is measured.

    One image alone takes 60, 20 and 15.
    """
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    names: list[str] = []

    def pretend(runs: dict[str, Any], batch: torch.Tensor) -> dict[str, float]:
        names.extend(run.__self__.runtime for run in runs.values())
        times = {"torch": 0.04, "onnx": 0.02, "openvino": 0.03}
        if len(batch) == 1:
            times = {"torch": 0.06, "onnx": 0.02, "openvino": 0.015}
        return {name: times[name] for name in runs}

    monkeypatch.setattr(choice, "seconds_per_image", pretend)
    monkeypatch.setattr(choice, "seconds_of_first", lambda run, shape: 0.2)
    return names


def test_auto_measures_where_the_images_repay_it(measured: list[str]) -> None:
    images = noise(24, 32, 32)
    detector = PaDiM(runtime="auto", n_components=8, **{**OPTIONS, "crop": 32})
    detector.fit(images[:10])
    assert measured == []  # too few, whatever is measured
    detector.fit(images)
    assert measured == []  # 24 images of 200 ms do not repay conversions, even if the first pass was right
    detector.expect(100)
    assert measured == ["torch"]  # nor do 100 of 40 ms
    assert detector.build_backbone().runtime == "torch"
    detector.expect(1000)
    assert measured[1:] == ["torch", "torch", *RUNTIMES]
    assert detector.build_backbone().runtime == "onnx"
    told = "onnx, the fastest here (torch 40.0, onnx 20.0, openvino 30.0 ms an image)"
    assert str(detector.build_backbone().choice) == told
    another = PaDiM(runtime="auto", n_components=8, **{**OPTIONS, "crop": 32})
    del measured[:]
    another.expect(24)  # 0.02 s each are less than it takes to open a network
    assert another.build_backbone().runtime == "torch"
    another.expect(30)
    assert another.build_backbone().runtime == "onnx"
    assert measured == []  # the choice is kept


def test_auto_measures_one_image_alone_where_they_come_one_by_one(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    converted, convert = [], Runtime.convert

    def count(self: Runtime, *arguments: Any) -> tuple[bytes, ...]:
        converted.append(self.name)
        return convert(self, *arguments)

    monkeypatch.setattr(Runtime, "convert", count)
    options = {**OPTIONS, "crop": 32, "runtime": "auto", "n_components": 8}
    detector, images = PaDiM(**options), noise(24, 32, 32)
    expected = PaDiM(**{**options, "runtime": "torch"}).fit(images).predict(images).scores
    detector.expect(1000)
    assert detector.build_backbone().runtime == "onnx"
    detector.expect(1000, at_once=1)
    backbone = detector.build_backbone()
    assert backbone.runtime == "openvino"
    assert str(backbone.choice).startswith("openvino, the fastest here for one image at a time (torch 60.0")
    detector.fit(images)
    detector.expect(500)
    assert detector.build_backbone() is backbone  # an image has one score, alone and among others
    scores = [float(detector.predict([image]).scores[0]) for image in images]
    np.testing.assert_allclose(scores, expected, rtol=EXACT)
    np.testing.assert_allclose(detector.predict(images).scores, scores, rtol=EXACT)
    assert converted == list(RUNTIMES)  # one conversion serves both
    del measured[:]
    detector.expect(1000, at_once=5)
    assert detector.build_backbone().runtime == "onnx"
    PaDiM(**options, batch_size=1).expect(1000)
    assert measured == []  # both choices are kept


def test_a_runtime_of_their_own_is_not_decided_anew(measured: list[str]) -> None:
    detector = PaDiM(in_runtime(make("builtin"), "onnx"), **{**OPTIONS, "crop": 32})
    detector.expect(1000, at_once=1)
    assert detector.build_backbone().runtime == "onnx"
    assert measured == []
    with pytest.raises(InputError, match="at_once is 0"):
        detector.expect(1000, at_once=0)


@pytest.mark.parametrize("images", [-1, 2.5, True, "5"])
def test_what_is_expected_is_a_number_of_images(images: Any) -> None:
    with pytest.raises(InputError, match=r"images is .*: expected a whole number"):
        PaDiM(**OPTIONS).expect(images)


@pytest.mark.parametrize(
    ("options", "at_once", "expected"),
    [
        ({}, None, False),
        ({}, 2, False),
        ({}, 1, True),
        ({"batch_size": 1}, None, True),
        ({"batch_size": 1, "tta": "flip"}, None, False),
        ({"tta": "flip"}, 1, False),
        ({"tiles": "32+8"}, 1, False),
    ],
)
def test_auto_knows_whether_images_pass_one_by_one(
    options: dict[str, Any], at_once: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[bool] = []
    monkeypatch.setattr(BackboneInUse, "decide_runtime", lambda self, *_, alone, anew: noted.append(alone))
    PaDiM(runtime="auto", **{**OPTIONS, "crop": 64}, **options).expect(100, at_once)
    assert noted == [expected]


def test_members_are_told_how_many_come_at_once(measured: list[str]) -> None:
    options: dict[str, Any] = {**OPTIONS, "crop": 32, "runtime": "auto"}
    ensemble = Ensemble([PaDiM(n_components=count, **options) for count in (4, 6)])
    ensemble.expect(1000, at_once=1)
    assert {member.build_backbone().runtime for member in ensemble.members} == {"openvino"}


def test_auto_counts_tiles(measured: list[str]) -> None:
    detector = PaDiM(runtime="auto", tiles="64+16", **{**OPTIONS, "crop": 512})
    detector.expect(10)  # of 121 tiles each
    assert detector.build_backbone().runtime == "onnx"


def test_a_broken_runtime_is_none_to_choose(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = PaDiM(runtime="auto", **{**OPTIONS, "crop": 32})
    detector.expect(1000)
    assert detector.build_backbone().runtime == "onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(Runtime, "is_installed", True)
    another = PaDiM(runtime="auto", **{**OPTIONS, "crop": 32})
    another.expect(1000)  # the choice is kept
    assert another.build_backbone().runtime == "torch"


def test_images_are_forgotten_by_the_runtime_of_the_fit(runtime: str) -> None:
    images = noise(20, 64, 64)
    options = {**OPTIONS, "n_components": 8}
    fitted = PaDiM(runtime=runtime, **options).fit(images)
    fitted.statistics_ = fitted.moments_of(fitted.statistics_, fitted.statistics_.mean)
    fitted.runtime = None
    fitted.forget(images[2:])
    again = PaDiM(runtime=runtime, **options).fit(images[:2])
    theirs, ours = again.predict(images[2:]).maps, fitted.predict(images[2:]).maps
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_auto_leaves_large_images_to_torch(measured: list[str]) -> None:
    backbone = make("builtin")
    assert decide_runtime(backbone, 10_000, (64, 64), alone=False) is not None
    assert decide_runtime(backbone, 10_000, (1024, 1024), alone=False) is None


def test_auto_in_bfloat16_says_how_far_its_maps_are(measured: list[str]) -> None:
    narrow = make("builtin").in_precision("bfloat16")
    found = decide_runtime(narrow, 10_000, (224, 224), alone=False)
    assert found is not None
    assert found.fastest == "openvino"  # ONNX Runtime has no bfloat16
    images = torch.rand(5, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    theirs = in_runtime(narrow, "openvino").forward_native_dtype(images)
    assert found.difference == choice.difference_of(theirs, narrow.forward_native_dtype(images)) < 0.05
    assert decide_runtime(narrow, 10_000, (224, 224), alone=False) == found  # kept
    alone = decide_runtime(narrow, 10_000, (224, 224), alone=True)
    assert alone is not None
    assert alone.difference == found.difference  # by as many images: of the first one it may be nothing


def test_a_choice_says_how_far_maps_are_where_that_is_more_than_rounding() -> None:
    seconds = {"torch": 0.004, "openvino": 0.002}
    times = "openvino, the fastest here (torch 4.0, openvino 2.0 ms an image)"
    assert str(Choice(seconds, 1e-6, 5)) == times
    assert str(Choice(seconds, 0.0081, 5)) == f"{times}, its maps 0.8% from those of torch"


def test_a_choice_for_one_image_at_a_time_says_so() -> None:
    told = "openvino, the fastest here for one image at a time (torch 4.0, openvino 2.0 ms an image)"
    assert str(Choice({"torch": 0.004, "openvino": 0.002}, 0.0, 1)) == told


def test_the_difference_of_maps_is_that_of_the_worst_layer() -> None:
    maps = [torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])]
    others = [torch.tensor([3.0, 4.5]), torch.tensor([1.0, 0.2])]
    assert choice.difference_of(others, maps) == pytest.approx(0.2)


def test_a_folder_of_the_name_of_a_runtime_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_runtime").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not RUNTIMES["onnx"]._replace(package="no_such_runtime").is_installed


def test_what_ran_in_the_fit_stays_known_when_another_runtime_scores(measured: list[str]) -> None:
    images = noise(24, 32, 32)
    detector = PaDiM(runtime="auto", n_components=8, **{**OPTIONS, "crop": 32}).fit(images[:10])
    assert detector.runtime_ == "torch"
    detector.expect(1000)
    detector.predict(images)
    assert (detector.build_backbone().runtime, detector.runtime_) == ("onnx", "torch")


def test_fits_by_two_runtimes_merge(runtime: str) -> None:
    images = noise(12, 64, 64)
    parts = [
        PaDiM(runtime=name, n_components=8, **OPTIONS).fit(part)
        for name, part in (("torch", images[:6]), (runtime, images[6:]))
    ]
    merged = parts[0].merge(parts[1])
    assert merged.runtime_ == f"torch+{runtime}"
    together = PaDiM(n_components=8, **OPTIONS).fit(images)
    np.testing.assert_allclose(merged.predict(images).scores, together.predict(images).scores, rtol=1e-4)


def test_in_bfloat16_fits_by_two_runtimes_are_refused() -> None:
    pytest.importorskip("openvino")
    images = noise(12, 64, 64)
    parts = [
        PaDiM(runtime=name, n_components=8, **{**OPTIONS, "precision": "bfloat16"}).fit(images)
        for name in ("torch", "openvino")
    ]
    with pytest.raises(InputError, match=r"differ in runtime \(torch, openvino\)"):
        parts[0].merge(parts[1])


def test_another_runtime_than_that_of_the_fit_is_warned_of_in_bfloat16(recwarn: pytest.WarningsRecorder) -> None:
    pytest.importorskip("openvino")
    images = noise(6, 64, 64)
    for precision, warned in (("float32", 0), ("bfloat16", 1)):
        detector = PaDiM(runtime="openvino", n_components=4, **{**OPTIONS, "precision": precision}).fit(images)
        recwarn.clear()
        detector.predict(images)
        detector.set_params(runtime="torch").predict(images)
        told = [each for each in recwarn if "fitted by openvino and is scored by torch" in str(each.message)]
        assert len(told) == warned


@pytest.mark.parametrize(("precision", "warned"), [("float32", 0), ("bfloat16", 1)])
def test_images_added_by_another_runtime_are_warned_of_in_bfloat16(
    precision: str, warned: int, recwarn: pytest.WarningsRecorder
) -> None:
    pytest.importorskip("openvino")
    images = noise(12, 64, 64)
    detector = PaDiM(runtime="openvino", n_components=4, **{**OPTIONS, "precision": precision}).fit(images[:6])
    detector.partial_fit(images[6:8])
    detector.set_params(runtime="torch").partial_fit(images[8:])
    told = [str(each.message) for each in recwarn if "fitted by openvino and is updated by torch" in str(each.message)]
    assert len(told) == warned
    assert all("update with --runtime openvino" in message for message in told)
    assert detector.runtime_ == "openvino+torch"


@pytest.mark.parametrize(("precision", "warned"), [("float32", 0), ("bfloat16", 1)])
def test_images_that_other_runtimes_learned_leave_traces_in_bfloat16(
    precision: str, warned: int, recwarn: pytest.WarningsRecorder
) -> None:
    images = noise(20, 64, 64)
    fitted = PaDiM(n_components=8, **{**OPTIONS, "precision": precision}).fit(images)
    fitted.statistics_ = fitted.moments_of(fitted.statistics_, fitted.statistics_.mean)
    fitted.fitted_by = "openvino+torch"
    fitted.forget(images[2:])
    told = [each for each in recwarn if "learned by openvino+torch and are taken out by torch" in str(each.message)]
    assert len(told) == warned


def test_images_are_taken_out_by_torch_where_their_runtime_is_broken(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def broken(self: Runtime) -> str:
        raise MissingExtraError("openvino", "openvino", "the runtime openvino")

    images = noise(20, 64, 64)
    fitted = PaDiM(n_components=8, **{**OPTIONS, "precision": "bfloat16"}).fit(images)
    fitted.statistics_ = fitted.moments_of(fitted.statistics_, fitted.statistics_.mean)
    fitted.fitted_by = "openvino"
    monkeypatch.setattr(Runtime, "is_installed", True)
    monkeypatch.setattr(Runtime, "version", broken)
    fitted.forget(images[2:])
    assert fitted.learned_images_.n == 2
    assert any("learned by openvino and are taken out by torch" in str(each.message) for each in recwarn)


def test_members_of_an_ensemble_have_one_runtime(measured: list[str]) -> None:
    options: dict[str, Any] = {**OPTIONS, "crop": 32, "runtime": "auto"}
    PaDiM(n_components=4, **options).expect(1000)  # measures, and keeps the choice
    ensemble = Ensemble([PaDiM(n_components=count, **options) for count in (4, 6)])
    features = ensemble.extract_normal(noise(30, 32, 32))
    assert {member.build_backbone().runtime for member in ensemble.members} == {"onnx"}
    ensemble.fit_features(features)


def test_those_that_are_measured_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    # Each second run takes ten times as long, as beside other work.
    monkeypatch.setattr(
        choice.time, "perf_counter", lambda: sum(0.1 if call // 2 % 2 else 0.01 for call in range(len(calls)))
    )
    runs = {name: partial(lambda name, _: calls.append(name), name) for name in ("a", "b")}
    seconds = choice.seconds_per_image(runs, torch.zeros(2, 3, 4, 4))
    assert calls == ["a", "b"] * (len(calls) // 2)
    assert seconds == {"a": pytest.approx(0.005), "b": pytest.approx(0.005)}


def test_auto_stays_with_torch_where_that_is_about_as_fast() -> None:
    assert choice.fastest_of({"torch": 0.010, "onnx": 0.0098}) == "torch"
    assert choice.fastest_of({"torch": 0.010, "onnx": 0.0085, "openvino": 0.008}) == "openvino"


def run(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from padim_zoo.data.synthetic import generate

    root = tmp_path_factory.mktemp("data") / "images"
    generate(root, categories=["gear"], train=8, good=3, defects_per_kind=1, size=64)
    return root


def test_an_option_beats_nonsense_in_the_environment(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, normal, test = tmp_path / "model.safetensors", images / "gear" / "train" / "good", images / "gear" / "test"
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", "jax")
    nonsense = "the environment variable PADIM_ZOO_RUNTIME is 'jax': expected auto, torch, onnx or openvino"
    asked = ("--runtime", "torch", "--no-cache")
    run("fit", normal, "-o", model, "--runtime", "torch", *SMALL)
    for command in (
        ("predict", model, test),
        ("evaluate", model, "--data-root", images, "--category", "gear"),
        ("bench", "--data-root", images, "--estimators", "diagonal", "-o", tmp_path / "runs"),
    ):
        run(*command, *asked)
        assert nonsense in run(*command, "--no-cache", status=2).output
    run("update", model, test / "good", "-o", tmp_path / "more.safetensors", "--runtime", "torch")
    for name, option, value in (("PRECISION", "--precision", "float32"), ("MAX_PIXELS", "--max-pixels", "1000000")):
        monkeypatch.setenv("PADIM_ZOO_RUNTIME", "")
        monkeypatch.setenv(f"PADIM_ZOO_{name}", "x")
        fit = ("fit", normal, "-o", model, *SMALL)
        assert f"the environment variable PADIM_ZOO_{name} is 'x'" in run(*fit, status=2).output
        run(*fit, option, value)
        monkeypatch.delenv(f"PADIM_ZOO_{name}")


def test_a_suite_beats_nonsense_in_the_environment(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", "jax")
    suite = tmp_path / "suite.yaml"
    suite.write_text("runtime: torch\nestimators: diagonal\n")
    run("bench", "--config", suite, "--data-root", images, "-o", tmp_path / "runs", *SMALL)


def test_a_model_is_not_converted_for_the_environment_first(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.safetensors"
    run("fit", images / "gear" / "train" / "good", "-o", model, "--runtime", "torch", *SMALL)
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", "onnx")
    monkeypatch.setattr(ConvertedNetwork, "of", None)
    run("predict", model, images / "gear" / "test", "--no-cache", "--runtime", "torch")


SMALL = ("--resize", "64", "--crop", "none", "--no-cache")


def test_commands_say_what_ran(images: Path, tmp_path: Path, runtime: str) -> None:
    model, normal = tmp_path / "model.safetensors", images / "gear" / "train" / "good"
    shown = run("fit", normal, "-o", model, "--runtime", runtime, *SMALL).stdout
    assert ["runtime", runtime] in [line.split() for line in shown.splitlines()]
    assert json.loads(run("show", model, "--json").stdout)["runtime"] == runtime
    assert ["runtime", runtime] in [line.split() for line in run("show", model).stdout.splitlines()]
    tests = images / "gear" / "test"
    expected = run("predict", model, tests, "--no-cache")
    assert "runtime" not in expected.stderr
    other = run("predict", model, tests, "--no-cache", "--runtime", runtime)
    assert f"runtime {runtime}" in other.stderr
    scores = [
        np.array([float(line.split(",")[1]) for line in each.stdout.splitlines()[1:]]) for each in (expected, other)
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=EXACT)
    evaluate = ("evaluate", model, "--data-root", images, "--category", "gear", "--no-cache", "--json")
    assert f"the backbone runs in {runtime}" in json.loads(run(*evaluate, "--runtime", runtime).stdout)["notes"]


def test_check_says_where_runtimes_differ(images: Path, tmp_path: Path, runtime: str) -> None:
    bench = ("bench", "--data-root", images, "--estimators", "diagonal", "--no-gallery", *SMALL)
    rows = {}
    for name in ("torch", runtime):
        run(*bench, "-o", tmp_path / name, "--runtime", name)
        store = RunStore(tmp_path / name)
        [document] = store.read_all().documents
        assert document["runtime"] == name
        rows[name] = read_rows(store, [document])
    assert rows["torch"][0].key == rows[runtime][0].key  # the same was asked for
    findings = compare(rows[runtime], None, Baseline(rows["torch"], None), Limits())
    assert any(f"runtime: {runtime} here, torch in the baseline" in note for note in findings.notes)
    again = run(*bench, "-o", tmp_path / "torch", "--runtime", runtime)
    assert f"1 run by torch kept: give another --output to have all by {runtime}" in again.output
    assert "kept" not in run(*bench, "-o", tmp_path / "torch").output


def test_a_benchmark_refuses_a_missing_runtime_once(
    images: Path, tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, RUNTIMES[runtime].package, None)
    monkeypatch.setattr(Runtime, "is_installed", False)
    result = run("bench", "--data-root", images, "--runtime", runtime, *SMALL, "-o", tmp_path / "runs", status=2)
    assert result.output.count(f"padim-zoo[{runtime}]") == 1


def test_sessions_do_not_outlive_a_copy(runtime: str) -> None:
    network = in_runtime(make("builtin"), runtime).converted
    assert isinstance(network, ConvertedNetwork)
    network(torch.rand(1, 3, 64, 64))
    assert "_sessions" not in network.__getstate__()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(copy.copy(network)(torch.rand(1, 3, 64, 64))) == 3
