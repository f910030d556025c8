"""A fit on a cluster, and one in shards, is one fit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import warnings
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from distributed import CancelledError
from PIL import Image

import padim_zoo
from padim_zoo.bench.cluster_chunks import ChunkRunner
from padim_zoo.bench.cluster_moments import MomentsFit
from padim_zoo.bench.executors.cluster import ClusterLostError, connect
from padim_zoo.detectors.fit_in_parts import Folds, PartMoments
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.storage import open_detector
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples
from tests.cluster.conftest import Cluster, start_cluster, wait_for_workers
from tests.command_line import run
from tests.image_files import write_noise

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
    assert "will move here: embeddings of 8 chunks" in told
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


MANY = ("--resize", "32x32", "--n-components", "2", "--estimator", "ledoit-wolf")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many images that moments of two channels are fewer bytes than their embeddings; two are equal."""
    folder = tmp_path_factory.mktemp("many")
    paths = write_noise(folder / f"{number:03d}.png" for number in range(300))
    paths[290].write_bytes(paths[2].read_bytes())
    return folder


@pytest.fixture(scope="module")
def by_moments(cluster: Cluster, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "moments.safetensors"
    told = run("fit", many, "--output", path, *MANY, "--resumable", "--cluster", f"file:{cluster.file}")
    assert "will move here: moments of 15 chunks of" in told
    return path


def test_moments_of_workers_make_the_local_model(by_moments: Path, many: Path, images: Path, tmp_path: Path) -> None:
    run("fit", many, "--output", tmp_path / "local.safetensors", *MANY)
    model, local = padim_zoo.load(by_moments), padim_zoo.load(tmp_path / "local.safetensors")
    assert isinstance(model.require_statistics("compare"), Moments)
    assert_same(model, local, images)
    ours, theirs = model.calibration_, local.calibration_
    assert (ours.n_groups, ours.folds) == (theirs.n_groups, theirs.folds) == (299, 5)
    assert (ours.map_low, ours.map_high) == pytest.approx((theirs.map_low, theirs.map_high), rel=1e-5)
    assert model.learned_images_.groups.numbers.tolist() == local.learned_images_.groups.numbers.tolist()
    assert "processors" in run("show", by_moments)


def test_moments_of_other_folds_take_the_place_of_the_first(
    cluster: Cluster, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images that differ only where the crop cuts off."""
    shutil.copytree(many, tmp_path / "images")
    with Image.open(many / "007.png") as inner, Image.open(many / "201.png") as outer:
        outer.paste(inner.crop((4, 4, 36, 36)), (4, 4))
        outer.save(tmp_path / "images" / "201.png")
    first_pass, made = MomentsFit._first_pass, []

    def watched(self: MomentsFit, folds: Folds) -> list[PartMoments]:
        assert not [one for one in made if one() is not None]
        parts = first_pass(self, folds)
        made.extend(weakref.ref(part.moments.second) for part in parts)
        return parts

    monkeypatch.setattr(MomentsFit, "_first_pass", watched)
    words = ("--resize", "40x40", "--crop", "32", "--n-components", "2")
    told = run("fit", tmp_path / "images", "-o", tmp_path / "m", *words, "--cluster", f"file:{cluster.file}")
    assert len(made) == 10
    assert "all go again, and as much moves" in told


@pytest.mark.parametrize(
    ("reason", "what"),
    [("scheduler-connection-lost", "is gone"), ("scheduler-restart", r"dropped a chunk \(scheduler-restart\)")],
)
def test_a_chunk_that_is_dropped_is_no_lost_scheduler(reason: str, what: str, cluster: Cluster, tmp_path: Path) -> None:
    error: Any = CancelledError()
    error.reason = reason
    future = Mock(status="cancelled", result=Mock(side_effect=error))
    with connect(f"file:{cluster.file}", insecure=False, jobs=1, note=str) as connection:
        runner = ChunkRunner(connection, {}, tmp_path)
        with pytest.raises(ClusterLostError, match=f"{what}: run the command again"):
            runner._received(future)


def test_large_bytes_are_given_without_a_warning(cluster: Cluster, tmp_path: Path) -> None:
    content = os.urandom(11_000_000)
    with warnings.catch_warnings(), connect(f"file:{cluster.file}", insecure=False, jobs=1, note=str) as connection:
        warnings.simplefilter("error")
        with ChunkRunner(connection, {}, tmp_path).given(content) as given:
            assert given.result() == content


def test_a_model_does_not_depend_on_the_lives_of_workers(by_moments: Path, many: Path, tmp_path: Path) -> None:
    """One worker that is killed, and another that does the rest: all arrays are the same to the last bit."""
    own = start_cluster(tmp_path)
    victim = own.add_worker()
    path = tmp_path / "model.safetensors"
    words = ["fit", many, "--output", path, *MANY, "--resumable", "--cluster", f"file:{own.file}"]
    command = [sys.executable, "-c", "from padim_zoo.cli.main import main; main()", *map(str, words)]
    try:
        with subprocess.Popen(command, env={**os.environ, **own.environment}, stderr=subprocess.PIPE, text=True) as fit:
            assert fit.stderr is not None
            while "will move here" not in fit.stderr.readline():
                assert fit.poll() is None
            cache = tmp_path / "cache"
            deadline = time.monotonic() + 300
            while not list(cache.rglob("*.safetensors")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            victim.kill()
            own.add_worker()
            assert fit.wait(600) == 0, fit.stderr.read()
    finally:
        own.end()
    one, other = (open_detector(model) for model in (by_moments, path))
    assert one.header == other.header


def test_moments_beyond_the_memory_of_a_worker_are_refused(many: Path, tmp_path: Path) -> None:
    own = start_cluster(tmp_path)
    own.add_worker("--memory-limit", "50kB")
    try:
        words = ("fit", many, "--output", tmp_path / "model", *MANY, "--cluster", f"file:{own.file}")
        wait_for_workers(own, 1)
        told = run(*words, code=2)
    finally:
        own.end()
    assert "and a worker has 50 KB: give workers more memory, or use fewer components" in told.splitlines()[-1]


def test_merged_shards_are_the_local_model(local: PaDiM, images: Path, tmp_path: Path) -> None:
    shards = [tmp_path / f"shard-{number}.safetensors" for number in (1, 2, 3)]
    for number, path in enumerate(shards, 1):
        told = run("fit", images / "gear" / "train" / "good", "--output", path, *SMALL, "--shard", f"{number}/3")
        assert "merge of all shards makes it" in told
    run("merge", *shards, "--output", tmp_path / "merged.safetensors")
    assert_same(padim_zoo.load(tmp_path / "merged.safetensors"), local, images)


def test_shards_of_more_images_than_dimensions_have_the_threshold_of_a_cluster(
    cluster: Cluster, many: Path, images: Path, tmp_path: Path
) -> None:
    """Where samples are fewer bytes than moments, a shard keeps these; else merge says how many shards to cut."""
    paths = [many / f"{number:03d}.png" for number in range(150)]
    words = ("--resize", "32x32", "--n-components", "4")
    run("fit", *paths, "--output", tmp_path / "cluster", *words, "--cluster", f"file:{cluster.file}")

    def merged(count: int, *options: str, code: int = 0) -> str:
        shards = [tmp_path / f"shard-{number:02d}-of-{count}" for number in range(1, count + 1)]
        for number, path in enumerate(shards, 1):
            run("fit", *paths, "--output", path, *words, "--shard", f"{number}/{count}")
        return run("merge", *shards, "--output", tmp_path / f"merged-{count}", *options, code=code)

    merged(6)
    ours, theirs = (padim_zoo.load(tmp_path / name) for name in ("merged-6", "cluster"))
    assert ours.gaussian_.form != "dual"
    assert_same(ours, theirs, images)
    [most] = re.findall(r"holds samples of up to (\d+) of these images, so cut the 150 into \d+ shards", merged(2))
    assert 25 <= int(most) < 75
    told = merged(2, "--fpr", "0.1", code=2)
    assert "there is no threshold for --fpr 0.1: some models hold moments" in told
    assert padim_zoo.load(tmp_path / "merged-2").predict(paths[:2]).scores == pytest.approx(
        theirs.predict(paths[:2]).scores, rel=1e-5
    )


def of_several_sizes(folder: Path) -> list[Path]:
    """Square, and the last two wide, so that the first chunks know nothing of them."""
    paths = write_noise(folder / f"{number:02d}.png" for number in range(18))
    for path in paths[16:]:
        with Image.open(path) as image:
            image.resize((60, 40)).save(path)
    return paths


@pytest.mark.parametrize("words", [("--resize", "48", "--crop", "none"), ("--resize", "48", "--crop", "32")])
def test_images_of_several_sizes_make_the_local_model(words: tuple[str, ...], cluster: Cluster, tmp_path: Path) -> None:
    paths = of_several_sizes(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other aspects
        for name, where in (("local", ()), ("cluster", ("--cluster", f"file:{cluster.file}"))):
            run("fit", *paths, "--output", tmp_path / name, "--estimator", "ledoit-wolf", *words, *where)
    ours, theirs = (padim_zoo.load(tmp_path / name) for name in ("cluster", "local"))
    np.testing.assert_allclose(ours.predict(paths).scores, theirs.predict(paths).scores, rtol=1e-5)
    assert ours.threshold_ == pytest.approx(theirs.threshold_, rel=1e-5)
    assert ours.image_size_ == theirs.image_size_


def test_images_that_stay_of_several_sizes_are_one_line(cluster: Cluster, tmp_path: Path) -> None:
    words = ("fit", *of_several_sizes(tmp_path), "--output", tmp_path / "m", "--resize", "none", "--crop", "none")
    *notes, line = run(*words, "--cluster", f"file:{cluster.file}", code=2).splitlines()
    assert not [note for note in notes if "will move here" not in note]
    assert line.startswith("Error: images are of 2 sizes, e.g. 40x40 (")
    assert "give a crop or an exact resize (--crop N, --resize HxW)" in line


def test_what_cannot_be_spread_is_refused(images: Path, tmp_path: Path) -> None:
    folder, output = images / "gear" / "train" / "good", tmp_path / "model.safetensors"
    told = run("fit", folder, "--output", output, "--detector", "spade", "--cluster", "local", code=2)
    assert "--cluster fits padim, and not spade" in told
    told = run("fit", folder, "--output", output, "--tta", "flip", "--cluster", "local", code=2)
    assert "--cluster fits padim without tta" in told
    assert "--shard is for detectors whose models merge" in run(
        "fit", folder, "-o", output, "--detector", "spade", "--shard", "1/2", code=2
    )
    assert "cannot make 99 shards" in run("fit", folder, "-o", output, "--shard", "1/99", code=2)
