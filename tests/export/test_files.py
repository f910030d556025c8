"""Exported files: written, run without what wrote them, refused when they find something else."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from padim_zoo import InputError, PaDiM, PatchCore, load
from padim_zoo.cli.main import main
from padim_zoo.export import exporting
from padim_zoo.export.networks import ExportableNetwork, exportable
from padim_zoo.export.runtimes import ExportedModel
from padim_zoo.export.suffixes import SUFFIXES
from tests.export.conftest import SMALL


def needs(form: str) -> None:
    for package in {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "torch": ()}[form]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install 'padim-zoo[{form}]'")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module", params=["torch", "onnx", "openvino"])
def exported(request: pytest.FixtureRequest, model: Path, files: list[Path], tmp_path_factory) -> Path:
    """The model in each format, from the command line."""
    needs(request.param)
    path = tmp_path_factory.mktemp("exported") / f"stripes{SUFFIXES[request.param]}"
    told = run("export", model, "--format", request.param, "-o", path, *(f"--images={file}" for file in files))
    assert "on 16 images: scores differ by at most" in told
    names = {path.name, "stripes.bin"} if request.param == "openvino" else {path.name}
    assert {file.name for file in path.parent.iterdir()} == names
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_predictions_are_those_of_the_model(exported: Path, model: Path, files: list[Path], tmp_path: Path) -> None:
    run("predict", model, *files, "--output", tmp_path / "model", "--maps", "npy")
    run("predict", exported, *files, "--output", tmp_path / "file", "--maps", "npy", "--batch-size", 3)
    found, expected = (rows(tmp_path / name / "scores.csv") for name in ("file", "model"))
    assert {row["anomalous"] for row in expected} == {"true", "false"}
    for one, other in zip(found, expected, strict=True):
        assert float(one.pop("score")) == pytest.approx(float(other.pop("score")), rel=1e-5)
        assert one == other
    for file in (tmp_path / "model" / "maps").iterdir():
        np.testing.assert_allclose(np.load(tmp_path / "file" / "maps" / file.name), np.load(file), rtol=1e-4)


def test_a_file_says_what_it_is(exported: Path, model: Path) -> None:
    detector, metadata = load(model), ExportedModel(exported).metadata.document
    assert metadata["detector"] == "padim"
    assert metadata["threshold"] == detector.threshold_
    assert metadata["input_size"] == [64, 64]
    assert metadata["weights_hash"] == detector.build_backbone().weights_hash
    assert len(metadata["network_hash"]) == 16


def test_torch_is_not_imported_to_predict(exported: Path, files: list[Path]) -> None:
    if exported.suffix == ".pt2":
        pytest.skip("torch runs these")
    code = (
        "import sys\nfrom padim_zoo.cli.main import main\n"
        f"main(['predict', {str(exported)!r}, {str(files[0])!r}], standalone_mode=False)\n"
        "print([name for name in ('torch', 'pandas', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("form", ["torch", "onnx", "openvino"])
def test_the_precision_of_a_file_is_told_where_it_matters(
    form: str, images: np.ndarray, files: list[Path], tmp_path: Path, fast_bfloat16: Callable[[bool], None]
) -> None:
    needs(form)
    fast_bfloat16(True)
    detector = PaDiM(n_components=12, **SMALL).fit(images[:12])
    detector.calibrate(false_alarm_rate=0.2)
    detector.save(tmp_path / "fast.safetensors")
    some = [f"--images={file}" for file in files[12:]]
    arguments = ["export", tmp_path / "fast.safetensors", "--format", form, *some]
    told = run(*arguments, "-o", tmp_path / f"fast{SUFFIXES[form]}")
    precision = ExportedModel(tmp_path / f"fast{SUFFIXES[form]}").metadata.document["precision"]
    if form == "onnx":
        assert precision == "float32"
        assert re.search(r"Note: .* in bfloat16; the file computes in float32, and scores differ by up to \d", told)
    else:
        assert precision == "bfloat16"
        assert "Note: the file computes in bfloat16" in told
    fast_bfloat16(False)
    told = run(*arguments, "-o", tmp_path / f"slow{SUFFIXES[form]}")
    assert ExportedModel(tmp_path / f"slow{SUFFIXES[form]}").metadata.document["precision"] == "float32"
    assert "in bfloat16; the file computes in float32, and scores differ by up to about 3 %" in told


def test_what_differs_is_refused_and_leaves_no_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(*arguments: object, **options: object) -> ExportableNetwork:
        network = exportable(*arguments, **options)
        distances = network.scoring.distances
        distances.mean0 = distances.mean0 + 0.5  # not in place: the memory is the detector's
        return network

    monkeypatch.setattr(exporting, "exportable", shifted)
    path = tmp_path / "wrong.pt2"
    with pytest.raises(InputError, match=r"wrong\.pt2 was not written: on 6 images its scores differ by up to"):
        exporting.export(load(model), path, "torch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "torch", "-o", "x.onnx"], "x.onnx does not end in .pt2"),
        (["--format", "onnx", "--precision", "bfloat16"], "ONNX Runtime computes in float32 on a CPU"),
        (["--format", "torch", "--input-size", "none"], "--input-size none"),
        (["--format", "torch", "--images", "nowhere"], "nowhere"),
        (["--format", "torch", "-o", "."], "is a folder"),
        (
            ["--format", "torch", "-o", "/dev/null/x.pt2"],
            "--output /dev/null/x.pt2 cannot be written: /dev/null is a file",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {file.name for file in model.parent.iterdir()}
    result = CliRunner().invoke(main, ["export", str(model), *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert {file.name for file in model.parent.iterdir()} == before


class Program:
    """Pickled, it makes a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("form", ["torch", "onnx", "openvino"])
