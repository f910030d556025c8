from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from padim_zoo.backbones.backbone import default_n_components, hash_of
from padim_zoo.backbones.weights import covers, install, random_state, read_weights
from padim_zoo.core.errors import InputError


def network() -> nn.Module:
    return nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4)})


def whole() -> dict[str, Tensor]:
    return {name: torch.randn(tensor.shape) for name, tensor in network().state_dict().items()}


def load(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(install(network(), state, name="mine", source="mine.pth", all_names={"norm.extra"}))


def test_what_is_in_use_is_what_was_given() -> None:
    state = whole()
    in_use = load(state)
    assert in_use.keys() == state.keys() - {"norm.num_batches_tracked"}
    assert all(torch.equal(in_use[name], state[name]) for name in in_use)


def test_tensors_of_parts_that_are_not_used_are_no_mistake() -> None:
    load(whole() | {"head.weight": torch.zeros(1), "layer4.0.weight": torch.zeros(1), "norm.extra": torch.zeros(1)})


def test_counters_may_be_missing() -> None:
    state = whole()
    del state["norm.num_batches_tracked"]
    assert covers(network(), state)
    load(state)


def test_all_that_does_not_fit_is_listed() -> None:
    state = whole() | {"stem.gamma": torch.zeros(1), "stem.weight": torch.zeros(4, 3, 7, 7)}
    del state["norm.bias"], state["norm.running_mean"]
    assert not covers(network(), state)
    with pytest.raises(InputError) as caught:
        load(state)
    assert str(caught.value) == (
        "mine.pth does not fit mine: 2 missing (norm.bias, norm.running_mean); "
        "1 of another shape (stem.weight: found 4×3×7×7, expected 4×3×3×3); 1 unexpected (stem.gamma)"
    )


def test_long_lists_are_cut() -> None:
    with pytest.raises(InputError, match=r"6 missing \(stem.weight, stem.bias, norm.weight, norm.bias, …\)$"):
        load({})


def test_random_weights_are_he_normal_by_name() -> None:
    used = {"a.weight": torch.zeros(512, 32, 3, 3), "b.weight": torch.ones(7), "b.bias": torch.ones(7)}
    state = random_state(used)
    assert torch.equal(state["b.weight"], torch.ones(7))
    assert torch.equal(state["b.bias"], torch.zeros(7))
    assert state["a.weight"].dtype == torch.float32
    assert float(state["a.weight"].std()) == pytest.approx(np.sqrt(2 / (32 * 9)), rel=0.02)
    assert torch.equal(random_state({"a.weight": torch.zeros(512, 32, 3, 3)})["a.weight"], state["a.weight"])
    assert not torch.equal(random_state({"c.weight": torch.zeros(512, 32, 3, 3)})["c.weight"], state["a.weight"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_what_training_scripts_save(tmp_path: Path, wrap: Any, suffix: str) -> None:
    state = whole()
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(state), path)
    found = read_weights(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_safetensors(tmp_path: Path) -> None:
    state = whole()
    save_file(state, tmp_path / "weights.safetensors")
    assert hash_of(read_weights(tmp_path / "weights.safetensors")) == hash_of(state)


class Stranger:
    """What a file must not bring to life."""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.safetensors", b"no tensors", "cannot be read as safetensors"),
        ("empty.safetensors", b"", "cannot be read as safetensors"),
        ("broken.pth", b"no tensors", "cannot be read as tensors alone"),
        ("empty.pth", b"", "cannot be read as tensors alone"),
        ("object.pt", Stranger(), "cannot be read as tensors alone.*converted to .safetensors"),
        ("numbers.pt", {"a": 1, "b": torch.zeros(1)}, r"holds things that are no tensors \(a\)"),
        ("list.pt", [torch.zeros(1)], "holds no tensors by name"),
        ("nothing.pt", {}, "holds no tensors by name"),
        ("weights.ckpt", b"", "is no weights file: expected .safetensors, .pth or .pt; convert it"),
        ("weights.bin", b"", "is no weights file"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_plain_pickle_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"a": Stranger()}))
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        read_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"weights file imagenet does not exist: expected a file, or 'default' or 'none'"
    ):
        read_weights("imagenet")
    with pytest.raises(InputError, match="is a folder"):
        read_weights(tmp_path)


def test_hash_tells_names_types_shapes_and_bytes_apart() -> None:
    states = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0, 0, 0, 1e-30])},
        {"a": torch.zeros(4), "b": torch.tensor(1)},
    ]
    assert len({hash_of(state) for state in states}) == len(states)
    image = torch.rand(2, 3, 4, 5)
    assert hash_of({"a": image}) == hash_of({"a": image.contiguous(memory_format=torch.channels_last)})


@pytest.mark.parametrize(
    ("channels", "n_components"),
    [
        ((64, 128, 256), 100),
        ((256, 512, 1024), 550),
        ((48, 128, 256), 108),
        ((16, 16), 32),
        ((4000,), 550),
        ((100,), 64),
    ],
)
def test_default_dims(channels: tuple[int, ...], n_components: int) -> None:
    assert default_n_components(channels) == n_components
