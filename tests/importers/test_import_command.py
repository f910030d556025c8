"""Imported models give the scores of the program that fitted them, by its formulas written out."""

from __future__ import annotations

import pickle
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from torch import nn
from torch.nn.functional import conv2d, interpolate, pad
from torchvision.models import resnet18

import padim_zoo
from padim_zoo.backbones.weights import random_state
from padim_zoo.cli.main import main
from padim_zoo.core.errors import InputError
from padim_zoo.importers import read_model
from padim_zoo.importers.stub_pickle import Stub, read_pickle

SIZE = 64
D = 24
LAYERS = ("layer1", "layer2", "layer3")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    model = resnet18(weights=None)
    model.load_state_dict(random_state(model.state_dict()))
    return model.eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Six normal ones and two to test, uint8."""
    return np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)


def embed(network: nn.Module, images: np.ndarray, channels: torch.Tensor) -> torch.Tensor:
    """Embeddings (N, D, H, W): layers joined by nearest neighbors, channels chosen."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    maps = []
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        for layer in LAYERS:
            x = getattr(network, layer)(x)
            maps.append(interpolate(x, (SIZE // 4, SIZE // 4), mode="nearest"))
    return torch.cat(maps, 1)[:, channels]


def statistics(embeddings: torch.Tensor, epsilon: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D, P) and covariance (D, D, P), float32."""
    flat = embeddings.flatten(2).numpy()
    covariance = [
        np.cov(flat[:, :, p], rowvar=False) + epsilon * np.identity(flat.shape[1]) for p in range(flat.shape[2])
    ]
    return flat.mean(0), np.stack(covariance, 2).astype(np.float32)


def distances(embeddings: torch.Tensor, mean: np.ndarray, covariance: np.ndarray) -> torch.Tensor:
    """Mahalanobis distances (N, H, W), one by one."""
    flat = embeddings.flatten(2).double().numpy()
    found = np.empty((len(flat), flat.shape[2]))
    for p in range(flat.shape[2]):
        inverse = np.linalg.inv(covariance[:, :, p].astype(np.float64))
        for n in range(len(flat)):
            found[n, p] = mahalanobis(flat[n, :, p], mean[:, p], inverse)
    return torch.from_numpy(found).reshape(len(flat), *embeddings.shape[2:])


def enlarged(distances: torch.Tensor) -> torch.Tensor:
    return interpolate(distances[:, None], (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]


def blurred_by_torch(maps: torch.Tensor, sigma: float = 4.0) -> torch.Tensor:
    """A kernel of 33 × 33 pixels slid over maps whose edges are reflected."""
    steps = torch.arange(-16, 17, dtype=maps.dtype)
    row = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = torch.outer(row, row) / row.sum() ** 2
    return conv2d(pad(maps[:, None], (16, 16, 16, 16), mode="reflect"), kernel[None, None])[:, 0]


def drawn() -> torch.Tensor:
    random.seed(1024)
    return torch.tensor(random.sample(range(448), D))


@pytest.fixture(scope="module")
def weights(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return str(path)


def check(model: Path, images: np.ndarray, expected: torch.Tensor) -> None:
    prediction = padim_zoo.load(model).predict(images)
    np.testing.assert_allclose(prediction.maps, expected.numpy(), rtol=1e-4)
    np.testing.assert_allclose(prediction.scores, expected.amax((1, 2)).numpy(), rtol=1e-4)


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, ["import", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_pickle_of_the_first_implementation(network, images, weights, tmp_path):
    channels = drawn()
    mean, covariance = statistics(embed(network, images[:6], channels))
    source, model = tmp_path / "train.pkl", tmp_path / "model.safetensors"
    source.write_bytes(pickle.dumps([mean, covariance]))
    options = ("--backbone", "resnet18", "--weights", weights, "--resize", "64", "--crop", "64")
    refused = CliRunner().invoke(main, ["import", str(source), "-o", str(model), *options])
    assert refused.exit_code == 2
    assert "--trust-pickle" in refused.output
    assert not model.exists()
    run(source, "-o", model, "--trust-pickle", *options)
    maps = enlarged(distances(embed(network, images[6:], channels), mean, covariance)).numpy()
    check(model, images[6:], torch.from_numpy(np.stack([gaussian_filter(one, sigma=4) for one in maps])))


@pytest.mark.parametrize("patches_last", [False, True])
def test_the_statistics_of_anodet(network, images, weights, tmp_path, patches_last):
    channels = torch.randperm(448)[:D]
    mean, covariance = statistics(embed(network, images[:6], channels))
    inverse = np.linalg.inv(covariance.transpose(2, 0, 1)).astype(np.float32)
    means, inverses = torch.from_numpy(mean), torch.from_numpy(inverse)
    torch.save(means if patches_last else means.T.contiguous(), tmp_path / "mean.pt")
    torch.save(inverses.permute(1, 2, 0) if patches_last else inverses, tmp_path / "cov_inv.pt")
    np.save(tmp_path / "channels.npy", channels.numpy())
    model = tmp_path / "model.safetensors"
    size = ("--resize", "64", "--crop", "64")
    files = (tmp_path / "mean.pt", tmp_path / "cov_inv.pt")
    run(
        *files,
        "-o",
        model,
        "--backbone",
        "resnet18",
        "--weights",
        weights,
        "--channels",
        tmp_path / "channels.npy",
        *size,
    )
    expected = blurred_by_torch(enlarged(distances(embed(network, images[6:], channels), mean, covariance)))
    check(model, images[6:], expected)


def of_anomalib(network: nn.Module, mean: np.ndarray, covariance: np.ndarray, channels: torch.Tensor) -> dict:
    """Tensors as anomalib's Padim names them."""
    row = torch.exp(-0.5 * (torch.arange(-16.0, 17.0) / 4) ** 2)
    inverse = np.linalg.inv(covariance.transpose(2, 0, 1)).astype(np.float32)
    used = {key: value for key, value in network.state_dict().items() if not key.startswith(("layer4", "fc"))}
    return {
        **{f"model.feature_extractor.feature_extractor.{key}": value for key, value in used.items()},
        "model.idx": channels,
        "model.anomaly_map_generator.blur.kernel": (torch.outer(row, row) / row.sum() ** 2)[None, None],
        "model.gaussian.mean": torch.from_numpy(mean),
        "model.gaussian.inv_covariance": torch.from_numpy(inverse),
        "post_processor._image_threshold": torch.tensor(12.5),
    }


def step(name: str, **options: object) -> dict:
    return {"class_path": f"torchvision.transforms.v2.{name}", "init_args": options}


NORMALIZE = step("Normalize", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


@pytest.fixture
def checkpoint(network, images, tmp_path):
    """A checkpoint, its content, and the maps that it stands for."""
    channels = torch.randperm(448)[:D]
    mean, covariance = statistics(embed(network, images[:6], channels), epsilon=0.01001)
    content = {
        "state_dict": of_anomalib(network, mean, covariance, channels),
        "hyper_parameters": {"backbone": "resnet18", "layers": list(LAYERS), "pre_trained": True},
        "anomalib_pre_processor_config": {
            "transform": step("Compose", transforms=[step("Resize", size=[SIZE, SIZE]), NORMALIZE])
        },
    }
    torch.save(content, tmp_path / "model.ckpt")
    maps = blurred_by_torch(enlarged(distances(embed(network, images[6:], channels), mean, covariance)))
    return tmp_path / "model.ckpt", content, maps


def test_a_checkpoint_of_anomalib(checkpoint, images, tmp_path):
    path, _, expected = checkpoint
    output = run(path, "-o", tmp_path / "model.safetensors")
    assert "--threshold 12.5" in output
    check(tmp_path / "model.safetensors", images[6:], expected)


def test_an_export_of_anomalib_is_read_without_its_classes(checkpoint, images, tmp_path, monkeypatch):
    _, content, expected = checkpoint
    library = types.ModuleType("a_library_that_vanishes")
    monkeypatch.setitem(sys.modules, library.__name__, library)
    body = "class {}(nn.Module): pass"
    for kind in ("Padim", "PreProcessor", "Compose", "Resize", "Normalize", "Part"):
        exec(body.format(kind), {"nn": nn, "__name__": library.__name__}, vars(library))
    module = library.Padim()
    for name, tensor in content["state_dict"].items():
        *parents, last = name.split(".")
        target = module
        for parent in parents:
            if not hasattr(target, parent):
                target.add_module(parent, library.Part())
            target = getattr(target, parent)
        target.register_buffer(last, tensor)
    module.model.backbone, module.model.layers = "resnet18", list(LAYERS)
    resize, normalize, compose = library.Resize(), library.Normalize(), library.Compose()
    resize.size, resize.antialias = [SIZE, SIZE], True
    normalize.mean, normalize.std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    compose.transforms = [resize, normalize]
    module.pre_processor = library.PreProcessor()
    module.pre_processor.transform = compose
    torch.save({"model": module}, tmp_path / "export.pt")
    monkeypatch.delitem(sys.modules, library.__name__)
    run(tmp_path / "export.pt", "-o", tmp_path / "model.safetensors")
    check(tmp_path / "model.safetensors", images[6:], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["state_dict"].pop("model.idx"), "expected a PaDiM of anomalib"),
        (lambda c: c["state_dict"].update({"model.gaussian.mean": torch.empty(0)}), "not fitted"),
        (lambda c: c["hyper_parameters"].update(backbone=None), "does not name its backbone"),
        (lambda c: c["hyper_parameters"].update(backbone="resnet1"), "unknown backbone"),
        (lambda c: c["state_dict"]["model.gaussian.inv_covariance"][3].neg_(), "of 1 of 256 patches .* number 3"),
        (lambda c: c["state_dict"]["model.idx"].fill_(3), "channel indices"),
        (lambda c: c["state_dict"].update({"model.idx": c["state_dict"]["model.idx"].flip(0)}), "--channels FILE"),
        (
            lambda c: c["anomalib_pre_processor_config"].update(transform=step("RandomRotation", degrees=5)),
            "RandomRotation: expected Resize",
        ),
        (lambda c: c["anomalib_pre_processor_config"].update(transform=step("Resize", size=[32, 32])), "8x8 = 64"),
        (
            lambda c: c["anomalib_pre_processor_config"].update(
                transform=step("Normalize", mean=[0.5] * 3, std=[1] * 3)
            ),
            "expected ImageNet's",
        ),
    ],
)
def test_what_cannot_be_represented_is_refused(checkpoint, change, message):
    path, content, _ = checkpoint
    change(content)
    torch.save(content, path)
    with pytest.raises(InputError, match=message):
        read_model([path]).detector()


def test_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "junk.pt").write_bytes(b"junk")
    torch.save(torch.zeros(3), tmp_path / "mean.pt")
    torch.save(torch.zeros(3, 2, 2), tmp_path / "cov_inv.pt")
    (tmp_path / "train.pkl").write_bytes(pickle.dumps({"mean": 1}))
    whole = (tmp_path / "mean.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"junk.pt is text: expected a file of torch.save \(.ckpt or .pt\)$"):
        read_model([tmp_path / "junk.pt"])
    with pytest.raises(InputError, match=r"half.pt cannot be read as a file of torch.save .*cut off, damaged"):
        read_model([tmp_path / "half.pt"])
    with pytest.raises(InputError, match=r"mean.pt is a zip archive: expected a pickle"):
        read_pickle(tmp_path / "mean.pt")
    (tmp_path / "mean.json").write_bytes(whole)
    with pytest.raises(InputError, match=r"--channels .* is a zip archive: expected channel indices"):
        read_model([tmp_path / "mean.pt", tmp_path / "cov_inv.pt"], channels=tmp_path / "mean.json")
    with pytest.raises(InputError, match="does not exist"):
        read_model([tmp_path / "none.ckpt"])
    with pytest.raises(InputError, match="give the other file too"):
        read_model([tmp_path / "mean.pt"])
    with pytest.raises(InputError, match=r"expected \(P, D\)"):
        read_model([tmp_path / "mean.pt", tmp_path / "cov_inv.pt"])
    with pytest.raises(InputError, match=r"expected the list \[mean, covariance\]"):
        read_model([tmp_path / "train.pkl"], trust_pickle=True)


class Malicious:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('harm').touch()",)


def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.pkl").write_bytes(pickle.dumps([Malicious(), np.arange(3.0)]))
    found, array = read_pickle(Path("train.pkl"))
    assert isinstance(found, Stub)
    assert found.global_name.endswith(".eval")
    assert array.tolist() == [0, 1, 2]
    torch.save({"state_dict": {"model.idx": Malicious()}}, "model.ckpt")
    with pytest.raises(InputError, match="gaussian"):
        read_model(["model.ckpt"])
    assert not Path("harm").exists()


def test_torchscript_is_refused_unread(tmp_path, monkeypatch):
    """torch.load hands it on to torch.jit.load, which runs what is in it."""
    torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), tmp_path / "program.pt")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match="TorchScript"):
        read_model([tmp_path / "program.pt"])


def test_an_imported_model_goes_on_from_no_statistics(checkpoint, images):
    detector = read_model([checkpoint[0]]).detector()
    with pytest.raises(InputError, match="does not hold the statistics"):
        detector.partial_fit(images)
    with pytest.raises(InputError, match="does not hold the statistics"):
        detector.calibrate()


def test_a_checkpoint_without_its_parts_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"pytorch-lightning_version": "2", "state_dict": {"model.gaussian.mean": torch.zeros(2, 3)}}, path)
    result = CliRunner().invoke(main, ["import", str(path), "--output", str(tmp_path / "out.safetensors")])
    assert result.exit_code == 2, result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
