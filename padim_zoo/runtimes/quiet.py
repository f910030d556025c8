"""Quiet around exporters of networks, which remark on the code of networks."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "openvino")


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Without what exporters log, warn of and print, which is not for those who use a network."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