def test_neighborhoods_are_in_a_file_of_each_format(form: str, images: np.ndarray, tmp_path: Path) -> None:
    needs(form)
    detector = PatchCore(coreset_ratio=0.2, n_neighbors=4, radius=2, precision="float32", **SMALL).fit(images[:12])
    path = tmp_path / f"near{SUFFIXES[form]}"
    exporting.export(detector, path, form)
    expected = detector.predict(images)
    np.testing.assert_allclose(ExportedModel(path).predict(images).scores, expected.scores, rtol=1e-4)


@pytest.mark.parametrize("what", ["pickle", "compiled code"])
def test_programs_in_an_archive_of_torch_are_not_run(what: str, model: Path, tmp_path: Path) -> None:
    exporting.export(load(model), tmp_path / "good.pt2", "torch")
    trace = tmp_path / "trace"
    torch.save(Program(trace), tmp_path / "program.pt")
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        inputs = next(name for name in good.namelist() if "sample_inputs" in name or "example_inputs" in name)
        for name in good.namelist():
            replaced = what == "pickle" and name == inputs
            bad.writestr(name, (tmp_path / "program.pt").read_bytes() if replaced else good.read(name))
        if what == "compiled code":
            bad.writestr(inputs.partition("data/")[0] + "data/aotinductor/model/model.so", b"code")
    with pytest.raises(InputError, match=rf"cannot be run here \(it holds .*{what}"):
        ExportedModel(tmp_path / "bad.pt2")
    assert not trace.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".xml"])
def test_other_files_are_refused(suffix: str, files: list[Path], tmp_path: Path) -> None:
    needs(next(form for form, known in SUFFIXES.items() if known == suffix))
    assert "is text: expected a" in refused(tmp_path, suffix, b"no network", files[0])
    assert "is empty: expected a" in refused(tmp_path, suffix, b"", files[0])
    assert "is a PNG image: expected a" in refused(tmp_path, suffix, files[0].read_bytes(), files[0])


def refused(folder: Path, suffix: str, content: bytes, image: Path) -> str:
    """The one line that is said of a file with this content."""
    path = folder / f"other{suffix}"
    path.write_bytes(content)
    result = CliRunner().invoke(main, ["predict", str(path), str(image)])
    assert result.exit_code == 2
    [line] = result.output.splitlines()
    return line


def test_a_file_that_is_cut_off_is_to_be_written_again(exported: Path, files: list[Path], tmp_path: Path) -> None:
    whole = exported.read_bytes()
    line = refused(tmp_path, exported.suffix, whole[: len(whole) // 2], files[0])
    assert "cut off or damaged; export the model again" in line
    assert "src/" not in line
    assert "ONNXRuntimeError" not in line


def test_half_of_an_openvino_file_is_told(exported: Path, files: list[Path], tmp_path: Path) -> None:
    if exported.suffix != ".xml":
        pytest.skip("only OpenVINO's are pairs")
    assert "other.bin is not beside it: copy both" in refused(tmp_path, ".xml", exported.read_bytes(), files[0])
    (tmp_path / "other.bin").write_bytes(b"short")
    line = refused(tmp_path, ".xml", exported.read_bytes(), files[0])
    assert "Is other.bin its own?" in line
    assert "src/" not in line


def test_images_that_cannot_be_scored_are_rows_with_an_error(exported: Path, files: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    scores = tmp_path / "scores.json"
    result = CliRunner().invoke(main, ["predict", str(exported), str(bad), str(files[0]), "--scores", str(scores)])
    assert result.exit_code == 1
    worse, good = json.loads(scores.read_text())
    assert worse["score"] is None
    assert "bad.png" in worse["error"]
    assert good["score"] > 0


def test_images_of_another_size_are_told(exported: Path) -> None:
    whole = ExportedModel(exported)
    whole.metadata = replace(whole.metadata, includes_transform=True)
    with pytest.raises(InputError, match=r"an image has 20x30 pixels, but .* takes 64x64 pixels"):
        whole.predict([np.zeros((20, 30, 3), dtype=np.uint8)])


@pytest.mark.parametrize("size", [(0, 0), (96,), "x", (1.5, 2), (True, True), 96])
def test_a_size_that_is_none_is_refused(size: Any, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input_size is .*: expected height and width in pixels"):
        exporting.export(load(model), tmp_path / "file.pt2", "torch", input_size=size)
    assert not list(tmp_path.iterdir())
