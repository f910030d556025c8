"""A fit on a cluster, and one in shards, is one fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import padim_zoo
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.statistics.samples import Samples
from tests.cluster.conftest import Cluster
from tests.command_line import run
from tests.noise_images import write_noise

SMALL = ("--resize", "48", "--estimator", "ledoit-wolf")


@pytest.fixture(scope="module")
def local(images: Path, tmp_path_factory: pytest.TempPathFactory) -> PaDiM:
    path = tmp_path_factory.mktemp("models") / "local.safetensors"
    run("fit", images / "gear" / "train" / "good", "--output", path, *SMALL)
    return padim_zoo.load(path)


def assert_same(one: PaDiM, other: PaDiM, images: Path) -> None:
    """The same scores, threshold and images."""
    paths = sorted((images / "gear" / "test").rglob("*.png"))
    np.testing.assert_allclose(one.predict(paths).scores, other.predict(paths).scores, rtol=1e-5)
    assert one.calibration_ is not None
    assert other.calibration_ is not None
    np.testing.assert_allclose(one.calibration_.scores, other.calibration_.scores, rtol=1e-5)
    assert one.threshold_ == pytest.approx(other.threshold_, rel=1e-5)
    assert one.learned_images_.hashes.tolist() == other.learned_images_.hashes.tolist()
    assert (one.transform, one.n_images_) == (other.transform, other.n_images_)


def test_a_model_of_a_cluster_is_the_local_one(cluster: Cluster, local: PaDiM, images: Path, tmp_path: Path) -> None:
    path, folder = tmp_path / "model.safetensors", images / "gear" / "train" / "good"
    told = run("fit", folder, "--output", path, *SMALL, "--cluster", f"file:{cluster.file}")
    assert "will move here, in 8 chunks" in told
    model = padim_zoo.load(path)
    assert_same(model, local, images)
    ours, theirs = (one.require_statistics("compare") for one in (model, local))
    assert isinstance(ours, Samples)
    assert isinstance(theirs, Samples)
    for one, other in zip(ours.embeddings.layers, theirs.embeddings.layers, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_workers_keep_nothing_without_a_cache(cluster: Cluster, tmp_path: Path) -> None:
    paths = write_noise(tmp_path / f"{number}.png" for number in range(4))
    words = ("fit", *paths, "-o", tmp_path / "model.safetensors", *SMALL, "--cluster", f"file:{cluster.file}")
    before = set((cluster.folder / "cache").rglob("*"))
    run(*words, "--no-cache")
    assert set((cluster.folder / "cache").rglob("*")) == before
    run(*words)
    assert set((cluster.folder / "cache").rglob("*")) > before


def test_merged_shards_are_the_local_model(local: PaDiM, images: Path, tmp_path: Path) -> None:
    shards = [tmp_path / f"shard-{number}.safetensors" for number in (1, 2, 3)]
    for number, path in enumerate(shards, 1):
        told = run("fit", images / "gear" / "train" / "good", "--output", path, *SMALL, "--shard", f"{number}/3")
        assert "merge of all shards makes it" in told
    run("merge", *shards, "--output", tmp_path / "merged.safetensors")
    assert_same(padim_zoo.load(tmp_path / "merged.safetensors"), local, images)


def test_what_cannot_be_spread_is_refused(images: Path, tmp_path: Path) -> None:
    folder, output = images / "gear" / "train" / "good", tmp_path / "model.safetensors"
    told = run("fit", folder, "--output", output, "--detector", "spade", "--cluster", "local", code=2)
    assert "--cluster fits padim, without --roi, --augment, --tta and --register" in told
    assert "--shard is for detectors whose models merge" in run(
        "fit", folder, "-o", output, "--detector", "spade", "--shard", "1/2", code=2
    )
    assert "cannot make 99 shards" in run("fit", folder, "-o", output, "--shard", "1/99", code=2)
