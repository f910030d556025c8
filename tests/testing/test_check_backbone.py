"""check_backbone passes the package's own backbones, and says in words what is wrong with broken ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from padim_zoo import InputError, registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.weights import find_state, install
from padim_zoo.testing import ContractError, check_backbone


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread for small networks, and no name left behind."""
    registry.backbones.names()
    monkeypatch.setattr(registry.backbones, "_entries", dict(registry.backbones._entries))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("builtin", {}),
        ("builtin", {"weights": "default"}),
        ("scattering", {"weights": "default"}),
        ("resnet18", {"layers": ("layer1", "layer2")}),
        ("timm/test_vit", {}),
    ],
    ids=str,
)
def test_own_backbones_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    check_backbone(name, **options)


class Network(nn.Module):
    """Two convolutions; subclasses break something."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        super().__init__()
        self.layers = layers
        self.first = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = {"first": self.first(images).relu()}
        maps["second"] = self.second(maps["first"])
        return [maps[layer] for layer in self.layers]


STRIDES = {"first": 4, "second": 8}


def register(
    network: Callable[[tuple[str, ...]], nn.Module] = Network,
    kind: Callable[..., Any] = Backbone,
    *,
    metadata: dict[str, Any] | None = None,
    careless: bool = False,
    **changed: Any,
) -> None:
    """A sound backbone ``broken``, but for what is changed."""

    @registry.backbones.register("broken", summary="for tests", **(metadata or {}))
    def broken(layers: Any = None, weights: Any = "default") -> Any:
        layers = tuple(STRIDES) if layers is None else tuple(layers)
        if not careless and not (layers and set(layers) <= set(STRIDES)):
            raise InputError(f"broken has no layers {layers}: expected some of {tuple(STRIDES)}")
        built = network(layers)
        if careless:
            state, source = built.state_dict(), "none"
            if isinstance(weights, dict):
                built.load_state_dict(weights)
                state = built.state_dict()
        else:
            state, source = find_state(weights, name="broken", default=dict)
            state = install(built, state, name="broken", source=source)
        strides = [STRIDES.get(layer, 1) for layer in layers]
        made = {"name": "broken", "layers": layers, "strides": strides, "state": state, "weights_source": source}
        return kind(built, **{**made, **changed})


def violations(**options: Any) -> dict[str, str]:
    """What check_backbone says of ``broken``, by check."""
    with pytest.raises(ContractError) as caught:
        check_backbone("broken", **options)
    found = caught.value.violations
    assert all(violation.message in str(caught.value) for violation in found)
    return {each.check: "; ".join(other.message for other in found if other.check == each.check) for each in found}


def test_a_sound_backbone_passes() -> None:
    register()
    check_backbone("broken")


class Transposed(Network):
    def forward(self, images):
        return [layer.mT for layer in super().forward(images)]


class Dropping(Network):
    def forward(self, images):
        return [nn.functional.dropout(layer) for layer in super().forward(images)]


class OfTheBatch(Network):
    def forward(self, images):
        return [layer - layer.mean(0, keepdim=True) for layer in super().forward(images)]


class Blind(Network):
    def forward(self, images):
        return [torch.ones_like(layer) for layer in super().forward(images)]


class Half(Network):
    """Not finite where there are several images, which the making of a backbone does not try."""

    def forward(self, images):
        return [layer / (len(images) == 1) for layer in super().forward(images)]


class NeverFinite(Network):
    def forward(self, images):
        return [layer / 0 for layer in super().forward(images)]


class Reluctant(Network):
    def forward(self, images):
        if images.shape[2] != images.shape[3]:
            raise ValueError("square images only")
        return super().forward(images)


class OwnOrder(Network):
    def forward(self, images):
        self.layers = tuple(sorted(self.layers))
        return super().forward(images)


CALLS = itertools.count()


class Drawn(Network):
    """Holds a tensor that is drawn and no part of the state."""

    def __init__(self, layers):
        super().__init__(layers)
        self.offset = float(next(CALLS))

    def forward(self, images):
        return [layer + self.offset for layer in super().forward(images)]


class Learning(Backbone):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.network.requires_grad_(True)


class Wayward(Backbone):
    def train(self, mode=True):
        return nn.Module.train(self, mode)


class TwiceNormalized(Backbone):
    def forward(self, images):
        return super().forward((images - 0.5) / 0.2)


class Doubled(Backbone):
    def forward(self, images):
        return [layer.double() for layer in super().forward(images)]


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"name": "other"}, "registration", "calls itself 'other': expected the registered name 'broken'"),
        ({"metadata": {"channels": (8, 8)}}, "registration", r"says channels \(8, 8\), but the backbone has \(8, 12\)"),
        ({"strides": (4, 4)}, "strides", "layer 'second' says stride 4, but .* a stride of 8"),
        ({"strides": (4,)}, "strides", "there are 1 strides for 2 layers"),
        ({"network": Transposed}, "position", "answers to the upper right .* at the lower left: are rows and columns"),
        ({"network": Dropping}, "determinism", "other maps the second time: is there dropout"),
        ({"network": OfTheBatch}, "batch invariance", "when it is alone in the batch: is a statistic of the batch"),
        ({"network": Blind}, "dependence on the image", "the network does not look at it"),
        ({"network": Half}, "maps", "values that are not finite"),
        ({"kind": Doubled}, "maps", "is torch.float64: expected torch.float32"),
        ({"network": Reluctant}, "image sizes", "of 64×128 raises ValueError: square .* expected padim_zoo.InputError"),
        ({"network": OwnOrder}, "layers", "another map when the layers are second,first: .* the network's order"),
        ({"network": Drawn}, "determinism", "one weights_hash but gives different maps: state lacks tensors"),
        ({"kind": Learning}, "frozen", "ask for gradients: a backbone is frozen"),
        ({"kind": Wayward}, "frozen", r"after train\(\) the backbone, .* in training mode"),
        ({"kind": TwiceNormalized}, "normalization", "is not what the network gives for"),
        ({"mean": (124, 116, 104), "std": (58, 57, 57)}, "normalization", "of 0 to 255, divide"),
        ({"careless": True}, "determinism", "different weights: draw them from a seed"),
        ({"careless": True}, "layers", "a layer that does not exist raises KeyError"),
        ({"careless": True}, "weights", "weights=PATH of a file that does not exist is taken without complaint"),
        ({"state": {}}, "weights", "cannot be made of its own tensors"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told(changes: dict[str, Any], check: str, words: str) -> None:
    register(**changes)
    found = violations()
    assert re.search(words, found[check]), found


def test_what_is_no_backbone_is_told_before_all_else() -> None:
    register(kind=lambda network, **_: network)
    assert violations() == {"creation": "is a Network: expected a padim_zoo.backbones.backbone.Backbone"}

    register(NeverFinite)
    assert "broken gives NaN or infinite values" in violations()["creation"]

    @registry.backbones.register("broken")
    def failing(layers=None, weights="default"):
        raise ZeroDivisionError("no stem")

    assert "cannot be made with layers=None, weights='none': ZeroDivisionError: no stem" in violations()["creation"]
    with pytest.raises(InputError, match="unknown backbone 'brokem': did you mean broken"):
        check_backbone("brokem")


def test_all_violations_are_in_one_error() -> None:
    register(network=Transposed, name="other", strides=(4, 4))
    assert {"registration", "strides", "position"} <= set(violations())
