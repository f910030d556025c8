"""``catalog.json`` says what the registries say, without importing what is registered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from padim_zoo.bench.settings import SETTINGS
from padim_zoo.core.errors import InputError
from padim_zoo.features.features import REDUCTIONS
from padim_zoo.registry import Registry
from padim_zoo.registry import catalog as catalogs

ROOT = Path(__file__).resolve().parents[2]


def test_the_catalog_is_what_the_registries_hold() -> None:
    result = subprocess.run([sys.executable, ROOT / "tools" / "write_catalog.py", "--check"], check=False, cwd=ROOT)
    assert result.returncode == 0, "run tools/write_catalog.py"


def test_names_of_families_and_wildcards_are_not_refused() -> None:
    registry: Registry[object] = Registry("backbone", [])
    for spec in ("builtin", "timm/whatever", "wide_*", "resnet18(pretrained=1)"):
        registry.refuse_unknown(spec)
    with pytest.raises(InputError, match=r"unknown backbone 'resnet19': did you mean resnet18"):
        registry.refuse_unknown("resnet19")


def test_nothing_is_refused_early_where_a_plugin_may_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "plugin_names", lambda kind: ("of a plugin",))
    registry: Registry[object] = Registry("backbone", [])
    assert registry.catalog() is None
    registry.refuse_unknown("resnet19")


def test_weights_are_looked_for_where_torch_hub_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for variable, value in (("TORCH_HOME", str(tmp_path)), ("XDG_CACHE_HOME", str(tmp_path / "cache"))):
        monkeypatch.setenv(variable, value)
        assert catalogs._hub_checkpoint("a.pth") == Path(torch.hub.get_dir(), "checkpoints", "a.pth")
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_the_setting_reads_every_reduction(name: str) -> None:
    assert SETTINGS["reduction"].parse(name) == name
    assert len(REDUCTIONS) == 3
