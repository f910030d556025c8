"""``padim-zoo merge``: models of parts of the images are the model of all."""

from __future__ import annotations

import gc
import mmap
import weakref
from pathlib import Path

import numpy as np
import pytest

from padim_zoo.core import spill
from padim_zoo.core.fields import FieldError
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.statistics.moments import Moments
from tests.command_line import run
from tests.image_files import write_noise


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("images")
    return write_noise(root / f"{number:02}.png" for number in range(15))


def fit(model: Path, images: list[Path], *options: str) -> Path:
    run("fit", *images, "-o", model, "--resize", "none", "--crop", "none", "--precision", "float32", *options)
    return model


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--n-components", "30"], [5, 11]),
        (["--n-components", "4", "--resumable"], [6, 12]),
        (["--n-components", "6", "--resumable"], [4, 8]),
        (["--detector", "subspace", "--resumable"], [4, 8]),
    ],
    ids=["samples", "moments", "both", "subspace"],
)
def test_models_of_parts_make_the_model_of_all(images, tmp_path, options, parts, monkeypatch):
    monkeypatch.setattr(Moments, "bytes_needed", lambda P, D: 0)  # where samples are no more bytes, files hold these
    whole = load(fit(tmp_path / "whole.safetensors", images, *options))
    models = [
        fit(tmp_path / f"{number}.safetensors", list(part), *options)
        for number, part in enumerate(np.split(np.array(images), parts))
    ]
    told = run("merge", *models, "-o", tmp_path / "merged.safetensors")
    assert "on 15 normal images" in told
    merged = load(tmp_path / "merged.safetensors")
    np.testing.assert_allclose(merged.predict(images).scores, whole.predict(images).scores, rtol=1e-4)
    if "--resumable" in options:
        assert "threshold  none" in told
        assert merged.partial_fit([np.full((40, 40, 3), 120, dtype=np.uint8)]).n_images_ == 16
    else:
        assert merged.threshold_ == pytest.approx(whole.threshold_, rel=0.2)


def test_missing_shards_are_told(images: list[Path], tmp_path: Path) -> None:
    one, two, three = (fit(tmp_path / f"{number}", images, "--shard", f"{number}/3") for number in (1, 2, 3))
    assert "5 images: 5 in " in run("show", one)
    assert "; shard 1/3 of all" in run("show", one)
    both, whole = tmp_path / "both", tmp_path / "whole"
    assert "1 of 3 shards are missing, the first is 3/3" in run("merge", one, two, "-o", both)
    assert "are missing" not in run("merge", both, three, "-o", whole)
    assert load(whole).n_images_ == 15
    half = fit(tmp_path / "half", images, "--shard", "1/2")
    refused = run("merge", half, three, "-o", whole, code=2)
    assert "they are shards 1/2, 3/3: expected parts of one cut" in refused
    assert refused.count("\n") == 1  # nothing of images that both know


@pytest.mark.parametrize("shards", [3, [3], ["0/3"], ["4/3"], ["1/3", "1/2"], ["1/3", "1/3"], {"1/3": 0}])
def test_shards_in_a_file_are_parts_of_one_cut(shards: object) -> None:
    with pytest.raises(FieldError, match="expected parts of one cut"):
        LearnedImages.in_file(DetectorFile(Path("model"), {"n_images": 2, "shards": shards}))


def test_models_that_do_not_match_are_refused_in_one_line(images, tmp_path):
    one = fit(tmp_path / "one.safetensors", images[:6], "--n-components", "20")
    target = tmp_path / "merged.safetensors"
    assert "expected two or more models" in run("merge", one, "-o", target, code=2)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(one.read_bytes())
    for again in (one, copy):
        assert f"{again} is the same model as {one}" in run("merge", one, again, "-o", target, code=2)
    assert "nowhere is not a file" in run("merge", one, tmp_path / "nowhere", "-o", target, code=2)
    for name, options, reason in (
        ("seed", ["--n-components", "20", "--reduction", "random"], "the detectors differ in reduction"),
        ("sizes", ["--n-components", "20", "--crop", "32"], "the detectors differ in transform"),
        ("moments", ["--n-components", "4"], "save with resumable=True"),
        ("spade", ["--detector", "spade"], "is a SPADE: only padim, or only subspace, can merge"),
    ):
        other = fit(tmp_path / f"{name}.safetensors", images[6:], *options)
        told = run("merge", one, other, "-o", target, code=2)
        assert reason in told
        assert str(other) in told
        assert told.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize(("options", "images_of_a_shard"), [([], 6), (["--augment", "flip", "--passes", "2"], 3)])
def test_the_number_of_shards_that_it_names_is_enough(images, tmp_path, monkeypatch, options, images_of_a_shard):
    """A file holds samples of up to six rows here, which are images, or views of them."""
    options = ["--n-components", "4", "--resumable", *options]
    of_a_row = load(fit(tmp_path / "one.safetensors", images, *options)).statistics_
    rows = len(images) * (2 if "--passes" in options else 1)
    per_row = of_a_row.embeddings.size_in_bytes() // rows
    monkeypatch.setattr(Moments, "bytes_needed", lambda P, D: 6 * per_row + 1)
    half = len(images) // 2
    parts = [images[:half], images[half:]]
    models = [fit(tmp_path / f"{number}.safetensors", part, *options) for number, part in enumerate(parts)]
    told = run("merge", *models, "-o", tmp_path / "merged.safetensors")
    shards = -(-len(images) // images_of_a_shard)
    assert f"up to {images_of_a_shard} of these images, so cut the {len(images)} into {shards} shards" in told


def test_what_merge_puts_on_disk_is_bounded_and_goes_with_it(images, tmp_path, monkeypatch):
    """Files without a name: also a command that fails leaves none, and no model."""
    models = [
        fit(tmp_path / f"{number}.safetensors", part, "--n-components", "30")
        for number, part in enumerate((images[:5], images[5:10], images[10:]))
    ]
    target, on_disk = tmp_path / "in-memory.safetensors", tmp_path / "on-disk.safetensors"
    run("merge", *models, "-o", target)
    embeddings = load(target).require_statistics("compare").embeddings.size_in_bytes()
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("padim_zoo.detectors.block_plans.default_budget", lambda: 4 * embeddings // len(images))
    alive: dict[weakref.ref[mmap.mmap], int] = {}
    peaks = []
    make = spill._map

    def counted(n_bytes: int) -> mmap.mmap:
        mapped = make(n_bytes)
        alive[weakref.ref(mapped, alive.pop)] = n_bytes
        peaks.append(sum(alive.values()))
        return mapped

    monkeypatch.setattr(spill, "_map", counted)
    run("merge", *models, "-o", on_disk)
    np.testing.assert_array_equal(load(on_disk).predict(images).scores, load(target).predict(images).scores)
    assert embeddings < max(peaks) <= 5 * embeddings
    models[2].write_bytes(models[2].read_bytes()[:-9])
    target.unlink()
    made = len(peaks)
    run("merge", *models, "-o", target, code=2)
    assert len(peaks) > made
    gc.collect()
    assert not alive
    assert not list((tmp_path / "cache" / "scratch").iterdir())
    assert not target.exists()
