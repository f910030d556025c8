"""A sample of what ``benchmarks/faults.py`` tries: damaged files are one line each, and none gives other scores."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.mangle import damage, rewrite

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each case is a fork")
def test_a_sample_of_faults_does_no_harm() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--seed", "0", "--cases", "24"]
    done = subprocess.run([*command, "--minutes", "25"], capture_output=True, text=True, timeout=1800, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_generator_gives_the_same_for_a_seed() -> None:
    content, document = bytes(range(256)), {"a": [1, {"b": 2}], "c": "d"}
    for seed in range(20):
        one, other = (damage(content, random.Random(seed)) for _ in range(2))
        assert one == other
        assert repr(rewrite(document, random.Random(seed))) == repr(rewrite(document, random.Random(seed)))
