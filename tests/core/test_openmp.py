"""How long threads spin is decided before torch is imported, and never against the user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from padim_zoo.core import openmp

SHOWN = "import os, padim_zoo; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
PLAIN = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
FEW = openmp.usable_processors() <= openmp.FEW_PROCESSORS


def after(code: str, environment: Mapping[str, str]) -> str:
    clean = "import os; [os.environ.pop(name, None) for name in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')]; "
    code = clean + f"os.environ.update({dict(environment)}); " + code
    return subprocess.run(
        [sys.executable, "-c", code], env=PLAIN, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(not FEW, reason=f"needs at most {openmp.FEW_PROCESSORS} processors")
def test_import_decides_for_few_processors() -> None:
    assert after(SHOWN, {}) == f"{openmp.SPINS} None"


@pytest.mark.parametrize("choice", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_the_choice_of_a_user_stays(choice: dict[str, str]) -> None:
    assert after(SHOWN, choice) == f"{choice.get('GOMP_SPINCOUNT')} {choice.get('OMP_WAIT_POLICY')}"


def test_after_torch_it_is_too_late() -> None:
    assert after(f"import torch; {SHOWN}", {}) == "None None"


def test_many_processors_spin_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(openmp, "usable_processors", lambda: openmp.FEW_PROCESSORS + 1)
    openmp.spin_briefly()
    assert environment == {}
    monkeypatch.setattr(openmp, "usable_processors", lambda: openmp.FEW_PROCESSORS)
    openmp.spin_briefly()
    assert environment == {"GOMP_SPINCOUNT": str(openmp.SPINS)}
