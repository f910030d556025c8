"""``benchmarks/gpu.py`` without a GPU: it says so in a line, and its table compares in the right direction."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    import gpu

    return gpu


def test_without_a_gpu_there_is_one_line(tmp_path: Path) -> None:
    without = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), "--work", str(tmp_path), "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, env=without)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "there is no GPU" in done.stderr
    assert not list(tmp_path.iterdir())


def test_brackets_say_how_many_times_better_ours_is(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    ours = {"fit_s": 2.0, "batch_1_ms": 5.0, "batch_32_ms": 2.0, "gpu_mb": 400.0}
    ours |= {"network_batch_1_ms": 4.0, "network_batch_32_ms": 1.0}
    rival = {"fit_s": 8.0, "batch_1_ms": 10.0, "batch_32_ms": 1.0, "gpu_mb": 1000.0}
    script.print_table("resnet18", {"padim-zoo, float32": ours, "late": None, "anomalib, float32": rival})
    lines = capsys.readouterr().out.splitlines()
    assert "| fit, images/s | 100 (4.00) | 25 |" in lines
    assert "| batch 1, ms | 5 (2.00) | 10 |" in lines
    assert "| batch 32, images/s | 500 (0.50) | 1000 |" in lines
    assert "| peak memory of the GPU, MB | 400 (2.50) | 1000 |" in lines
    assert "| share of the network alone, batch 1 | 0.80 | – |" in lines
    assert any(line.startswith("no time left") and "late" in line for line in lines)


def test_nothing_is_begun_that_would_not_end_in_time(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float] = []

    def note(seconds: float, *_: object) -> None:
        begun.append(seconds)

    monkeypatch.setattr(script, "measure_within", note)
    now = script.time.monotonic()
    assert script.within(now + script.LEAST_SECONDS - 1, "python", "device_anomalib.py", []) is None
    assert not begun
    script.within(now + 300, "python", "device_anomalib.py", [])
    assert 290 < begun[0] <= 300
