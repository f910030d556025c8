"""Model files that are damaged, foreign or of another version: one line, whatever is amiss."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from padim_zoo import InputError, PaDiM, load
from padim_zoo.detectors import storage
from padim_zoo.detectors.loading import detector_in, verify
from padim_zoo.detectors.model_header import FORMAT
from padim_zoo.gaussians import gaussian, nested
from padim_zoo.gaussians.gaussian import HALF_ERROR

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    detector = PaDiM(n_components=10, resize=None, crop=None).fit(IMAGES)
    detector.calibrate()
    detector.save(path)
    return path


def refuse(path: Path, words: str, action: Callable[[Path], Any] = load) -> None:
    with pytest.raises(InputError, match=words) as caught:
        action(path)
    assert "\n" not in str(caught.value)


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["padim_zoo"])["content"]
    return header


def signed(content: Any) -> dict[str, str]:
    """Metadata of a file with this content."""
    text = json.dumps({"content": content, "provenance": {}})
    return {"padim_zoo": text, "digest": hashlib.sha256(text.encode()).hexdigest()}


def test_files_that_are_no_models(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    refuse(path, "not a file")
    save_file({"a": torch.zeros(2)}, path)
    refuse(path, "no padim-zoo model")
    path.write_bytes(model.read_bytes()[:-1000])
    refuse(path, "not a whole")
    path.write_text("hello")
    refuse(path, "not a whole")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ([1, 2], "without a format"),
        ("padim", "without a format"),
        ({}, "without a format"),
        ({"format": "1"}, "without a format"),
        ({"format": 99}, "upgrade"),
        ({"format": 3}, "older version"),
        ({"format": FORMAT}, "another version"),
        ({"format": FORMAT, "detector": "padim"}, "another version"),
        ({"format": FORMAT, "detector": ["padim"], "arrays": {}}, "another version"),
        ({"format": FORMAT, "detector": "padim", "arrays": {}}, "is damaged: its array backbone"),
        ({"format": FORMAT, "detector": "padim", "arrays": {"mean.0": 3}}, "damaged"),
    ],
)
def test_foreign_headers(model: Path, tmp_path: Path, header: Any, words: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file(load_file(model), path, metadata=signed(header))
    refuse(path, words)


@pytest.mark.parametrize("missing", [None, "detector", "parameters", "weights_hash", "form", "grids", "calibration"])
def test_a_header_without_a_key(model: Path, tmp_path: Path, missing: str | None) -> None:
    header = header_of(model)
    path = tmp_path / "model.safetensors"
    if missing is None:  # the copy is good but for what is taken out
        save_file(load_file(model), path, metadata=signed(header))
        load(path)
        return
    del header[missing]
    save_file(load_file(model), path, metadata=signed(header))
    refuse(path, "another version")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detector": "padin"}, "unknown detector 'padin': did you mean padim"),
        ({"form": "cubic"}, "form 'cubic'"),
        ({"parameters": {"backbone": "builtin", "color": "red"}}, "color"),
        ({"parameters": [1]}, "makes no padim"),
        ({"grids": 7}, "makes no padim"),
        ({"grids": [[8]]}, "makes no padim"),
        ({"image_size": []}, "makes no padim"),
        ({"calibration": {"limit": 3}}, "makes no padim"),
        ({"weights_hash": "0" * 16}, "damaged"),
    ],
)
def test_headers_that_make_no_detector(model: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    header = {**header_of(model), **change}
    path = tmp_path / "model.safetensors"
    save_file(load_file(model), path, metadata=signed(header))
    refuse(path, words)


@pytest.mark.parametrize("parameters", [{"seed": -1}, {"sigma": "wide"}, {"reduction": "square"}, {"estimator": 3}])
def test_parameters_in_a_file_are_checked_as_any(model: Path, tmp_path: Path, parameters: dict[str, Any]) -> None:
    header = header_of(model)
    header["parameters"] |= parameters
    path = tmp_path / "model.safetensors"
    save_file(load_file(model), path, metadata=signed(header))
    refuse(path, f"{next(iter(parameters))} is ")


def test_arrays_that_are_missing_left_over_or_of_another_form(model: Path, tmp_path: Path) -> None:
    arrays, metadata = load_file(model), signed(header_of(model))
    path = tmp_path / "model.safetensors"
    for name, array in list(arrays.items()):
        save_file({**arrays, name: array[..., None].contiguous()}, path, metadata=metadata)
        refuse(path, f"its array {name} is not as")
        save_file({other: arrays[other] for other in arrays if other != name}, path, metadata=metadata)
        refuse(path, f"its array {name} is not as")
    save_file({**arrays, "more": torch.zeros(1)}, path, metadata=metadata)
    refuse(path, "its array more is not as")
    save_file({**arrays, "mean.0": arrays["mean.0"].double()}, path, metadata=metadata)
    refuse(path, r"its array mean\.0 is not as")


@pytest.mark.parametrize(
    ("parameters", "more"),
    [
        ({"passes": 10**9}, {}),
        ({"resize": 10**6}, {}),
        ({"crop": [10**6, 3]}, {}),
        ({}, {"n_images": -1}),
        ({}, {"precision": "float8"}),
        ({}, {"image_size": [10**6, 10**6]}),
        ({}, {"grids": [[10**9, 10**9]] * 3}),
        ({}, {"calibration": {"threshold": "high"}}),
        ({}, {"calibration": {"threshold": 1e999}}),
    ],
)
def test_numbers_are_in_their_ranges(model: Path, tmp_path: Path, parameters: Any, more: dict[str, Any]) -> None:
    header = header_of(model)
    header["parameters"] |= parameters
    calibration = header["calibration"] | more.pop("calibration", {})
    path = tmp_path / "model.safetensors"
    save_file(load_file(model), path, metadata=signed({**header, "calibration": calibration, **more}))
    refuse(path, "makes no padim|resize is|crop is|without a format")


def test_every_flip_of_a_header_is_noticed(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    path = tmp_path / "model.safetensors"
    expected = load(model).predict(IMAGES[:1]).scores
    for position in np.random.default_rng(0).integers(0, length, 80).tolist():
        spoilt = bytearray(content)
        spoilt[position] ^= 4
        path.write_bytes(spoilt)
        try:  # a flip within white space, say, changes nothing
            scores = load(path).predict(IMAGES[:1]).scores
        except InputError:
            continue
        np.testing.assert_array_equal(scores, expected)


def test_a_model_is_read_from_one_file_however_it_is_replaced(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model.read_bytes())
    expected = load(model).predict(IMAGES).scores
    file = storage.open_detector(path)
    PaDiM(n_components=10, resize=None, crop=None).fit(IMAGES[:3]).save(path)  # replaced
    np.testing.assert_array_equal(detector_in(file).predict(IMAGES).scores, expected)
    path.write_bytes(model.read_bytes())
    detector = load(path)
    with path.open("r+b") as overwritten:  # in place
        overwritten.write(bytes(path.stat().st_size))
    with path.open("wb"):  # cut off
        pass
    np.testing.assert_array_equal(detector.predict(IMAGES).scores, expected)


def test_a_score_that_is_no_number_is_not_normal(model: Path) -> None:
    detector = load(model)
    detector.model_.mean.layers[0][:] = float("nan")
    with pytest.raises(InputError, match="neither normal nor anomalous"):
        detector.predict(IMAGES)


def test_content_is_the_same_whenever_it_is_written(model: Path, tmp_path: Path) -> None:
    detector = load(model)
    for name in ("one", "other"):
        detector.save(tmp_path / name)
    assert header_of(tmp_path / "one") == header_of(tmp_path / "other")


def test_a_single_bit_is_noticed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(model.read_bytes())
    path = tmp_path / "model.safetensors"
    verify(model)
    for position in (-len(content) // 4, -(len(content) // 2), -1):
        spoilt = bytearray(content)
        spoilt[position] ^= 1
        path.write_bytes(spoilt)
        refuse(path, "is not what was saved")
    monkeypatch.setattr(storage, "VERIFIED_AT_ONCE", 0)  # as if the file were large
    with pytest.warns(UserWarning, match="lies mapped on the disk"):
        load(path)
    refuse(path, "is not what was saved", verify)


@pytest.mark.parametrize("estimator", ["full", "oas"])  # nested and primal
def test_factors_in_16_bit_move_distances_no_more_than_the_file_says(tmp_path: Path, estimator: str) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(30)]
    detector = PaDiM(estimator=estimator, n_components=8, resize=None, crop=None, sigma=0, batch_size=8).fit(images)
    detector.save(tmp_path / "half.safetensors")
    detector.save(tmp_path / "whole.safetensors", dtype="float32")
    whole, half = (load(tmp_path / f"{name}.safetensors", batch_size=8) for name in ("whole", "half"))
    exact = detector.predict(images).maps
    np.testing.assert_allclose(whole.predict(images).maps, exact, rtol=1e-5)  # two forward passes may round differently
    stated = storage.open_detector(tmp_path / "half.safetensors").header["half_error"]
    moved = np.abs(half.predict(images).maps / exact - 1).max()
    assert 0 < moved <= stated <= HALF_ERROR
    arrays = load_file(tmp_path / "half.safetensors")
    assert torch.float16 in {array.dtype for name, array in arrays.items() if name.startswith("gaussian.factor.")}
    saved = sum(array.nbytes for name, array in arrays.items() if name.startswith(("gaussian.", "mean.")))
    assert detector.size_in_bytes() == half.size_in_bytes() == saved
    half.save(tmp_path / "again.safetensors")
    assert np.array_equal(
        load(tmp_path / "again.safetensors", batch_size=8).predict(images).maps, half.predict(images).maps
    )
    with pytest.raises(InputError, match="dtype is 'int8': expected float16 or float32"):
        detector.save(tmp_path / "other.safetensors", dtype="int8")


@pytest.mark.parametrize("estimator", ["full", "oas"])
def test_factors_that_16_bit_would_spoil_are_kept_in_32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimator: str
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(30)]
    detector = PaDiM(estimator=estimator, n_components=8, resize=None, crop=None).fit(images)
    for module in (gaussian, nested):
        monkeypatch.setattr(module, "HALF_ERROR", 1e-7)
    detector.save(tmp_path / "model.safetensors")
    arrays = load_file(tmp_path / "model.safetensors")
    assert {array.dtype for name, array in arrays.items() if name.startswith("gaussian.factor.")} == {torch.float32}
    assert np.array_equal(load(tmp_path / "model.safetensors").predict(images).maps, detector.predict(images).maps)


def test_the_dual_form_is_kept_without_its_zeros(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(6)]
    detector = PaDiM(estimator="ledoit-wolf", n_components=8, resize=None, crop=None).fit(images)
    detector.save(tmp_path / "model.safetensors")
    arrays = load_file(tmp_path / "model.safetensors")
    assert arrays["gaussian.whitener.values"].shape == (16 * 16, 21)
    saved = sum(array.nbytes for name, array in arrays.items() if name.startswith(("gaussian.", "mean.")))
    assert detector.size_in_bytes() == saved
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.size_in_bytes() == saved
    assert np.array_equal(loaded.predict(images).maps, detector.predict(images).maps)
