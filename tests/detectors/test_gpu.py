"""On a GPU the model, the embeddings and the maps stay there: of a prediction, its scores and maps alone leave it.

All of it runs on a simulated GPU (:mod:`tests.simulated_gpu`), and again on a real one where there is one.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import padim_zoo
from padim_zoo import PaDiM, PatchCore, Subspace
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.moving import HOST, moved
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.estimators.linear_shrinkage import Full
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.gaussian import DiagonalGaussian
from padim_zoo.statistics.samples import Samples
from tests.simulated_gpu import Traffic, simulated_gpu

SIDE, FEW, MANY, TESTED = 64, 12, 70, 5
TOLERANCE = 1e-4
"""Of the largest value of an array: libraries round differently on another device."""

GPU = Callable[[], AbstractContextManager[Traffic | None]]


@pytest.fixture(params=["simulated", "real"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GPU:
    """Within what it gives, the device ``cuda`` works; of a simulated one, the traffic is counted."""
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        return lambda: nullcontext(None)
    return lambda: simulated_gpu(monkeypatch)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    """A simulated GPU."""
    with simulated_gpu(monkeypatch) as counted:
        yield counted


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    """Gray waves with some noise."""
    rng = np.random.default_rng(seed)
    wave = 100 + 60 * np.sin(np.arange(SIDE) / 5)[:, None, None]
    return [np.clip(wave + rng.normal(0, 25, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8) for _ in range(count)]


def queries() -> list[np.ndarray]:
    """Images unlike those of a fit."""
    made = images(TESTED, seed=1)
    for number, image in enumerate(made):
        image[8 * number : 8 * number + 20, 20:40] = 250 - 40 * number
    return made


def made(kind: type[BackboneDetector[Any]], **parameters: Any) -> BackboneDetector[Any]:
    common = {"resize": SIDE, "crop": None, "precision": "float32", "runtime": "torch", "batch_size": 16}
    return kind(**{**common, **parameters})


CASES: dict[str, tuple[type[BackboneDetector[Any]], int, dict[str, Any]]] = {
    "dual": (PaDiM, FEW, {"estimator": "ledoit-wolf"}),
    "samples": (PaDiM, MANY, {"n_components": 80}),
    "nested": (PaDiM, MANY, {"n_components": 30}),
    "primal": (PaDiM, MANY, {"n_components": 30, "estimator": "ledoit-wolf"}),
    "diagonal": (PaDiM, FEW, {"estimator": "diagonal"}),
    "spherical": (PaDiM, FEW, {"estimator": "spherical"}),
    "one covariance": (PaDiM, FEW, {"estimator": "tied"}),
    "tied": (PaDiM, FEW, {"estimator": "tied(cells=8)"}),
    "pooled": (PaDiM, FEW, {"estimator": "pooled"}),
    "orthogonal": (PaDiM, FEW, {"reduction": "orthogonal", "estimator": "ledoit-wolf"}),
    "tiles": (PaDiM, FEW, {"tiles": "32+0", "estimator": "ledoit-wolf"}),
    "tta": (PaDiM, FEW, {"tta": "flip", "estimator": "diagonal"}),
    "augment": (PaDiM, FEW, {"augment": "flip", "estimator": "diagonal"}),
    "subspace": (Subspace, FEW, {}),
    "patchcore": (PatchCore, FEW, {}),
    "patchcore, all patches": (PatchCore, FEW, {"coreset_ratio": 1.0, "n_neighbors": 1}),
}
FORMS = ["dual", "samples", "nested", "primal", "diagonal", "tied"]
READS = {"dual": ["aten::nonzero"], "orthogonal": ["aten::nonzero"], "tiles": ["aten::nonzero"]}
"""What the dual form waits for: at which patches float32 does not do."""


def assert_same(found: Prediction, expected: Prediction) -> None:
    assert found.maps is not None
    assert expected.maps is not None
    np.testing.assert_allclose(found.scores, expected.scores, rtol=TOLERANCE)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=0, atol=TOLERANCE * expected.maps.max())


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_processor(name: str, gpu: GPU, tmp_path: Path) -> None:
    kind, n, parameters = CASES[name]
    on_host = made(kind, device="cpu", **parameters).fit(images(n))
    expected = on_host.predict(queries())
    on_host.save(tmp_path / "host.safetensors", dtype="float32")
    with gpu():
        on_gpu = made(kind, device="cuda", **parameters).fit(images(n))
        if name in FORMS:
            assert on_gpu.model_.form == name
        assert_same(on_gpu.predict(queries()), expected)
        assert_same(on_gpu.predict_features(on_gpu.extract(queries())), expected)
        on_gpu.save(tmp_path / "gpu.safetensors", dtype="float32")
        loaded = padim_zoo.load(tmp_path / "host.safetensors", device="cuda")
        assert_same(loaded.predict(queries()), expected)
        assert_same(loaded.predict(queries()[:1]), expected.images(np.array([0])))
    assert_same(padim_zoo.load(tmp_path / "gpu.safetensors", device="cpu").predict(queries()), expected)


@pytest.mark.parametrize("name", CASES)
def test_only_scores_and_maps_leave_the_gpu(name: str, traffic: Traffic) -> None:
    kind, n, parameters = CASES[name]
    detector = made(kind, device="cuda", **parameters).fit(images(n))
    detector.predict(queries())  # copies the model
    for batch in (queries(), queries()[:1]):
        traffic.clear()
        detector.predict(batch)
        views = len(batch) * detector.extractor.views.of_score.count
        assert [shape for _, shape, _ in traffic.to_host] == [(views,), (views, SIDE, SIDE)]
        assert traffic.reads == READS.get(name, [])
        pixels, *numbers = traffic.to_device
        assert pixels[2] == views * 3 * SIDE * SIDE
        # Which channels, or what projects them.
        assert sum(n_bytes for *_, n_bytes in numbers) <= 4 * detector.build_backbone().channels[-1] * 300


@pytest.mark.parametrize("name", FORMS)
def test_of_a_fit_only_embeddings_and_the_model_leave_the_gpu(name: str, traffic: Traffic) -> None:
    kind, n, parameters = CASES[name]
    detector = made(kind, device="cuda", **parameters)
    detector.build_backbone()
    traffic.clear()
    detector.fit(images(n))
    embeddings = detector.statistics_
    assert isinstance(embeddings, Samples)
    assert sum(n_bytes for *_, n_bytes in traffic.to_host) == embeddings.embeddings.size_in_bytes()
    assert traffic.reads == []
    traffic.clear()
    model = detector.model_
    assert embeddings.embeddings.device == model.mean.device == HOST
    # Conditions and failures of factorizations, once for each grid at most, for all patches at once.
    assert len(traffic.reads) <= 9
    traffic.clear()
    detector.predict(queries())
    assert sum(n_bytes for *_, n_bytes in traffic.to_device) < 4 * TESTED * 3 * SIDE * SIDE  # the model is there


def test_factors_are_copied_once_for_each_model(traffic: Traffic) -> None:
    detector = made(PaDiM, device="cuda", estimator="diagonal").fit(images(FEW))
    detector.predict(queries())
    in_use = detector.extractor.in_use
    copied: Any = in_use.on_device(detector.model_)
    assert copied.mean.device.type == "cuda"
    again: Any = in_use.on_device(detector.model_)
    assert again is copied
    assert vars(copy.copy(in_use))["_model"] is None  # and so of what is pickled
    detector.partial_fit(images(FEW, seed=2))
    gc.collect()
    assert in_use._model is None, "the copy outlives the model"
    another: Any = in_use.on_device(detector.model_)
    assert another is not copied


def test_a_model_that_does_not_fit_the_gpu_scores_in_main_memory(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = made(PaDiM, device="cpu", estimator="ledoit-wolf").fit(images(FEW)).predict(queries())

    def refuse(value: Any, device: torch.device) -> Any:
        raise torch.cuda.OutOfMemoryError

    for module in ("backbone_in_use", "backbone_detector"):
        monkeypatch.setattr(f"padim_zoo.detectors.{module}.moved", refuse)
    detector = made(PaDiM, device="cuda", estimator="ledoit-wolf").fit(images(FEW))
    assert_same(detector.predict(queries()), expected)
    traffic.clear()
    assert_same(detector.predict(queries()), expected)
    assert traffic.to_host[0][1][1] == detector.build_backbone().channels[0]


def test_a_model_that_needs_more_than_the_gpu_has_is_scored_in_main_memory(
    traffic: Traffic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    fitted = made(PaDiM, device="cpu", estimator="ledoit-wolf").fit(images(FEW))
    fitted.save(path, dtype="float32")
    expected = fitted.predict(queries())
    squared_distances, refused = DualGaussian.squared_distances, []

    def refuse(self: Any, embeddings: Any) -> torch.Tensor:
        if embeddings.device != HOST:
            refused.append(embeddings)
            raise torch.cuda.OutOfMemoryError
        return squared_distances(self, embeddings)

    monkeypatch.setattr(DualGaussian, "squared_distances", refuse)
    detector = padim_zoo.load(path, device="cuda")
    assert_same(detector.predict(queries()), expected)
    assert len(refused) == 1
    assert_same(detector.predict(queries()), expected)
    assert len(refused) == 1, "tried again"


class NumPyDiagonal(Full):
    """An estimator of a plugin that knows no device but main memory, and inherits from one that knows others."""

    def fit(self, statistics: Any) -> Any:
        deviations = statistics.embeddings[slice(None)].numpy() - statistics.mean[slice(None)].numpy()
        weight = 1 / np.sqrt(deviations.var(1, ddof=1) + self.epsilon)
        return NumPyGaussian(statistics.mean, torch.from_numpy(weight))


class NumPyGaussian(DiagonalGaussian):
    """The Gaussian of such an estimator."""

    def squared_distances(self, embeddings: Any) -> torch.Tensor:
        deviations = (embeddings - self.mean)[slice(None)].numpy() * self.weight.numpy()[:, None]
        return torch.from_numpy((deviations**2).sum(2))


def test_a_plugin_that_knows_no_device_computes_in_main_memory(gpu: GPU) -> None:
    expected = made(PaDiM, device="cpu", estimator="diagonal").fit(images(FEW)).predict(queries())
    with gpu():
        detector = made(PaDiM, device="cuda", estimator=NumPyDiagonal()).fit(images(FEW))
        assert_same(detector.predict(queries()), expected)


@contextmanager
def masks(folder: Path, count: int) -> Iterator[Path]:
    """A folder of one mask for each image, each another part of it."""
    from PIL import Image

    for number in range(count):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[4 * number :, 8:56] = 255
        Image.fromarray(mask).save(folder / f"{number}.png")
    yield folder


@pytest.mark.parametrize("estimator", ["ledoit-wolf", "full", "tied(cells=8)"])
@pytest.mark.parametrize("kind", [PaDiM, PatchCore])
def test_regions_of_interest(kind: type[BackboneDetector[Any]], estimator: str, gpu: GPU) -> None:
    roi = np.zeros((SIDE, SIDE), dtype=bool)
    roi[16:60, 10:50] = True
    own = {"estimator": estimator} if kind is PaDiM else {}
    expected = made(kind, device="cpu", roi=roi, **own).fit(images(FEW)).predict(queries())
    whole = made(kind, device="cpu", **own).fit(images(FEW))
    with gpu():
        detector = made(kind, device="cuda", roi=roi, **own).fit(images(FEW))
        assert_same(detector.predict(queries()), expected)
        on_gpu = made(kind, device="cuda", **own).fit(images(FEW))
        found = on_gpu.predict(queries(), roi=roi)
    assert_same(found, whole.predict(queries(), roi=roi))


@pytest.mark.parametrize("kind", [PatchCore, Subspace])
def test_images_of_several_sizes(kind: type[BackboneDetector[Any]], gpu: GPU) -> None:
    normal, others = images(FEW), queries()
    normal, others = [*normal, *(one[:48] for one in normal)], [*others, *(one[:, :48] for one in others)]
    expected = made(kind, device="cpu", resize=None).fit(normal).predict(others)
    with gpu():
        found = made(kind, device="cuda", resize=None).fit(normal).predict(others)
    assert_same(found, expected)


def test_registered_parts(gpu: GPU) -> None:
    def turned(count: int, seed: int) -> list[np.ndarray]:
        rng, parts = np.random.default_rng(seed), []
        for _ in range(count):
            image = np.full((SIDE, SIDE, 3), 30.0)
            y, x = rng.integers(14, 22, 2)
            image[y : y + 28, x : x + 24] = 190
            image[y + 5 : y + 12, x + 4 : x + 20] = 90
            parts.append(np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8))
        return parts

    own = {"register": "translation", "estimator": "ledoit-wolf"}
    on_host = made(PaDiM, device="cpu", **own).fit(turned(FEW, 0))
    assert on_host.registration_ is not None  # type: ignore[attr-defined]
    expected = on_host.predict(turned(TESTED, 1))
    with gpu():
        found = made(PaDiM, device="cuda", **own).fit(turned(FEW, 0)).predict(turned(TESTED, 1))
    assert_same(found, expected)


def test_features_that_a_cache_keeps_go_to_the_gpu(gpu: GPU, tmp_path: Path) -> None:
    from PIL import Image

    for number, image in enumerate([*images(FEW), *queries()]):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    paths = sorted(tmp_path.iterdir())
    expected = made(PaDiM, device="cpu", estimator="diagonal").fit(paths[:FEW]).predict(paths[FEW:])
    with gpu():
        detector = made(PaDiM, device="cuda", estimator="diagonal", cache=True).fit(paths[:FEW])
        for _ in range(2):  # computed, then read
            assert_same(detector.predict(paths[FEW:]), expected)


def test_a_device_without_float64_runs_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = made(PaDiM, device="cpu")
    assert detector.computing_device == HOST
    for kind, expected in {"mps": "cpu", "cuda": "cuda"}.items():
        monkeypatch.setattr(Backbone, "device", torch.device(kind))
        assert detector.computing_device.type == expected


def test_features_for_others_are_in_main_memory(gpu: GPU) -> None:
    with gpu():
        detector = made(PaDiM, device="cuda")
        assert all(layer.device == HOST for layer in detector.extract(images(3)).maps)
        assert all(layer.device == HOST for part in detector.extractor.features(images(3)) for layer in part.maps)


def test_moved_copies_what_is_shared_once(traffic: Traffic) -> None:
    detector = made(PaDiM, device="cpu", estimator="ledoit-wolf").fit(images(FEW))
    model = detector.model_
    assert moved(model, HOST) is model
    traffic.clear()
    on_gpu: Any = moved(model, torch.device("cuda", 0))
    assert on_gpu.whitener is on_gpu._stored
    assert len({shape for _, shape, _ in traffic.to_device}) <= len(traffic.to_device) <= 12
    back: Any = moved(replace(on_gpu.mean), HOST)
    for layer, expected in zip(back.layers, model.mean.layers, strict=True):
        torch.testing.assert_close(layer, expected, rtol=0, atol=0)
