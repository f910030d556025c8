"""Train the built-in backbone: a compact residual network learns resnet18's feature maps from procedural images.

    python tools/train_builtin.py WORK --teacher resnet18.safetensors --output padim_zoo/backbones/builtin.safetensors

WORK keeps the images, the state of the training and its log; a run that was killed goes on where it was. Everything is
drawn from fixed seeds. See docs/builtin-backbone.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from procedural_images import procedural_image, shape
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from padim_zoo.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from padim_zoo.backbones.builtin import COMPONENTS
from padim_zoo.backbones.compact_resnet import (
    RANKS,
    STEM_CHANNELS,
    WIDTHS,
    CompactResNet,
    LowRankConv,
    ProjectedResNet,
)
from padim_zoo.backbones.weights import read_weights
from padim_zoo.core.atomic_write import write_whole

SIZE = 256
SHARD = 500
CROP = 160
BATCH = 16
HELD_OUT = 250
EVERY = 500
VIEWS = 3


class Teacher(nn.Module):
    """resnet18 up to its third stage, batch norm folded, from torchvision's weights."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = _folded(state, "conv1", "bn1", stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(TeacherBlock(state, f"layer{stage}.{block}") for block in range(2))) for stage in (1, 2, 3)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.pool(torch.relu(self.stem(images)))
        found = []
        for stage in self.stages:
            maps = stage(maps)
            found.append(maps)
        return found


class TeacherBlock(nn.Module):
    """A basic residual block."""

    def __init__(self, state: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        narrower = f"{name}.downsample.0.weight" in state
        stride = 2 if narrower else 1
        self.conv1 = _folded(state, f"{name}.conv1", f"{name}.bn1", stride, 1)
        self.conv2 = _folded(state, f"{name}.conv2", f"{name}.bn2", 1, 1)
        self.skip = _folded(state, f"{name}.downsample.0", f"{name}.downsample.1", 2, 0) if narrower else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(maps))) + self.skip(maps))


