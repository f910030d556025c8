"""Imported models give the scores of the program that fitted them, by its formulas written out."""

from __future__ import annotations

import pickle
import random
import sys
import tarfile
import types
import zipfile
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


def pickled(*opcodes: bytes) -> bytes:
    """A pickle of raw opcodes."""
    return b"\x80\x02" + b"".join(opcodes) + b"."


def short(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


FUNCTION = b"ctorch._utils\n_rebuild_tensor\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            pickled(b"cnumpy\ndtype\n", short("O8"), b"\x85R(K\x03", short("|"), b"NNNJ\xff\xff\xff\xffK\x00K?tb"),
            id="a type of objects",
        ),
        pytest.param(pickled(FUNCTION, b"N}", short("__defaults__"), b"K\x01\x85s\x86b"), id="defaults of a function"),
        pytest.param(pickled(FUNCTION, b"}", short("patch"), b"K\x01sb"), id="an attribute of a function"),
        pytest.param(pickled(b"cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R"), id="two gigabytes of zeros"),
        pytest.param(pickled(b"]" + b"(K\x01" + 40 * b"q\x00h\x00h\x00\x86" + b"t"), id="twice itself, forty times"),
        pytest.param(pickled(b"]q\x00h\x00a"), id="a list of itself"),
    ],
)
def test_pickles_build_nothing_else(content: bytes, tmp_path: Path) -> None:
    before = dict(vars(torch._utils._rebuild_tensor)), torch._utils._rebuild_tensor.__defaults__
    (tmp_path / "train.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as a pickle"):
        read_pickle(tmp_path / "train.pkl")
    assert (dict(vars(torch._utils._rebuild_tensor)), torch._utils._rebuild_tensor.__defaults__) == before


def test_a_memo_takes_no_more_than_it_holds(tmp_path: Path) -> None:
    (tmp_path / "train.pkl").write_bytes(pickled(b"]r\xff\xff\xff\x7f"))
    assert read_pickle(tmp_path / "train.pkl") == []


@pytest.mark.parametrize("legacy", [True, False])
def test_formats_of_old_are_refused_unread(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    if legacy:
        torch.save({"state_dict": {}}, path, _use_new_zipfile_serialization=False)
    else:  # a tar with a pipe for a member, on which a reader waits for ever
        with tarfile.open(path, "w") as archive:
            pipe = tarfile.TarInfo("storages")
            pipe.type = tarfile.FIFOTYPE
            archive.addfile(pipe)
    with pytest.raises(InputError, match=r"before 1\.6|expected a file of torch\.save"):
        read_model([path])


def test_a_bomb_is_refused(checkpoint, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(checkpoint[0]) as good, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name))
    with pytest.raises(InputError, match="its records are compressed"):
        read_model([bomb])


@pytest.mark.parametrize(("offset", "size", "stride"), [(0, (10**9,), (0,)), (5, (3,), (2,)), (-1, (2,), (1,))])
def test_tensors_lie_within_their_numbers(offset, size, stride, tmp_path: Path) -> None:
    class Forged:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (torch.zeros(6)._typed_storage(), offset, size, stride, False, {})

    torch.save({"state_dict": {"model.idx": Forged()}}, tmp_path / "model.ckpt")
    with pytest.raises(InputError, match=r"a tensor larger than its numbers|impossible shape"):
        read_model([tmp_path / "model.ckpt"])


def test_arrays_of_all_protocols_are_read(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    for protocol in range(2, 6):
        (tmp_path / "train.pkl").write_bytes(pickle.dumps([array, np.float32(3)], protocol))
        found, scalar = read_pickle(tmp_path / "train.pkl")
        np.testing.assert_array_equal(found, array)
        assert scalar == 3
