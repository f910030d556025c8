"""DINO backbones with random weights; networks of the same classes, but small, are held to the whole contract."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from padim_zoo_dinov2 import MODELS, Model, dino
from safetensors.torch import save_file

from padim_zoo import PaDiM
from padim_zoo.plugin import InputError, backbones, check_backbone

TINY = {"embed_dim": 48, "depth": 4, "num_heads": 3}
SMALL = {
    "tiny-dinov2": Model("vit_small_patch14_dinov2.lvd142m", 4, 48, 14),
    "tiny-dinov2-reg": Model("vit_small_patch14_reg4_dinov2.lvd142m", 4, 48, 14),
    "tiny-dinov3": Model("vit_small_patch16_dinov3.lvd1689m", 4, 48, 16),
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    backbones.names()
    monkeypatch.setattr(backbones, "_entries", dict(backbones._entries))
    for name, model in SMALL.items():
        backbones.register(name, summary="small")(partial(dino, name, model=model, **TINY))


@pytest.mark.parametrize("name", SMALL)
def test_the_contract_is_kept(name: str) -> None:
    check_backbone(name)


def test_all_names_are_registered_as_timm_builds_them() -> None:
    for name, model in MODELS.items():
        entry = backbones.entry(name)
        assert entry.source == "plugin padim-zoo-dinov2"
        with torch.device("meta"):
            built = timm.create_model(model.timm_name)
        assert (len(built.blocks), built.embed_dim) == (model.depth, model.channels), name
        assert built.patch_embed.patch_size == (model.patch, model.patch), name
        assert built.num_prefix_tokens == (1 if name.startswith("dinov2") and "reg" not in name else 5), name
    assert backbones.entry("dinov2-small").metadata["layers"] == ("block6", "block9")
    assert backbones.entry("dinov2-giant").metadata["layers"] == ("block20", "block30")


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_the_normalized_patch_tokens_of_the_blocks(name: str) -> None:
    backbone = backbones.create(name, layers=("block3", "block1"), weights="none")
    patch = SMALL[name].patch
    images = torch.rand(2, 3, 3 * patch, 5 * patch, generator=torch.Generator().manual_seed(0))
    model = backbone.network.model
    outputs: dict[int, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda module, inputs, output, number=number: outputs.update({number: output}))
        for number, block in enumerate(model.blocks, 1)
    ]
    found = backbone(images)
    for hook in hooks:
        hook.remove()
    assert len(model.blocks) == 3  # the fourth is cut off
    for number, tokens in ((3, found[0]), (1, found[1])):
        expected = model.norm(outputs[number])[:, -15:].mT.reshape(2, 48, 3, 5)  # class and registers come first
        torch.testing.assert_close(tokens, expected)


def test_images_are_resized_to_whole_patches_in_register() -> None:
    backbone = backbones.create("tiny-dinov2", layers=("block2",), weights="none")
    for size, grid in (((56, 56), (4, 4)), ((64, 50), (5, 4)), ((10, 256), (1, 18))):
        assert backbone(torch.rand(1, 3, *size))[0].shape[2:] == grid
    smooth = torch.linspace(0, 1, 63)[None, None, :, None].expand(1, 3, 63, 56)
    same = torch.linspace(0, 1, 70)[None, None, :, None].expand(1, 3, 70, 56)  # 63 is halfway, and rounds to even: 56
    assert backbone(smooth)[0].shape[2:] == (4, 4)
    assert backbone(same)[0].shape[2:] == (5, 4)
    constant = backbone(torch.full((1, 3, 61, 50), 0.5))[0]
    torch.testing.assert_close(constant, backbone(torch.full((1, 3, 56, 56), 0.5))[0], rtol=1e-4, atol=1e-4)


def test_normalization_is_that_of_the_model() -> None:
    for name in SMALL:
        backbone = backbones.create(name, weights="none")
        config = timm.get_pretrained_cfg(SMALL[name].timm_name)
        assert (backbone.mean, backbone.std) == (config.mean, config.std)


@pytest.mark.parametrize("name", ["tiny-dinov2", "tiny-dinov2-reg"])
def test_files_of_timm_and_of_the_authors_give_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = timm.create_model(SMALL[name].timm_name, **TINY)
    state = {key: torch.randn_like(tensor) / 8 for key, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "timm.safetensors")
    theirs = dict(state, mask_token=torch.zeros(1, 48))
    if "reg_token" in theirs:  # the authors keep a position of the class token, which timm adds to it
        theirs["register_tokens"] = theirs.pop("reg_token")
        position = torch.randn(1, 1, 48)
        theirs["cls_token"] = theirs["cls_token"] - position
        theirs["pos_embed"] = torch.cat([position, theirs["pos_embed"]], dim=1)
    torch.save(theirs, tmp_path / "authors.pth")
    images = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    one, other = (backbones.create(name, weights=tmp_path / file) for file in ("timm.safetensors", "authors.pth"))
    for left, right in zip(one(images), other(images), strict=True):
        torch.testing.assert_close(left, right)
    assert other.weights_source.endswith("authors.pth")


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    with pytest.raises(InputError, match=r"the default weights of tiny-dinov2 cannot be had \(no route to host\)"):
        backbones.create("tiny-dinov2")
    with pytest.raises(InputError, match="has no layers block5: expected different ones of block1 to block4"):
        backbones.create("tiny-dinov2", layers=("block5",), weights="none")


def test_a_detector_finds_what_is_wrong() -> None:
    from padim_zoo.testing.images import anomalous_images, normal_images

    detector = PaDiM("tiny-dinov2-reg", weights="none", n_components=20, resize=70, crop=None).fit(
        normal_images(10, 80, 80)
    )
    good = detector.predict(normal_images(3, 80, 80, seed=5)).scores
    bad = detector.predict(anomalous_images(3, 80, 80)).scores
    assert bad.min() > 2 * good.max()
    assert np.isfinite(bad).all()
