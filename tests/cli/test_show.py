"""``padim-zoo show``: what each kind of file is, read without torch, and what is damaged."""

from __future__ import annotations

import json
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from padim_zoo import PaDiM, __version__, describe_file, load
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.store import FORMAT, RunStore, digest_of
from padim_zoo.cli.main import main
from padim_zoo.core.results_version import RESULTS_VERSION
from tests.command_line import run
from tests.faults.mangle import with_document

BASELINE = Path(__file__).resolve().parents[2] / "benchmarks" / "baseline.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(8):
        Image.fromarray(rng.integers(80, 160, (40, 40, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
    path = folder / "model.safetensors"
    run("fit", folder / "images", "-o", path, "--resize", "none", "--crop", "32x40", "--fpr", "0.25")
    return path


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    config = RunConfig(
        dataset="mvtec", category="nut", data="0" * 16, detector="padim", backbone="builtin", seed=0, folds=0
    )
    document = {"format": FORMAT, "id": config.id, "status": "done", "created": "2026-01-02T03:04:05+00:00"}
    document |= {"config": config.to_dict(), "folds": [{}], "timings": {}, "notes": []}
    store = RunStore(tmp_path / "runs")
    store.write(document, {"labels": np.arange(4) % 2, "scores": np.zeros((1, 4), dtype=np.float32)})
    return store


def shown(*arguments: object) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(run("show", *arguments, "--json"))
    return facts


def test_a_model(model: Path) -> None:
    facts = shown(model, "--verify")
    assert facts == json.loads(json.dumps(describe_file(model, verify=True)))
    assert facts["kind"] == "model"
    assert facts["n_images"] == 8
    assert (facts["detector"], facts["backbone"], facts["estimator"]) == ("padim", "builtin", "full")
    assert facts["grid"] == [8, 10]
    assert facts["false_alarm_rate"] == 0.25
    assert facts["bytes"] == model.stat().st_size
    assert facts["verified"] > 10
    lines = run("show", model)
    assert "padim (builtin, full) on 8 normal images" in lines
    assert "patches    8 × 10, of " in lines
    assert "for a false-alarm rate of at most 0.25" in lines
    assert "verified" not in lines
    assert facts["described"] == load(model).describe_fit()
    assert all(f"{title:<10} {text}" in lines for title, text in facts["described"].items())


def test_a_model_shows_what_its_fit_said_of_the_bank(model: Path, tmp_path: Path) -> None:
    options = ("--resize", "none", "--crop", "none", "--detector", "patchcore(radius=1)")
    fitted = run("fit", model.parent / "images", "-o", tmp_path / "bank.safetensors", *options)
    row = next(line for line in fitted.splitlines() if line.startswith("bank "))
    assert row.endswith("within 1 position")
    assert row in run("show", tmp_path / "bank.safetensors")


def test_a_model_says_how_it_was_made(model: Path) -> None:
    facts, lines = shown(model), run("show", model)
    images = model.parent / "images"
    assert facts["version"] == __version__
    assert facts["results_version"] == RESULTS_VERSION
    assert facts["data"] == f"8 images: 8 in {model.parent.name}/images"
    expected = ["padim-zoo", "fit", str(images), "-o", str(model), "--resize", "none"]
    assert shlex.split(facts["command"])[: len(expected)] == expected
    assert datetime.fromisoformat(facts["date"]) <= datetime.now(timezone.utc)
    assert facts["data"] in lines
    assert "padim-zoo fit" in lines


def test_a_model_that_was_fitted_in_python_names_no_command(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    PaDiM(resize=32, crop=32, device="cpu").fit(list(images)).save(tmp_path / "model.safetensors")
    facts = describe_file(tmp_path / "model.safetensors")
    assert facts["version"] == __version__
    assert "command" not in facts


def test_a_header_that_was_changed_is_refused(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(content.replace(b"8 images", b"9 images"))
    assert content != changed.read_bytes()
    assert "its header is not what was saved" in run("show", changed, code=2)


def test_a_damaged_model_is_found_by_its_hashes(model: Path, tmp_path: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-100] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    assert "8 normal images" in run("show", damaged)
    assert "is damaged" in run("show", damaged, "--verify", code=2)
    damaged.write_bytes(content[:60])
    assert len(run("show", damaged, code=2).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"backbone": 5, "layers": [1]}},
        {"parameters": {"layers": 5}},
        {"parameters": []},
        {"grids": [[]]},
        {"grids": 3},
        {"calibration": {"threshold": 1.0, "false_alarm_rate": "often"}},
        {"calibration": {"threshold": 10**400}},
        {"members": 1},
        {"members": [None]},
    ],
)
def test_a_header_that_makes_no_sense_is_no_traceback(change: dict[str, object], model: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(with_document(model.read_bytes(), lambda document: {**document, **change}))
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, ["show", str(changed), *options])
        assert result.exit_code in (0, 2), result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        if result.exit_code:
            assert result.output.startswith(f"Error: {changed} does not say what it is")


def test_an_ensemble_shows_its_members(model: Path, tmp_path: Path) -> None:
    other, both = tmp_path / "other.safetensors", tmp_path / "both.safetensors"
    run("fit", model.parent / "images", "-o", other, "--resize", "none", "--crop", "32x40", "--estimator", "diagonal")
    run("combine", model, other, "-o", both)
    assert [member["detector"] for member in shown(both)["members"]] == ["padim", "padim"]
    assert "member 2   padim (builtin, diagonal)" in run("show", both)


def test_an_exported_model(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    regions = tmp_path / "regions.safetensors"
    run("calibrate", model, "--fpr", "0.25", "--region-fpr", "0.2", "-o", regions)
    run("export", regions, "--format", "onnx", "-o", tmp_path / "model.onnx")
    facts = shown(tmp_path / "model.onnx", "--verify")
    assert (facts["kind"], facts["runtime"], facts["n_images"]) == ("exported model", "onnx", 8)
    assert facts["threshold"] == describe_file(model)["threshold"]
    assert facts["version"] == __version__
    assert "for a rate of at most 0.2, from 1 pixel of the map" in run("show", tmp_path / "model.onnx")
    content = bytearray((tmp_path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    assert len(run("show", tmp_path / "model.onnx", code=2).splitlines()) == 1


def test_a_run_store_and_a_run(store: RunStore) -> None:
    facts = shown(store.folder, "--verify")
    assert (facts["kind"], facts["runs"], facts["failed"], facts["verified"]) == ("run store", 1, 0, 1)
    assert facts["categories"] == ["nut"]
    [document] = store.folder.glob("*.json")
    assert shown(document, "--verify")["config"]["backbone"] == "builtin"
    (store.folder / f"{document.stem}.safetensors").write_bytes(b"cut off")
    assert "it is not what was recorded" in run("show", store.folder, "--verify", code=2)
    document.write_text(document.read_text().replace('"nut"', '"bolt"'))
    assert "its digest differs" in run("show", document, code=2)
    changed = json.loads(document.read_text())
    document.write_text(json.dumps(changed | {"digest": digest_of(changed)}))
    assert "its configuration has another id" in run("show", document, "--verify", code=2)


def test_a_baseline() -> None:
    facts = shown(BASELINE)
    assert facts["kind"] == "baseline"
    assert facts["runs"] > 0
    assert facts["benchmarks"] > 0


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("nothing", None, "does not exist"),
        ("text.txt", b"hello", "is text"),
        ("other.json", b'{"a": 1}', "JSON of something else"),
        ("cut.json", b'{"a": ', "cut off or damaged"),
        ("list.json", b"[1]", "JSON of something else"),
        ("deep.json", b"[" * 100_000, "cut off or damaged"),
        ("other.safetensors", b"\x02\0\0\0\0\0\0\0{}", "not of padim-zoo"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    output = run("show", tmp_path / name, code=2)
    assert expected in output
    assert len(output.splitlines()) == 1
