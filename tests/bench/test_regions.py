"""Regions of interest in benchmarks and on the command line: the figures of a literal evaluation of what is inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

from padim_zoo import Ensemble, InputError, PaDiM
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.cli.main import main
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.synthetic import generate
from padim_zoo.metrics import auroc, evaluate, rank, rank_pixels

SMALL = {"resize": None, "crop": None}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic images, one mask for all of them, and a folder with one for each."""
    root = tmp_path_factory.mktemp("images")
    generate(root / "data", categories=["gear"], train=8, good=3, defects_per_kind=1, size=64)
    y, x = np.mgrid[:64, :64]
    Image.fromarray(((np.hypot(y - 30, x - 34) < 22) * 255).astype(np.uint8)).save(root / "mask.png")
    for number, path in enumerate(sorted((root / "data" / "gear").glob("t*/*/*.png"))):
        mask = np.zeros((64, 64), np.uint8)
        mask[number % 7 : 50 + number % 7, 8:60] = 255
        target = root / "masks" / path.relative_to(root / "data" / "gear")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    return root


@pytest.fixture
def suite(images: Path, tmp_path: Path) -> Suite:
    options = {"data_root": images / "data", "estimators": ("full",), "n_components": 20, "folds": 2}
    return Suite(**options, output=tmp_path / "runs", roi=images / "mask.png", **SMALL)


@pytest.mark.parametrize("roi", ["mask.png", "masks"])
def test_figures_are_of_the_pixels_inside(suite, images, run_suite, roi):
    (document,) = run_suite(suite, roi=images / roi, folds=1)
    assert document["status"] == "done", document["error"]
    category = suite.open_dataset().load("gear")
    detector = PaDiM("builtin", n_components=20, roi=images / roi, **SMALL).fit(
        [sample.path for sample in category.train]
    )
    prediction = detector.predict([sample.path for sample in category.test])
    truth = [np.zeros((64, 64), bool) if mask is None else mask for mask in masks(category.test, detector.transform)]
    inside = np.stack([detector.extractor.region_of_interest().mask_of(s.path, "", (64, 64)) for s in category.test])
    np.testing.assert_array_equal(prediction.roi_masks, inside)
    normal, anomalous = (prediction.maps[inside & ((np.stack(truth) > 0) == kind)] for kind in (False, True))
    assert document["folds"][0]["pixel_auroc"] == pytest.approx(auroc(rank(normal, anomalous)), rel=1e-3)


@pytest.mark.parametrize("roi", ["mask.png", "masks"])
def test_ensembles_combine_what_is_inside(suite, images, run_suite, roi):
    *_, document = run_suite(suite, roi=images / roi, folds=1, ensemble=("builtin:full+scattering:diagonal",))
    assert document["status"] == "done", document["error"]
    category = suite.open_dataset().load("gear")
    options = {"n_components": 20, "roi": images / roi, **SMALL}
    ensemble = Ensemble([PaDiM("builtin", **options), PaDiM("scattering", "diagonal", **options)])
    ensemble.fit([sample.path for sample in category.train])
    prediction = ensemble.predict([sample.path for sample in category.test])
    truth = [np.zeros((64, 64), bool) if mask is None else mask for mask in masks(category.test, ensemble.transform)]
    inside = prediction.roi_masks
    region = ensemble.members[0].extractor.region_of_interest()
    assert not (inside & ~np.stack([region.mask_of(s.path, "", (64, 64)) for s in category.test])).any()
    normal, anomalous = (prediction.maps[inside & ((np.stack(truth) > 0) == kind)] for kind in (False, True))
    assert document["folds"][0]["pixel_auroc"] == pytest.approx(auroc(rank(normal, anomalous)), rel=1e-3)
    [scores] = RunStore(suite.output).scores(document["id"])["scores"]
    np.testing.assert_allclose(scores, prediction.scores, rtol=1e-4, atol=1e-4)


def test_a_mask_is_known_by_its_pixels(suite, images, tmp_path):
    plain, with_mask = make_plan(suite.replace(roi=None)).runs[0], make_plan(suite).runs[0]
    (tmp_path / "copy.png").write_bytes((images / "mask.png").read_bytes())
    assert make_plan(suite.replace(roi=tmp_path / "copy.png")).runs[0].id == with_mask.id != plain.id
    assert make_plan(suite.replace(roi=images / "masks")).runs[0].id not in (with_mask.id, plain.id)


def test_a_mask_that_does_not_fit_is_a_failed_row(suite, run_suite, tmp_path):
    Image.new("L", (60, 64), 255).save(tmp_path / "narrow.png")
    (document,) = run_suite(suite, roi=tmp_path / "narrow.png")
    assert "is 64x60 but" in document["error"]["message"]
    with pytest.raises(InputError, match="does not exist"):
        make_plan(suite.replace(roi=tmp_path / "none.png"))


def test_defects_count_as_far_as_they_are_inside():
    """One cut in two stays one defect; one outside is none."""
    mask = np.zeros((12, 12), bool)
    mask[2, 1:11] = mask[8:10, 0:2] = True
    inside = np.ones((12, 12), bool)
    inside[:, 5] = inside[7:, :3] = False
    scores = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    ranking, regions = rank_pixels([scores, scores], [mask, mask & False], [inside, None])
    assert len(ranking.normal) == (inside & ~mask).sum() + 144
    assert regions.areas.tolist() == [9]
    assert regions.images.tolist() == [0]
    assert set(ndimage.label(mask, np.ones((3, 3)))[0][inside & mask]) == {1}
    figures = evaluate(
        np.array([1, 0]), np.array([1.0, 0]), np.stack([scores] * 2), [mask, None], roi_masks=np.stack([inside] * 2)
    )
    normal = np.concatenate([scores[inside & ~mask], scores[inside]])
    assert figures.values["pixel_auroc"] == auroc(rank(normal, scores[inside & mask]))
    outside = evaluate(
        np.array([1, 0]),
        np.array([1.0, 0]),
        np.stack([scores] * 2),
        [mask, None],
        roi_masks=np.stack([~mask & inside] * 2),
    )
    assert any("outside the region of interest" in note for note in outside.notes)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_takes_masks_everywhere(images, tmp_path):
    model, gear = tmp_path / "model.safetensors", images / "data" / "gear"
    size = ("--resize", "none", "--crop", "none")
    told = run("fit", gear / "train/good", "--n-components", 20, *size, "--roi", images / "mask.png", "--output", model)
    assert " of 16 × 16" in told
    out = tmp_path / "out"
    run("predict", model, gear / "test", "--output", out, "--maps", "npy", "--pictures", "heatmap,overlay,panel")
    found = np.load(next(out.glob("maps/good/*.npy")))
    mask = np.asarray(Image.open(images / "mask.png")) > 0
    assert (found[~mask] == 0).all()
    assert (found[mask] > 0).all()
    whole = tmp_path / "whole.safetensors"
    run("fit", gear / "train/good", "--n-components", 20, *size, "--output", whole)
    figures = [
        run("evaluate", whole, "--data-root", images / "data", "--category", "gear", "--json", *roi)
        for roi in ((), ("--roi", images / "masks"))
    ]
    assert figures[0] != figures[1]
    result = CliRunner().invoke(main, ["predict", str(whole), str(gear / "test"), "--roi", str(tmp_path / "no.png")])
    assert result.exit_code == 2
    assert "does not exist: expected a mask file" in result.output
