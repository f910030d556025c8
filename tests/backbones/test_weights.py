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
    return {name: torch.rand(tensor.shape) for name, tensor in network().state_dict().items()}


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


def prefixed(state: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for prefix in prefixes for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda state: {"state_dict": state, "epoch": 3}, "those in state_dict$"),
        (lambda state: {"model": state, "optimizer": {}}, "those in model$"),
        (lambda state: {"model_state_dict": state}, "those in model_state_dict$"),
        (lambda state: {"teacher": {"backbone": state}, "student": {}}, "those in teacher / backbone$"),
        (lambda state: prefixed(state, "module."), "begin with module.$"),
        (lambda state: prefixed(state, "_orig_mod."), "begin with _orig_mod.$"),
        (lambda state: prefixed(state, "backbone.") | {"head.weight": torch.zeros(2)}, "begin with backbone.$"),
        (lambda state: prefixed(state, "model.backbone.") | {"loss.scale": torch.ones(1)}, "model.backbone.$"),
        (lambda state: prefixed(state, "student.", "teacher."), "begin with teacher.$"),
        (lambda state: prefixed(state, "_orig_mod.module.encoder_k.", "_orig_mod.module.encoder_q."), "encoder_q.$"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_what_training_scripts_save_is_unwrapped_with_a_line(tmp_path: Path, wrap: Any, says: str, suffix: str) -> None:
    state = whole()
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(state), path)
    with pytest.warns(UserWarning, match=says) as caught:  # noqa: PT031  either of the two may say it
        content = read_weights(path)
        in_use = load(content)
    assert covers(network(), content)
    assert len(caught) == 1
    assert str(path) in str(caught[0].message) or "mine.pth" in str(caught[0].message)
    assert all(torch.equal(in_use[name], state[name]) for name in in_use)


def test_a_state_dict_is_read_without_a_word(tmp_path: Path) -> None:
    state = whole()
    torch.save(state, tmp_path / "weights.pth")
    assert hash_of(read_weights(tmp_path / "weights.pth")) == hash_of(state)
    load(prefixed(state, "", "teacher."))  # the network's own names come first


def spoiled(name: str, tensor: Tensor) -> dict[str, Tensor]:
    return whole() | {name: tensor}


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (spoiled("stem.bias", torch.tensor([0, float("nan"), 0, 0])), r"1 with NaN or infinite values \(stem.bias\)"),
        (spoiled("stem.bias", torch.tensor([0, 1e300, 0, 0], dtype=torch.float64)), "1 with NaN or infinite"),
        (spoiled("norm.weight", torch.full((4,), float("inf"))), "1 with NaN or infinite"),
        (spoiled("norm.running_var", -torch.ones(4)), r"1 with negative variances \(norm.running_var\)"),
        (spoiled("stem.weight", torch.randn(4, 3, 3, 3, dtype=torch.complex64)), r"1 complex \(stem.weight\)"),
        (spoiled("stem.weight", torch.ones(4, 3, 3, 3, dtype=torch.int8)), "1 of whole numbers, as of a quantized"),
        (spoiled("stem.weight", torch.empty(4, 3, 3, 3, device="meta")), "1 without values"),
        (spoiled("stem.weight", torch.randn(4, 3, 3, 3).to_sparse()), "1 sparse"),
    ],
)
def test_tensors_that_cannot_be_weights_are_refused(tmp_path: Path, state: dict[str, Tensor], problem: str) -> None:
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    with pytest.raises(InputError, match=f"holds no weights of a trained network: {problem}") as caught:
        load(read_weights(path))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
def test_quantized_tensors_are_refused(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.randn(4, 3, 3, 3), 0.1, 0, torch.qint8)
    torch.save(spoiled("stem.weight", quantized), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"1 quantized \(stem.weight\)"):
        load(read_weights(tmp_path / "weights.pt"))


def test_a_network_that_was_not_wholly_loaded_is_told() -> None:
    with pytest.warns(UserWarning, match=r"1 tensors hold one value throughout \(stem.weight\)"):
        load(whole() | {"stem.weight": torch.zeros(4, 3, 3, 3)})


def test_another_architecture_is_told_by_its_names() -> None:
    with pytest.raises(InputError, match=r"those of another architecture, such as blocks.0.qkv.weight, head.bias$"):
        load({"blocks.0.qkv.weight": torch.zeros(3, 3), "head.bias": torch.zeros(3)})


def test_a_layer_that_a_file_lacks_has_a_remedy() -> None:
    state = {name: tensor for name, tensor in whole().items() if name.startswith("stem.")}
    with pytest.raises(InputError, match=r"take a file that holds norm too, or leave these out by --layers$"):
        load(state)


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
        ("numbers.pt", {"a": 1, "b": torch.zeros(1)}, r"has values that are not tensors \(a\)"),
        ("list.pt", [torch.zeros(1)], "holds no tensors by name"),
        ("nothing.pt", {}, "holds no tensors by name"),
        ("indices.pt", {0: torch.zeros(1), 1: torch.zeros(1)}, r"keys that are not names \(0, 1\)"),
        ("weights.bin", b"", "is not a weights file: expected .safetensors, .pth, .pt or .ckpt; convert it"),
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
