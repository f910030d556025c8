"""Threads of ONNX Runtime wait awake for microseconds, in every version that can be told so."""

from __future__ import annotations

import io

import pytest
import torch

from padim_zoo.runtimes import onnx_runtime
from padim_zoo.runtimes.quiet import quiet_exporters

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def content() -> bytes:
    pytest.importorskip("onnx")
    file = io.BytesIO()
    with quiet_exporters():
        torch.onnx.export(torch.nn.ReLU(), (torch.zeros(1, 3, 4, 4),), file, input_names=["images"], dynamo=False)
    return file.getvalue()


@pytest.mark.parametrize("threads", [None, 2])
@pytest.mark.parametrize(
    ("version", "key", "value"),
    [
        ("1.25.1", "session.intra_op.allow_spinning", "0"),
        ("1.26.0", "session.intra_op.spin_duration_us", "20"),
        ("2.0", "session.intra_op.spin_duration_us", "20"),
    ],
)
def test_threads_do_not_spin_for_long(
    content: bytes, monkeypatch: pytest.MonkeyPatch, threads: int | None, version: str, key: str, value: str
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    options = onnx_runtime.cpu_session(content, "a test", threads).get_session_options()
    assert options.get_session_config_entry(key) == value
    assert options.intra_op_num_threads == (threads or 0)