def _folded(state: Mapping[str, Tensor], conv: str, norm: str, stride: int, padding: int) -> nn.Conv2d:
    weight = state[f"{conv}.weight"]
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
    made = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
    made.weight.data = weight * scale[:, None, None, None]
    made.bias = nn.Parameter(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
    return made


# -- images ----------------------------------------------------------------------------------------------------------


def make_images(folder: Path, number: int) -> list[np.ndarray]:
    """Shards of images (SHARD, SIZE, SIZE, 3), drawn once; the first image of all has seed 0."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{shard:03}.npy" for shard in range(number // SHARD)]
    with ProcessPoolExecutor() as pool:
        for shard, path in enumerate(paths):
            if not path.exists():
                seeds = range(shard * SHARD, (shard + 1) * SHARD)
                images = np.stack(list(pool.map(procedural_image, seeds, [SIZE] * SHARD, chunksize=25)))
                write_whole(path, partial(save_npy, images=images))
                click.echo(f"images {(shard + 1) * SHARD} of {number}")
    return [np.load(path, mmap_mode="r") for path in paths]


def save_npy(path: Path, images: np.ndarray) -> None:
    """Like ``numpy.save``, but with no suffix added to the name."""
    with path.open("wb") as file:
        np.save(file, images)


def batch_of(shards: list[np.ndarray], seed: int, step: int) -> Tensor:
    """Crops (BATCH, 3, CROP, CROP) in [0, 1] for one step: turned, flipped, scaled, recolored."""
    rng = np.random.default_rng([seed, step, 1])
    total = len(shards) * SHARD
    crops = []
    for index in rng.integers(HELD_OUT, total, BATCH):
        side = int(rng.integers(3 * SIZE // 8, SIZE + 1))
        top, left = rng.integers(0, SIZE - side + 1, 2)
        crop = shards[index // SHARD][index % SHARD, top : top + side, left : left + side]
        crop = np.rot90(crop, int(rng.integers(4)))
        crop = crop[:, :: int(rng.choice([-1, 1])), rng.permutation(3)]
        image = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float() / 255
        image = functional.interpolate(image, (CROP, CROP), mode="bilinear", antialias=True, align_corners=False)
        gain, offset = rng.uniform(0.5, 1.3), rng.uniform(-0.15, 0.25)
        gray = image.mean(1, keepdim=True)
        image = gray + (image - gray) * float(rng.choice([0.0, 0.5, 1.0, 1.0]))
        crops.append((image * gain + offset).clamp(0, 1))
    return normalized(torch.cat(crops))


def normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def held_out_batches(shards: list[np.ndarray]) -> Iterator[Tensor]:
    """The first images, whole, which no step sees."""
    for start in range(0, HELD_OUT, 25):
        images = torch.from_numpy(np.array(shards[0][start : start + 25])).permute(0, 3, 1, 2)
        yield normalized(images.float() / 255)


# -- start: low-rank factors of the teacher's convolutions ------------------------------------------------------------


class SecondMoments:
    """Mean and uncentered second moments of the channels of maps."""

    def __init__(self) -> None:
        self.n, self.sum, self.outer = 0, torch.zeros(1), torch.zeros(1)

    def add(self, maps: Tensor) -> None:
        rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).double()
        self.n += len(rows)
        self.sum = self.sum + rows.sum(0)
        self.outer = self.outer + rows.T @ rows

    @property
    def mean(self) -> Tensor:
        return self.sum / self.n

    @property
    def second(self) -> Tensor:
        return self.outer / self.n

    @property
    def covariance(self) -> Tensor:
        return self.second - torch.outer(self.mean, self.mean)


@torch.no_grad()
def observe(teacher: Teacher, shards: list[np.ndarray]) -> dict[str, tuple[SecondMoments, SecondMoments]]:
    """What goes in and comes out of every convolution of the teacher on the held-out images."""
    seen = {name: (SecondMoments(), SecondMoments()) for name, module in teacher.named_modules() if _is_conv(module)}
    hooks = []
    for name, (before, after) in seen.items():

        def hook(
            module: nn.Module,
            inputs: tuple[Tensor, ...],
            output: Tensor,
            before: SecondMoments = before,
            after: SecondMoments = after,
        ) -> None:
            before.add(inputs[0])
            after.add(output)

        hooks.append(teacher.get_submodule(name).register_forward_hook(hook))
    pooled = SecondMoments()
    hooks.append(teacher.pool.register_forward_hook(lambda module, inputs, output: pooled.add(output)))
    for images in held_out_batches(shards):
        teacher(images)
    for handle in hooks:
        handle.remove()
    seen["pool"] = (pooled, pooled)
    return seen


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


@torch.no_grad()
def started_from(teacher: Teacher, seen: Mapping[str, tuple[SecondMoments, SecondMoments]]) -> CompactResNet:
    """A student whose every part does what the teacher's does, as nearly as its rank allows."""
    student = CompactResNet()
    kept = leading_pivots(seen["pool"][0].covariance, STEM_CHANNELS)
    student.stem.weight.data, bias_of(student.stem).data = teacher.stem.weight[kept], bias_of(teacher.stem)[kept]
    mean, covariance = seen["pool"][0].mean, seen["pool"][0].covariance
    within = covariance[kept][:, kept] + 1e-6 * torch.eye(len(kept))
    solved = torch.cholesky_solve(covariance[kept], torch.linalg.cholesky(within)).T
    student.widen.weight.data = solved.float()[:, :, None, None]
    bias_of(student.widen).data = (mean - solved @ mean[kept]).float()
    for stage in range(len(WIDTHS)):
        for block in range(2):
            for conv in ("conv1", "conv2"):
                name = f"stages.{stage}.{block}.{conv}"
                mine, theirs = student.get_submodule(name), teacher.get_submodule(name)
                assert isinstance(mine, LowRankConv)
                assert isinstance(theirs, nn.Conv2d)
                factorize(mine, theirs, *seen[name], RANKS[stage])
            skip = f"stages.{stage}.{block}.skip"
            if _is_conv(student.get_submodule(skip)):
                student.get_submodule(skip).load_state_dict(teacher.get_submodule(skip).state_dict())
    return student


def bias_of(conv: nn.Conv2d) -> Tensor:
    """The bias of a convolution that has one."""
    assert conv.bias is not None
    return conv.bias


def leading_pivots(covariance: Tensor, number: int) -> Tensor:
    """The channels that explain the others best, one after the other: pivoted Cholesky factorization."""
    rest = covariance.clone()
    chosen: list[int] = []
    for _ in range(number):
        gain = rest.square().sum(0) / rest.diagonal().clamp_min(1e-9)
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        rest = rest - torch.outer(rest[best], rest[best]) / rest[best, best]
    return torch.tensor(chosen)


def factorize(mine: LowRankConv, theirs: nn.Conv2d, before: SecondMoments, after: SecondMoments, rank: int) -> None:
    """Tucker-2 factors of a convolution that lose least on the maps it has seen."""
    weight = theirs.weight.double()
    values, vectors = torch.linalg.eigh(before.second)
    values = values.clamp_min(1e-6 * values[-1])
    root, inverse_root = (vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T
    flat = weight.permute(1, 0, 2, 3).flatten(1)
    inward = torch.linalg.eigh(root @ flat @ flat.T @ root)[1][:, -rank:]
    outward = torch.linalg.eigh(after.covariance)[1][:, -rank:]
    reduce, restore = inward.T @ inverse_root, root @ inward
    core = torch.einsum("oikl,ir,os->srkl", weight, restore, outward)
    # Scales are shared out, so that one learning rate suits all three.
    size = (core.square().mean() * rank).sqrt()
    mine.reduce.weight.data = reduce.float()[:, :, None, None]
    mine.core.weight.data = (core / size).float()
    mine.expand.weight.data = (outward * size).float()[:, :, None, None]
    bias = bias_of(theirs).double()
    bias_of(mine.expand).data = (after.mean + outward @ (outward.T @ (bias - after.mean))).float()


# -- training --------------------------------------------------------------------------------------------------------


class Distance(nn.Module):
    """Squared error of maps, half as it is and half along the teacher's discriminants; 1 for the mean map.

    PaDiM divides by the variance of normal images: what varies little among them counts as much as what varies much.
    """

    directions: Tensor

    def __init__(self, covariance: Tensor, directions: Tensor) -> None:
        super().__init__()
        along = torch.einsum("oc,cd,od->", directions, covariance, directions)
        self.register_buffer("directions", (directions / along.sqrt()).T.float())
        self.variance = float(covariance.trace())

    def forward(self, mine: Tensor, theirs: Tensor) -> Tensor:
        error = (mine.float() - theirs.float()).permute(0, 2, 3, 1)
        along = (error @ self.directions).square().sum(3).mean()
        return 0.5 * (along + error.square().sum(3).mean() / self.variance)


@torch.no_grad()
def explained(student: nn.Module, teacher: nn.Module, distances: nn.ModuleList, images: list[Tensor]) -> list[float]:
    """1 − loss of each stage on held-out images."""
    losses = [
        [float(distance(*pair)) for distance, *pair in zip(distances, student(batch), teacher(batch), strict=True)]
        for batch in images
    ]
    return [round(1 - float(value), 4) for value in np.mean(losses, 0)]


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="torchvision's resnet18 weights.")
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--images", default=8000, show_default=True)
@click.option("--steps", default=5000, show_default=True)
@click.option("--rate", default=1e-3, show_default=True, help="Highest learning rate.")
@click.option("--seed", default=0, show_default=True, help="Order and colors of the images.")
def main(work: Path, teacher: Path, output: Path, images: int, steps: int, rate: float, seed: int) -> None:
    shards = make_images(work / "images", images)
    torch.manual_seed(0)
    guide = Teacher(read_weights(teacher)).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    seen = observe(guide, shards)
    student = started_from(guide, seen).to(memory_format=torch.channels_last)
    held_out = list(held_out_batches(shards))[:4]
    streams = [SecondMoments() for _ in WIDTHS]
    with torch.no_grad():
        for batch in held_out:
            for moments, maps in zip(streams, guide(batch), strict=True):
                moments.add(maps)
    distances = nn.ModuleList(
        Distance(moments.covariance, directions)
        for moments, directions in zip(streams, discriminants(guide, shards), strict=True)
    )
    train(work, student, guide, distances, shards, held_out, steps, rate, seed)
    finished = ProjectedResNet(range(len(WIDTHS)), COMPONENTS)
    finished.load_state_dict(student.state_dict(), strict=False)
    for stage, directions in enumerate(discriminants(student.eval(), shards)):
        projection = finished.projections[str(stage)]
        assert isinstance(projection, nn.Conv2d)
        projection.weight.data = directions.float()[:, :, None, None]
        bias_of(projection).data.zero_()
    halves = {name: tensor.half().contiguous() for name, tensor in finished.state_dict().items()}
    write_whole(output, lambda temporary: save_file(halves, temporary))
    click.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


def train(
    work: Path,
    student: CompactResNet,
    teacher: Teacher,
    distances: nn.ModuleList,
    shards: list[np.ndarray],
    held_out: list[Tensor],
    steps: int,
    rate: float,
    seed: int,
) -> None:
    """Adam with one cosine; the state is written every so many steps."""
    parameters = dict(student.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), lr=rate, betas=(0.9, 0.99))
    state_path, log_path = work / "state.safetensors", work / "log.jsonl"
    step, resumed = 0, -1
    if state_path.exists():
        step = resumed = resume(state_path, student, optimizer)
    else:
        log_path.write_text("")
    start = time.perf_counter()
    losses: list[float] = []
    while True:
        if step % EVERY == 0 and step != resumed:
            line = {
                "step": step,
                "loss": round(float(np.mean(losses)), 4) if losses else None,
                "explained": explained(student.eval(), teacher, distances, held_out),
                "seconds": round(time.perf_counter() - start),
            }
            losses = []
            with log_path.open("a") as log:
                log.write(json.dumps(line) + "\n")
            click.echo(json.dumps(line))
            keep(state_path, step, student, optimizer)
        if step >= steps:
            return
        warm = min(1, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        images = batch_of(shards, seed, step)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = teacher(images)
            found = student(images)
        loss = sum(distance(*pair) for distance, *pair in zip(distances, found, wanted, strict=True)) / len(WIDTHS)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        step += 1


def keep(path: Path, step: int, student: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write all that a later process needs to go on."""
    tensors = {f"student.{name}": tensor.contiguous() for name, tensor in student.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value.contiguous() for name, value in values.items()}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata={"step": str(step)}))


def resume(path: Path, student: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Take over what :func:`keep` wrote; the step that comes next."""
    tensors = load_file(path)
    student.load_state_dict(
        {key.removeprefix("student."): t for key, t in tensors.items() if key.startswith("student.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])


# -- what it gives: discriminant directions ---------------------------------------------------------------------------


@torch.no_grad()
def discriminants(network: nn.Module, shards: list[np.ndarray]) -> list[Tensor]:
    """The directions (48, C) of each stage that tell defects from harmless changes best, on the held-out images.

    Linear discriminant analysis: the generalized eigenvectors of the second moments of what a defect changes, against
    those of what small movements, light and noise change; scaled so that harmless changes have variance 1 and are
    uncorrelated, largest ratio first.
    """
    harmless = [SecondMoments() for _ in WIDTHS]
    defects = [SecondMoments() for _ in WIDTHS]
    generator, rng = torch.Generator().manual_seed(2), np.random.default_rng(2)
    for start in range(0, HELD_OUT, 25):
        images = torch.from_numpy(np.array(shards[0][start : start + 25])).permute(0, 3, 1, 2).float() / 255
        views = [network(normalized(disturbed(images, generator))) for _ in range(VIEWS)]
        damaged, masks = with_defects(images, rng)
        changed = network(normalized(disturbed(damaged, generator)))
        for stage, maps in enumerate(changed):
            usual = torch.stack([view[stage] for view in views])
            mean = usual.mean(0)
            harmless[stage].add((usual - mean).flatten(0, 1) * (VIEWS / (VIEWS - 1)) ** 0.5)
            concerned = functional.adaptive_avg_pool2d(masks, maps.shape[2:])[:, 0] > 0.3
            defects[stage].add((maps - mean).permute(0, 2, 3, 1)[concerned][:, :, None, None])
    found = []
    for stage, number in enumerate(COMPONENTS):
        within = harmless[stage].second
        within = within + 0.01 * within.diagonal().mean() * torch.eye(len(within))
        root = torch.linalg.cholesky(within)
        between = torch.linalg.solve_triangular(root, defects[stage].second, upper=False)
        between = torch.linalg.solve_triangular(root, between.T, upper=False)
        ratios, vectors = torch.linalg.eigh((between + between.T) / 2)
        directions = torch.linalg.solve_triangular(root.T, vectors.flip(1)[:, :number], upper=True).T
        found.append(directions * directions.sum(1, keepdim=True).sign())  # which of the two signs, settled
        shown = [round(float(ratio), 1) for ratio in ratios.flip(0)[:number:8]]
        click.echo(f"stage {stage + 1}, ratios of variance of every eighth direction: {shown}")
    return found


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:
    """What happens to one and the same part: a small shift, turn and scaling, a change of light, noise."""
    n = len(images)
    turn = 0.02 * torch.randn(n, generator=generator)
    scale = 1 + 0.01 * torch.randn(n, generator=generator)
    cos, sin = scale * torch.cos(turn), scale * torch.sin(turn)
    shift = 0.012 * torch.randn(n, 2, generator=generator)
    motion = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(motion, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    gain = 1 + 0.06 * torch.randn(n, 1, 1, 1, generator=generator)
    offset = 0.03 * torch.randn(n, 1, 1, 1, generator=generator)
    return (moved * gain + offset + 0.01 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def with_defects(images: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Each image with a foreign piece, a displaced piece or a stain, and its coverage (N, 1, H, W)."""
    damaged, masks = images.clone(), torch.zeros(len(images), 1, SIZE, SIZE)
    for number, image in enumerate(images):
        scale = float(np.exp(rng.uniform(np.log(0.02), np.log(0.12))))
        masks[number, 0] = torch.from_numpy(shape(rng, SIZE, scale))
        kind = rng.integers(3)
        if kind == 0:
            other = images[(number + 1) % len(images)]
        elif kind == 1:
            other = torch.roll(image, [int(step) for step in rng.integers(10, 100, 2)], (1, 2))
        else:
            stain = torch.from_numpy(rng.normal(0, 0.15, (3, 1, 1))).float()
            other = (image * float(rng.uniform(0.4, 1.6)) + stain).clamp(0, 1)
        damaged[number] += (other - image) * masks[number]
    return damaged, masks


if __name__ == "__main__":
    main()
