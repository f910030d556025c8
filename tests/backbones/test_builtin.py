from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from padim_zoo.backbones import builtin as module
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.compact_resnet import CompactResNet, ProjectedResNet
from padim_zoo.core.errors import InputError
from padim_zoo.features.features import LeadingChannels, draw_reduction
from padim_zoo.registry import backbones


@pytest.fixture(scope="module")
def builtin() -> Backbone:
    return backbones.create("builtin")


def test_weights_come_with_the_package_and_are_small() -> None:
    path = Path(module.__file__).with_name("builtin.safetensors")
    assert path.stat().st_size < 3_000_000
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}


def test_listing_holds_to_the_model(builtin: Backbone) -> None:
    entry = backbones.entry("builtin")
    for key in ("layers", "channels", "strides", "default_n_components"):
        assert entry.metadata[key] == getattr(builtin, key)
    assert entry.metadata["weights_offline"] is True
    assert builtin.weights_source == "builtin"
    assert builtin.default_reduction == "leading"


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 48), (75, 101)])
def test_grids_of_any_size_of_image(builtin: Backbone, height: int, width: int) -> None:
    maps = builtin(torch.rand(2, 3, height, width))
    assert [tuple(layer.shape[2:]) for layer in maps] == [
        (-(-height // stride), -(-width // stride)) for stride in builtin.strides
    ]


def test_a_layer_alone_is_the_layer_of_all(builtin: Backbone) -> None:
    images = torch.rand(1, 3, 64, 64)
    [alone] = backbones.create("builtin", layers=["stage2"])(images)
    torch.testing.assert_close(alone, builtin(images)[1])


def test_maps_are_projections_of_the_residual_streams() -> None:
    projected, plain = ProjectedResNet([2, 0], (5, 6, 7)), CompactResNet()
    plain.load_state_dict({k: v for k, v in projected.state_dict().items() if not k.startswith("projections")}, False)
    images = torch.rand(1, 3, 64, 64)
    third, first = projected(images)
    streams = plain(images)
    for maps, stage in ((first, 0), (third, 2)):
        layer = projected.projections[str(stage)]
        expected = torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], streams[stage])
        torch.testing.assert_close(maps, expected + layer.bias.view(1, -1, 1, 1), atol=1e-5, rtol=1e-5)


def test_weights_of_other_origins(builtin: Backbone, tmp_path: Path) -> None:
    random = backbones.create("builtin", weights="none")
    assert random.weights_source == "none"
    assert random.default_reduction == "random"
    assert random.weights_hash != builtin.weights_hash
    path = tmp_path / "mine.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in random.state_in_use().items()}, path)
    assert backbones.create("builtin", weights=str(path)).weights_hash == random.weights_hash
    assert backbones.create("builtin", weights=builtin.state_in_use()).weights_hash == builtin.weights_hash
    assert backbones.create("builtin", weights="builtin").weights_hash == builtin.weights_hash


@pytest.mark.parametrize("layers", [["layer1"], [], ["stage1", "stage1"]])
def test_unknown_layers(layers: list[str]) -> None:
    with pytest.raises(InputError, match=r"builtin cannot take the layers .*: expected one or more of stage1"):
        backbones.create("builtin", layers=layers)


def test_directions_are_less_correlated_and_the_most_telling_first(builtin: Backbone) -> None:
    """On images that the training has not seen, and where random directions of the same streams are neither."""
    generator = torch.Generator().manual_seed(0)
    drawn = {
        name: torch.randn(tensor.shape, generator=generator) if name.startswith("projections") else tensor
        for name, tensor in builtin.state_in_use().items()
    }
    random = backbones.create("builtin", weights=drawn)
    for (harmless, damage), (usual, _) in zip(_changes(builtin), _changes(random), strict=True):
        assert _correlation(harmless) < _correlation(usual)
        contrast = damage.square().mean(0) / harmless.square().mean(0)
        assert contrast[:16].mean() > 1.1 * contrast[-16:].mean()  # of the random ones 1.08, 1.00, 0.91


def _correlation(changes: torch.Tensor) -> float:
    """Root mean square of the correlations of different columns."""
    correlations = torch.corrcoef(changes.T)
    return float((correlations - torch.eye(len(correlations))).square().mean().sqrt())


def _changes(backbone: Backbone) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each layer, what light, noise and a shift change (rows, channels), and what a displaced piece does."""
    rng = np.random.default_rng(0)
    found: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = [([], []) for _ in backbone.layers]
    for _ in range(24):
        coarse = Image.fromarray(rng.integers(40, 220, (24, 24, 3), dtype=np.uint8))
        image = np.asarray(coarse.resize((160, 160), Image.Resampling.BICUBIC), dtype=np.float32) / 255
        pieces = image[16:144, 16:144].copy()
        pieces[56:72, 56:72] = image[100:116, 20:36]
        views = [image[16:144, 16:144], image[17:145, 15:143] * 1.05, image[15:143, 17:145] * 0.95, pieces]
        noisy = np.stack([view + rng.normal(0, 0.01, view.shape) for view in views]).clip(0, 1)
        for rows, maps in zip(
            found, backbone(torch.from_numpy(noisy.astype(np.float32)).permute(0, 3, 1, 2)), strict=True
        ):
            changes = (maps[1:] - maps[0]).permute(0, 2, 3, 1)
            middle = slice(maps.shape[-1] * 7 // 16, maps.shape[-1] * 9 // 16)
            rows[0].append(changes[:2].flatten(0, 2))
            rows[1].append(changes[2, middle, middle].flatten(0, 1))
    return [(torch.cat(harmless), torch.cat(damage)) for harmless, damage in found]


def test_leading_channels_share_the_dimensions() -> None:
    drawn = draw_reduction("leading", (48, 48, 48), 64, seed=3)
    assert isinstance(drawn, LeadingChannels)
    assert [list(kept) for kept in drawn.channels] == [list(range(kept)) for kept in (21, 22, 21)]
    assert draw_reduction("leading", (48, 48, 48), 64, seed=4).arrays().keys() == drawn.arrays().keys()
    assert [len(kept) for kept in LeadingChannels.draw((5, 3), 8, 0).channels] == [5, 3]
    assert [len(kept) for kept in LeadingChannels.draw((1, 9), 1, 0).channels] == [0, 1]
