"""Latency of exported detectors in the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from padim_zoo.bench import runtimes
from padim_zoo.cli.main import main
from padim_zoo.core.errors import MissingExtraError
from padim_zoo.data.synthetic import generate
from padim_zoo.export import writers


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(
        tmp_path_factory.mktemp("images"), categories=["gear"], train=6, good=2, defects_per_kind=1, size=64
    )


def bench(images: Path, store: Path, *more: str) -> dict:
    """The document of the one run of a benchmark."""
    options = ["--data-root", images, "--output", store, "--estimators", "diagonal", "--resize", 64, "--crop", "none"]
    result = CliRunner().invoke(main, ["bench", *map(str, options), "--no-gallery", *more])
    assert result.exit_code == 0, result.output
    [document] = [json.loads(path.read_text()) for path in store.glob("????????????????.json")]
    return {**document, "output": result.output}


def test_runtimes_are_columns_and_change_no_run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(purpose: str) -> None:
        raise MissingExtraError("openvino", "openvino", purpose)

    monkeypatch.setattr(writers, "import_openvino", missing)
    before = bench(images, tmp_path / "runs")
    assert before["runtimes"] == []
    after = bench(images, tmp_path / "runs", "--time-exports", "torch,openvino")
    assert after["id"] == before["id"]
    assert after["folds"] == before["folds"]
    assert "1 runs were not timed in torch, openvino and are done again" in after["output"]
    assert after["timings"]["ms_per_image_b1_torch"] > 0
    assert "ms_per_image_b1_openvino" not in after["timings"]
    [note] = [note for note in after["notes"] if "openvino" in note]
    assert note.startswith("no latency in openvino: ")
    assert "pip install 'padim-zoo[openvino]'" in note
    # What was tried is not tried again, whether it worked or not.
    assert bench(images, tmp_path / "runs", "--time-exports", "openvino")["created"] == after["created"]
    board = CliRunner().invoke(main, ["leaderboard", str(tmp_path / "runs"), "--format", "json"]).output
    [row] = json.loads(board)["rows"] if isinstance(json.loads(board), dict) else json.loads(board)
    assert row["ms_per_image_b1_torch"] == pytest.approx(after["timings"]["ms_per_image_b1_torch"])
    assert row["ms_per_image_b1_openvino"] is None


def test_what_cannot_be_exported_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("an operation\nis unknown")

    monkeypatch.setattr(runtimes, "export", fail)
    times, notes = runtimes.runtime_costs(None, [np.zeros((8, 8, 3), np.uint8)], ["onnx"])
    assert times == {}
    assert notes == ["no latency in onnx: an operation is unknown"]


def test_an_unknown_runtime_is_refused(images: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "--data-root", str(images), "--time-exports", "tensorrt"])
    assert result.exit_code == 2
    assert "--time-exports is 'tensorrt': expected onnx, openvino or torch" in result.output
