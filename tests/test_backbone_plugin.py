"""Backbones of third parties: the documented plugin is saved and loaded; what is none is told how to become one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from padim_zoo import InputError, PaDiM, load, load_plugin, registry
from padim_zoo.backbones.backbone import Backbone

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "backbone-plugin.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the document shows, in the working folder."""
    registry.backbones.names()
    monkeypatch.setattr(registry.backbones, "_entries", dict(registry.backbones._entries))
    monkeypatch.chdir(tmp_path)
    [code] = [code for language, code in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")) if language == "python"]
    path = tmp_path / "dct.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_the_documented_backbone_is_that_of_the_example_package(plugin: Path) -> None:
    package = DOCUMENT.parents[1] / "plugins" / "padim-zoo-example-backbone" / "padim_zoo_example_backbone.py"
    assert plugin.read_text(encoding="utf-8") == "# dct.py\n" + package.read_text(encoding="utf-8")


def test_the_documented_backbone_is_saved_and_built_again(plugin: Path) -> None:
    load_plugin(plugin)
    detector = PaDiM("dct", n_components=10, resize=None, crop=None).fit(IMAGES)
    detector.save("model.safetensors")
    np.testing.assert_array_equal(load("model.safetensors").predict(IMAGES).scores, detector.predict(IMAGES).scores)


class Lookalike(nn.Module):
    """All the attributes of a backbone, and no buffers."""

    name, layers, channels, strides = "lookalike", ("a",), (3,), (1,)
    mean, std, weights_hash, weights_source, default_n_components = (0, 0, 0), (1, 1, 1), "0" * 16, "none", 3

    def forward(self, images):
        return [images]


def test_a_module_is_wrapped_and_not_taken_for_a_backbone(plugin: Path) -> None:
    registry.backbones.register("lookalike")(lambda layers=None, weights="default": Lookalike())
    for backbone in (Lookalike(), "lookalike"):
        with pytest.raises(InputError, match=r"is a Lookalike: expected .*Backbone\(network, name=") as caught:
            PaDiM(backbone, resize=None, crop=None).fit(IMAGES)
        assert "\n" not in str(caught.value)
    wrapped = Backbone(
        Lookalike(),
        name="lookalike",
        layers=("a",),
        strides=(1,),
        state=Lookalike().state_dict(),
        weights_source="none",
    )
    assert PaDiM(wrapped, resize=None, crop=None).fit(IMAGES).predict(IMAGES).maps.shape == (6, 32, 32)
