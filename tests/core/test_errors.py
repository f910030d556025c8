"""What a user sees of an error that they can mend."""

from __future__ import annotations

import pytest

from padim_zoo.core.errors import InputError, MissingExtraError, needs_extra


@pytest.mark.parametrize("error", [InputError("no image in x"), MissingExtraError("onnx", "onnx", "an export")])
def test_a_notebook_shows_one_line(error: InputError) -> None:
    """IPython asks an exception for the lines of its traceback."""
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    shown: list[str] = []
    tried = shell.instance()
    tried._showtraceback = lambda kind, value, lines: shown.extend(lines)
    tried.user_ns["error"] = error
    tried.run_cell("raise error")
    assert shown == [f"{type(error).__name__}: {error}"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ImportError("libgomp is missing", name="onnxruntime"),
            r"which cannot be imported \(libgomp is missing\)",
        ),
        (ImportError("libgomp is missing"), r"the package of its extra onnx, which cannot be imported"),
        (ModuleNotFoundError("No module", name="onnxruntime"), "needs the package onnxruntime, which is not installed"),
    ],
)
def test_what_is_wrong_with_a_package_is_told(error: ImportError, message: str) -> None:
    with pytest.raises(MissingExtraError, match=message), needs_extra("onnx", "the runtime onnx"):
        raise error
