"""Processes end with the one that started them, and may remove what is half done first."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

WINDOWS = {"before": "vars(signal).pop('pthread_kill', None)", "work": "for _ in range(10**5): time.sleep(0.01)"}
"""Where a thread that waits is not woken."""

PROGRAM = """
import os, signal, sys, time
{before}
from padim_zoo.core.parent_process import end_with_parent
{ignore}
end_with_parent(lambda: os.read(0, 1), cleaning_seconds={cleaning})
try:
    print("begun", flush=True)  # within, for the end may come at once
    {work}
finally:
    print("cleaned", flush=True)
    {cleaning_work}
"""


@pytest.mark.parametrize(
    ("cleaning", "told", "varied"),
    [
        (0, "", {}),
        (60, "cleaned\n", {}),
        (60, "cleaned\n", {"ignore": "signal.signal(signal.SIGINT, signal.SIG_IGN)"}),
        (60, "cleaned\n", WINDOWS),
        (0.2, "cleaned\n", {"cleaning_work": "time.sleep(600)"}),
    ],
    ids=["at once", "cleaned", "a background job", "Windows", "it takes too long"],
)
def test_a_process_ends_with_its_parent(cleaning: float, told: str, varied: dict[str, str]) -> None:
    usual = {"before": "", "ignore": "", "work": "time.sleep(600)", "cleaning_work": "pass"}
    code = PROGRAM.format(cleaning=cleaning, **usual | varied)
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    began = time.monotonic()
    child.stdin.close()
    assert child.stdout.read() == told
    assert child.wait() != 0
    child.stdout.close()
    assert time.monotonic() - began < 50
