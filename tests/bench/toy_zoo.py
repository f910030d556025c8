"""A plugin for the tests of the benchmark: a detector on raw pixels that takes no time, and the images for it.

The detector notes every extraction and every fit in the file that TOY_LOG names.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from padim_zoo import registry
from padim_zoo.data.loading import batches
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.features.features import Features

SIZE = 12


def note(what):
    """Write a line to the log, if there is one; how many there are that begin with the same word, this one included."""
    if "TOY_LOG" not in os.environ:
        return 0
    log = Path(os.environ["TOY_LOG"])
    with log.open("ab") as file:
        file.write(f"{what}\n".encode())
        file.flush()
        end = file.tell()  # other processes may write meanwhile
    return sum(line.split()[0] == what.split()[0] for line in log.read_bytes()[:end].decode().splitlines())


def wait_at_gate(number):
    """Wait until the file TOY_GATE, if there is one, holds this number, or a larger one."""
    while "TOY_GATE" in os.environ and number > int(Path(os.environ["TOY_GATE"]).read_text() or 0):
        time.sleep(0.02)


class ToyBackbone:
    def __init__(self, name, gain, layers, weights):
        self.name = name
        self.gain = gain
        self.layers = tuple(layers or ("pixels",))
        self.channels = (3,)
        self.default_n_components = 3
        self.default_reduction = "random"
        self.weights_source = weights
        note(f"build {name}")
        self.weights_hash = f"{name}-{Path(weights).name}"


@registry.backbones.register("toy-linear")
def toy_linear(layers=None, weights="default"):
    return ToyBackbone("toy-linear", 1, layers, weights)


@registry.backbones.register("toy-square")
def toy_square(layers=None, weights="default"):
    return ToyBackbone("toy-square", 2, layers, weights)


@registry.detectors.register("toy")
class Toy(Detector):
    """Distance of a pixel to its mean over the normal images, in standard deviations unless the estimator is tied."""

    def __init__(self, backbone, estimator="full", *, seed=0, resize=None, crop=None, batch_size=32):
        self.backbone = backbone
        self.estimator = estimator
        self.seed = seed
        self.resize = resize
        self.crop = crop
        self.batch_size = batch_size

    @property
    def transform(self):
        return Transform(self.resize, self.crop)

    @property
    def features_key(self):
        return f"{self.backbone.name} {self.transform.to_dict()}"

    def extract(self, images):
        note(f"extract {self.backbone.name}")
        pixels = torch.cat(list(batches(images, self.transform, self.batch_size)))
        return Features(((pixels.double() / 255) ** self.backbone.gain,), tuple(pixels.shape[2:]))

    def fit_features(self, features):
        wait_at_gate(note(f"fit {self.backbone.name} {self.estimator} {self.seed} {len(features)}"))
        time.sleep(float(os.environ.get("TOY_DELAY", "0")))
        if self.estimator == "spherical":
            raise ArithmeticError("a toy cannot be\nspherical")
        if self.estimator == "oas":
            os._exit(9)
        if self.estimator.startswith("shrinkage"):
            os.kill(os.getpid(), signal.SIGKILL)
        (pixels,) = features.maps
        self.mean = pixels.mean(0)
        self.std = 1.0 if self.estimator == "tied" else pixels.std(0) + 0.01
        return self

    def predict_features(self, features):
        (pixels,) = features.maps
        maps = (((pixels - self.mean) / self.std) ** 2).sum(1).sqrt().float().numpy()
        return Prediction(maps.max(axis=(1, 2)), maps)

    def save(self, path):
        raise NotImplementedError

    def size_in_bytes(self):
        return 2_000_000


@registry.detectors.register("scores-only")
class ScoresOnly(Toy):
    """A detector of images, without maps."""

    def predict_features(self, features):
        return Prediction(super().predict_features(features).scores, None)


def make_images(root, categories=("alpha", "beta"), normal=9):
    """Noise in MVTec layout; a defect is a brighter square, not always much brighter."""
    for number, category in enumerate(categories):
        random = np.random.default_rng(number)
        for index in range(normal):
            write(root / category / "train" / "good" / f"{index:03d}.png", noise(random))
        for index in range(4):
            write(root / category / "test" / "good" / f"{index:03d}.png", noise(random))
        for index in range(5):
            image, mask = noise(random), np.zeros((SIZE, SIZE), dtype=np.uint8)
            row, column = random.integers(0, SIZE - 4, 2)
            mask[row : row + 4, column : column + 4] = 255
            image[mask > 0] += 20 * index
            write(root / category / "test" / "bright" / f"{index:03d}.png", image)
            write(root / category / "ground_truth" / "bright" / f"{index:03d}_mask.png", mask)
    return root


def noise(random):
    return random.integers(90, 150, (SIZE, SIZE, 3)).astype(np.uint8)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
