"""The training of the built-in backbone, small: it starts from the teacher, learns, and survives being killed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(TOOLS))
    import train_builtin

    for name, value in {"SIZE": 64, "SHARD": 30, "CROP": 32, "BATCH": 2, "HELD_OUT": 25, "EVERY": 2}.items():
        monkeypatch.setattr(train_builtin, name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are so small that threads would only wait for each other
    yield sys.modules["train_builtin"]
    torch.set_num_threads(threads)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = resnet18()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    path = tmp_path / "teacher.safetensors"
    save_file({name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc")}, path)
    return path


def train(tool: ModuleType, work: Path, teacher: Path, steps: int = 5) -> object:
    arguments = [work, "--teacher", teacher, "--output", work / "out.safetensors", "--images", 30, "--steps", steps]
    return CliRunner().invoke(tool.main, list(map(str, arguments)), catch_exceptions=True)


def test_the_teacher_is_torchvisions_network(tool: ModuleType, teacher: Path) -> None:
    network = resnet18().eval()
    network.load_state_dict(load_file(teacher), strict=False)
    images = torch.rand(1, 3, 64, 64)
    maps = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    with torch.no_grad():
        found = tool.Teacher(load_file(teacher)).eval()(images)
        for stage, mine in zip((network.layer1, network.layer2, network.layer3), found, strict=True):
            maps = stage(maps)
            torch.testing.assert_close(mine, maps, rtol=1e-4, atol=1e-4)


def test_a_factorization_of_full_rank_changes_nothing(tool: ModuleType) -> None:
    theirs = torch.nn.Conv2d(6, 6, 3, 1, 1)
    maps = torch.randn(4, 6, 12, 12)
    before, after = tool.SecondMoments(), tool.SecondMoments()
    with torch.no_grad():
        before.add(maps)
        after.add(theirs(maps))
        mine = tool.LowRankConv(6, 6, 6, 1)
        tool.factorize(mine, theirs, before, after, 6)
        torch.testing.assert_close(mine(maps), theirs(maps), rtol=1e-3, atol=1e-4)
        errors = []
        for rank in (4, 2):
            small = tool.LowRankConv(6, 6, rank, 1)
            tool.factorize(small, theirs, before, after, rank)
            errors.append(float((small(maps) - theirs(maps)).square().mean() / theirs(maps).var()))
    assert 1e-6 < errors[0] < errors[1] < 1


def test_training_goes_on_where_it_was_killed(
    tool: ModuleType, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(tool, whole, teacher).exception is None
    draw = tool.batch_of

    def dies(shards: list[np.ndarray], seed: int, step: int) -> torch.Tensor:
        if step == 3:
            raise KeyboardInterrupt
        return draw(shards, seed, step)

    monkeypatch.setattr(tool, "batch_of", dies)
    assert train(tool, killed, teacher).exit_code != 0
    assert not (killed / "out.safetensors").exists()
    monkeypatch.setattr(tool, "batch_of", draw)
    assert train(tool, killed, teacher).exception is None
    one, other = (load_file(folder / "out.safetensors") for folder in (whole, killed))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-2, atol=1e-2, msg=name)
    steps = [json.loads(line)["step"] for line in (killed / "log.jsonl").read_text().splitlines()]
    assert steps == [0, 2, 4]


def test_discriminants_are_uncorrelated_and_ordered(tool: ModuleType) -> None:
    """What varies harmlessly has variance 1 along each; what a defect changes is largest along the first."""
    images = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    torch.manual_seed(0)
    network = tool.CompactResNet().eval()
    for directions, width in zip(tool.discriminants(network, [images]), tool.WIDTHS, strict=True):
        assert directions.shape == (48, width)
        assert torch.isfinite(directions).all()
        assert torch.linalg.matrix_rank(directions) == 48


def test_procedural_images_are_the_same_every_time(tool: ModuleType) -> None:
    import procedural_images

    images = [procedural_images.procedural_image(seed, 64) for seed in range(12)]
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in images)
    assert all(np.array_equal(image, procedural_images.procedural_image(seed, 64)) for seed, image in enumerate(images))
    assert len({image.tobytes() for image in images}) == 12
    assert np.mean([image.std() for image in images]) > 15
