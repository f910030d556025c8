"""STFPM against its paper written down literally; training, checkpoints, collapse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from padim_zoo import STFPM, InputError
from padim_zoo.backbones.trainable import trainable_network
from padim_zoo.detectors import student
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.student import matching_loss

SMALL: dict[str, Any] = {
    "weights": "none",
    "resize": 64,
    "crop": (48, 64),
    "epochs": 6,
    "learning_rate": 0.1,
    "train_batch": 4,
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noisy stripes, (12, 72, 80, 3), uint8."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(80) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 10, (12, 72, 80, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted(images: np.ndarray) -> STFPM:
    detector = STFPM("resnet18", **SMALL).fit(images[:10])
    detector.model_  # noqa: B018  trains
    return detector


def test_the_map_is_that_of_the_paper(images, fitted):
    pixels = np.stack([fitted.transform.image(image) for image in images])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    expected = np.ones((len(images), 48, 64))
    for t, s in zip(fitted.build_backbone()(batch), fitted.model_.network(batch), strict=True):
        t, s = t.double().numpy(), s.double().numpy()
        layer = np.empty((len(images), *t.shape[2:]))
        for image, row, column in np.ndindex(*layer.shape):
            a, b = t[image, :, row, column], s[image, :, row, column]
            layer[image, row, column] = 0.5 * np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2)
        expected *= interpolate(torch.from_numpy(layer)[:, None], (48, 64), mode="bilinear")[:, 0].numpy()
    prediction = fitted.predict(images)
    np.testing.assert_allclose(prediction.maps, expected, rtol=2e-3, atol=1e-8)
    np.testing.assert_allclose(prediction.scores, expected.max((1, 2)), rtol=2e-3)


def test_the_loss_is_twice_that_of_the_paper():
    rng = np.random.default_rng(0)
    t, s = ([rng.normal(size=(2, c, 3, 4)) for c in (5, 7)] for _ in range(2))
    expected = 0.0
    for a, b in zip(t, s, strict=True):
        a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
        expected += 2 * np.mean(0.5 * np.sum((a - b) ** 2, 1))
    found = matching_loss([torch.from_numpy(layer) for layer in t], [torch.from_numpy(layer) for layer in s])
    assert float(found) == pytest.approx(expected)


def test_training_lowers_the_loss_and_finds_the_foreign_image(images, fitted):
    assert fitted.model_.losses[-1] < fitted.model_.losses[0]
    foreign = np.random.default_rng(1).integers(0, 256, (1, 72, 80, 3), dtype=np.uint8)
    assert fitted.predict(foreign).scores[0] > fitted.predict(images[10:]).scores.max()


def test_a_seed_gives_the_same_student(images, fitted):
    again = STFPM("resnet18", **SMALL).fit(images[:10]).predict(images).scores
    np.testing.assert_allclose(again, fitted.predict(images).scores, rtol=1e-3)
    other = STFPM("resnet18", seed=1, **SMALL).fit(images[:10]).predict(images).scores
    assert not np.allclose(other, again, rtol=1e-2)


def test_a_file_scores_like_the_detector(images, fitted, tmp_path):
    fitted.calibrate(false_alarm_rate=0.5)
    fitted.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.threshold_ == fitted.threshold_
    np.testing.assert_allclose(loaded.predict(images).maps, fitted.predict(images).maps, rtol=1e-3, atol=1e-8)
    with pytest.raises(InputError, match="holds a student and not the normal images"):
        loaded.partial_fit(images)


def test_whole_groups_are_held_out(images):
    options = {**SMALL, "epochs": 2, "held_out": 0.4}
    copied = np.concatenate([images[:5], images[:5]])
    copies = STFPM("resnet18", **options).fit(copied)
    held_out = copies.model_.held_out.tolist()
    assert sorted(index % 5 for index in held_out[:2]) == sorted(index % 5 for index in held_out[2:])
    assert copies.calibrate().n_groups == 2
    groups = np.array([0, 1, 2, 3, 4, 4, 3, 2, 1, 0])
    grouped = STFPM("resnet18", **options).fit(images[:10])
    assert grouped.calibrate(groups=groups).n_groups == 2
    held_out = grouped.model_.held_out.numpy()
    assert len(held_out) == 4
    assert not np.isin(groups[held_out], np.delete(groups, held_out)).any()
    with pytest.raises(InputError, match="2 or more different normal images, one to hold out; found 1 among 3"):
        STFPM("resnet18", **options).fit(np.stack([images[0]] * 3)).model_  # noqa: B018


def test_a_training_that_was_cut_off_goes_on(images, fitted, tmp_path):
    path = str(tmp_path / "checkpoint.safetensors")
    options = {**SMALL, "epochs": 4, "checkpoint": path}
    first = STFPM("resnet18", **options).fit(images[:10])
    first.model_  # noqa: B018  trains
    told: list[int] = []
    rest = STFPM("resnet18", **{**options, "epochs": 6}).fit(images[:10])
    rest.progress = lambda epoch, of, loss: told.append(epoch)
    np.testing.assert_allclose(rest.model_.losses, fitted.model_.losses, rtol=1e-3)
    assert told == [5, 6]
    np.testing.assert_allclose(rest.predict(images).scores, fitted.predict(images).scores, rtol=1e-2)
    with pytest.raises(InputError, match="checkpoint of another training"):
        STFPM("resnet18", **options).fit(images[:8]).model_  # noqa: B018
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="is not a checkpoint"):
        STFPM("resnet18", **options).fit(images[:10]).model_  # noqa: B018


def test_training_ends_when_held_out_images_gain_no_more(images, monkeypatch):
    losses = iter([5.0, 3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    monkeypatch.setattr(student, "_held_out_loss", lambda *_: next(losses))
    detector = STFPM("resnet18", **{**SMALL, "epochs": 20, "patience": 2}).fit(images[:4])
    assert detector.model_.losses == [3.0, 2.0, 2.5, 2.4]


@pytest.mark.parametrize("rate", [1e-12, 1e9])
def test_a_collapsed_student_is_no_row_of_figures(images, rate):
    with pytest.raises(InputError, match="the student has collapsed: its loss on 2 held-out images"):
        STFPM("resnet18", **{**SMALL, "epochs": 1, "learning_rate": rate}).fit(images[:10]).model_  # noqa: B018


@pytest.mark.parametrize("backbone", ["builtin", "timm/resnet18"])
def test_students_of_other_sources(images, backbone):
    options = {**SMALL, "epochs": 8, "weights": "default" if backbone == "builtin" else "none", "learning_rate": None}
    detector = STFPM(backbone, **options)
    network = trainable_network(detector.build_backbone(), 0)
    maps = network(torch.zeros(1, 3, 64, 64))
    assert [layer.shape[1] for layer in maps] == list(detector.build_backbone().channels)
    detector.fit(images[:10])
    assert np.isfinite(detector.predict(images).scores).all()


def test_refusals(images):
    with pytest.raises(InputError, match="2 or more different normal images"):
        STFPM("resnet18", **SMALL).fit(images[:1]).model_  # noqa: B018
    with pytest.raises(InputError, match="no student can be built for the backbone scattering"):
        STFPM("scattering", resize=64, crop=None).fit(images[:4]).model_  # noqa: B018
    with pytest.raises(InputError, match="learning_rate is -1"):
        STFPM(learning_rate=-1).fit(images)
