"""Exported files that were changed are refused: their programs do not run, and no other score is given."""

from __future__ import annotations

import json
import os
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padim_zoo import InputError, load
from padim_zoo.core.errors import MissingExtraError
from padim_zoo.export import exporting
from padim_zoo.export.metadata import UNSEALED, seal
from padim_zoo.export.runtimes import SUFFIXES, ExportedModel
from padim_zoo.export.torch_archive import check_expression


@pytest.fixture(scope="module")
def archive(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "good.pt2"
    exporting.export(load(model), path, "torch")
    return path


def first_expression(document: Any) -> dict[str, Any]:
    """The first object with an expression, depth first."""
    parts = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    if isinstance(document, dict) and "expr_str" in document:
        return document
    for part in parts:
        if inner := first_expression(part):
            return inner
    return {}


def changed(archive: Path, path: Path, change: Any) -> Path:
    """A copy whose program is changed; its digest is made right again where ``change`` leaves the rest alone."""
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("models/model.json"):
                document = json.loads(content)
                change(document)
                content = json.dumps(document).encode()
            bad.writestr(name, content)
    return path


def hostile_expression(trace: str) -> Any:
    def change(document: Any) -> None:
        first_expression(document)["expr_str"] = f"__import__('pathlib').Path({trace!r}).touch() or Integer(4)"

    return change


def hostile_name(trace: str) -> Any:
    code = f"x=__import__('pathlib').Path({trace!r}).touch()"

    def change(document: Any) -> None:
        graph = document["graph_module"]["graph"]
        graph["inputs"][-1]["as_tensor"]["name"] = code
        graph["tensor_values"][code] = next(iter(graph["tensor_values"].values()))

    return change


def hostile_target(trace: str) -> Any:
    def change(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.save.default"

    return change


def hostile_guard(trace: str) -> Any:
    def change(document: Any) -> None:
        document["guards_code"] = [f"__import__('pathlib').Path({trace!r}).touch()"]

    return change


def hostile_tree(trace: str) -> Any:
    def change(document: Any) -> None:
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = signature["in_spec"].replace("builtins.tuple", "collections.defaultdict", 1)

    return change


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (hostile_expression, "it holds the expression"),
        (hostile_name, "it holds the name"),
        (hostile_target, "it calls 'torch.ops.aten.save.default'"),
        (hostile_guard, "it holds code of guards"),
        (hostile_tree, "it takes or gives a collections.defaultdict"),
    ],
)
def test_what_torch_would_evaluate_is_read_first(hostile, message, archive: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    bad = changed(archive, tmp_path / "bad.pt2", hostile(str(trace)))
    with pytest.raises(InputError, match=message):
        ExportedModel(bad)
    assert not trace.exists()


@pytest.mark.parametrize(
    "text",
    ["4*s0", "Mul(Integer(16), Symbol('s34', positive=True, integer=True))", "s0 // 2 + 1", "Pow(s1, Integer(2))"],
)
def test_arithmetic_on_sizes_is_accepted(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        *("exit()", "s0.__class__", "Symbol('a b')", "Symbol('s1', integer=print)", "lambda: 0", "[s0 for s0 in s1]"),
        *("9**9**9", "Pow(Integer(9), Integer(4))", "Pow(Pow(s0, 4), 4)", "Integer('1')", "s0[0]", "f'{s0}'"),
        *("(" * 500 + ")" * 500, "1 if s0 else 2", "s0 << 99", "Mul(*s0)"),
    ],
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it holds the expression"):
        check_expression(text)


def exported(model: Path, form: str, folder: Path) -> Path:
    path = folder / f"whole{SUFFIXES[form]}"
    try:
        exporting.export(load(model), path, form)
    except MissingExtraError as error:
        pytest.skip(str(error))
    return path


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_flipped_bit_is_told(form: str, model: Path, files: list[Path], tmp_path: Path) -> None:
    path = exported(model, form, tmp_path)
    expected = ExportedModel(path).predict(files[:1]).scores
    rng = np.random.default_rng(0)
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        for place in rng.integers(0, len(whole), 12).tolist():
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(flipped)
            with suppress(InputError):  # bytes of the container that nothing rests on may differ
                assert ExportedModel(path).predict(files[:1]).scores == expected
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("threshold", "high"), ("threshold", float("nan")), ("input_size", [64]), ("input_size", [64, 10**9])),
        *(("map_scale", [1]), ("map_scale", None), ("transform", {"resize": 10**6}), ("transform", 3)),
        ("transform", {"resize": 32, "crop": 32, "bit_depth": 1}),
        *(("makes_maps", "yes"), ("includes_transform", None), ("format", "2"), ("format", 99)),
    ],
)
def test_metadata_that_make_no_sense_are_told(field: str, value: object, model: Path, tmp_path: Path) -> None:
    path = exported(model, "openvino", tmp_path)
    text = path.read_text()
    [found] = re.findall(r'padim_zoo value="([^"]*)"', text)
    document = json.loads(found.replace("&quot;", '"'))
    document |= {field: value, "digest": UNSEALED}
    rewritten = text.replace(found, json.dumps(document).replace('"', "&quot;"))
    path.write_bytes(seal(rewritten.encode(), [path.with_suffix(".bin").read_bytes()]))
    with pytest.raises(InputError, match=r"metadata|has format 99") as caught:
        ExportedModel(path)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_in_other_files_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    path = exported(model, "onnx", tmp_path)
    content = onnx.load(path)
    large = max(content.graph.initializer, key=lambda array: len(array.raw_data))
    (tmp_path / "numbers").write_bytes(large.raw_data)
    large.ClearField("raw_data")
    large.data_location = onnx.TensorProto.EXTERNAL
    for name, value in (("location", "numbers"), ("offset", "0")):
        entry = large.external_data.add()
        entry.key, entry.value = name, value
    path.write_bytes(content.SerializeToString())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"cannot be run here"):
        ExportedModel(path)


@pytest.mark.parametrize("before", [True, False])
def test_of_two_files_both_are_replaced_or_none(before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, draft = tmp_path / "models", tmp_path / "draft"
    for parent, text in ((folder, "old"), (draft, "new")):
        parent.mkdir()
        for name in ("m.bin", "m.xml"):
            if before or parent is draft:
                (parent / name).write_text(text)
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if (source.name, target.name) == ("m.xml", "m.xml"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        exporting._put_in_place([draft / "m.bin", draft / "m.xml"], folder)
    assert {path.read_text() for path in folder.iterdir()} == ({"old"} if before else set())
