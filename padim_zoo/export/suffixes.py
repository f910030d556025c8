"""The formats of exported files, each run by the runtime of its name, and how their files end."""

from __future__ import annotations

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""How the files of each format end."""
RUNTIMES = tuple(SUFFIXES)
"""The runtimes, by names that are those of the formats."""
