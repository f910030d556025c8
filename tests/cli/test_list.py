from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from padim_zoo import registry
from padim_zoo.backbones import timm as from_timm
from padim_zoo.backbones import torchvision as from_torchvision
from padim_zoo.cli.main import main


def output_of(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["list", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", sorted(registry.REGISTRIES))
def test_every_registered_name_is_listed(kind: str) -> None:
    records = json.loads(output_of(kind, "--json"))
    names = {record["name"] for record in records}
    assert names >= set(registry.REGISTRIES[kind].names())
    assert all(record["summary"] for record in records)
    table = output_of(kind)
    assert all(name in table for name in names)


def test_backbones_say_what_they_give() -> None:
    [record] = json.loads(output_of("backbones", "resnet18", "--json"))
    assert record["source"] == "torchvision"
    assert record["layers"] == ["layer1", "layer2", "layer3"]
    assert record["channels"] == [64, 128, 256]
    assert record["strides"] == [4, 8, 16]
    assert record["default_n_components"] == 100
    assert isinstance(record["weights_offline"], bool)


def test_builtin_backbone_is_there_offline() -> None:
    [record] = json.loads(output_of("backbones", "builtin", "--json"))
    assert record["weights_offline"] is True


def test_wildcards_choose() -> None:
    names = [record["name"] for record in json.loads(output_of("backbones", "wide_*", "--json"))]
    assert names == ["wide_resnet101_2", "wide_resnet50_2"]


def test_prefix_lists_a_family() -> None:
    names = [record["name"] for record in json.loads(output_of("backbones", "timm/resnet18*", "--json"))]
    assert "timm/resnet18" in names


def test_many_matches_are_listed_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of timm in seconds: no model is built."""
    monkeypatch.setattr(from_timm, "_build", lambda *_, **__: pytest.fail("a model was built"))
    result = CliRunner().invoke(main, ["list", "backbones", "timm/*", "--json"])
    assert result.exit_code == 0
    records = json.loads(result.stdout)
    assert len(records) > 500
    assert {frozenset(record) for record in records} == {frozenset({"name", "source", "summary"})}
    assert f"{len(records)} matches are listed by name alone" in result.stderr


def test_the_plain_list_of_backbones_imports_no_zoo() -> None:
    code = (
        "import sys; from padim_zoo.cli.main import main; main(['list', 'backbones'], standalone_mode=False);"
        "sys.exit(bool({'torchvision', 'timm'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", sorted(from_torchvision.RESNETS))
def test_what_is_told_without_torchvision_is_what_torchvision_gives(name: str) -> None:
    assert registry.backbones.entry(name).metadata == from_torchvision.describe(name)
    assert from_torchvision._checkpoint(from_torchvision.RESNETS[name][1]) == from_torchvision._cached_file(name)


def test_pattern_without_match_is_a_mistake() -> None:
    result = CliRunner().invoke(main, ["list", "estimators", "foo*"])
    assert result.exit_code == 2
    assert result.output == "Error: no estimator matches 'foo*': padim-zoo list estimators shows them all\n"


def test_plugin_file_is_listed_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.datasets.names()
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets._entries))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from padim_zoo.registry import datasets\n"
        "@datasets.register('mine', summary='My images')\n"
        "def mine(root=None): ...\n"
    )
    records = json.loads(output_of("datasets", "mine", "--json", "--plugin", plugin))
    assert [(record["name"], record["source"], record["summary"]) for record in records] == [
        ("mine", "plugin mine.py", "My images")
    ]


@pytest.mark.parametrize(
    ("content", "message"), [("raise RuntimeError('boom')", "RuntimeError: boom"), (None, "is not a file")]
)
def test_broken_plugin_file_is_a_mistake(tmp_path: Path, content: str | None, message: str) -> None:
    plugin = tmp_path / "broken.py"
    if content is not None:
        plugin.write_text(content)
    result = CliRunner().invoke(main, ["list", "datasets", "--plugin", str(plugin)])
    assert result.exit_code == 2
    assert message in result.output


def test_installed_plugin_that_failed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.datasets.names()
    monkeypatch.setitem(registry.datasets.problems, "depths of some-package", "ImportError: no module")
    assert "not loaded: depths of some-package (ImportError: no module)" in output_of("datasets")
