"""The pictures that a run keeps, against what was tested and what the detector says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from padim_zoo.bench.gallery import PER_REASON, FoldMaps, Gallery, choose
from padim_zoo.bench.store import RunStore
from padim_zoo.data.image import read_image
from padim_zoo.data.sample import Category
from padim_zoo.detectors.held_out import split_folds


@pytest.fixture
def gallery_of(suite):
    def read(document) -> Gallery:
        return Gallery.from_arrays(RunStore(suite.output).gallery(document["id"]))

    return read


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_worst_are_shown_first_and_the_same_draw_for_all_runs():
    labels = np.array([0] * 10 + [1] * 10)
    scores = np.random.default_rng(0).random(20)
    chosen = choose(labels, scores, "0123456789abcdef")
    by_reason = {
        reason: [index for index, reasons in chosen.items() if reason in reasons]
        for reason in ("miss", "false alarm", "random")
    }
    assert all(len(indices) == PER_REASON for indices in by_reason.values())
    assert by_reason["miss"] == sorted(range(10, 20), key=lambda index: scores[index])[:PER_REASON]
    assert by_reason["false alarm"] == sorted(range(10), key=lambda index: -scores[index])[:PER_REASON]
    assert sorted(labels[by_reason["random"]]) == [0, 0, 1, 1]
    again = choose(labels, scores[::-1], "0123456789abcdef")
    assert {i for i, why in again.items() if "random" in why} == set(by_reason["random"])


@pytest.mark.parametrize(("labels", "reasons"), [([0, 0], {"false alarm", "random"}), ([1], {"miss", "random"})])
def test_few_images_of_one_kind(labels, reasons):
    chosen = choose(np.array(labels), np.zeros(len(labels)), "")
    assert set(chosen) == set(range(len(labels)))
    assert all(set(why) == reasons for why in chosen.values())


def test_a_gallery_shows_what_was_tested(run_suite, suite, gallery_of):
    [document] = run_suite(suite, folds=3)
    gallery = gallery_of(document)
    category: Category = suite.open_dataset().load("alpha")
    scores = RunStore(suite.output).scores(document["id"])["scores"].mean(0)
    assert {item.index for item in gallery.items} == set(
        choose(np.array([s.label for s in category.test]), scores, document["config"]["data"])
    )
    for item in gallery.items:
        sample = category.test[item.index]
        assert item.name == f"{sample.path.parent.name}/{sample.path.name}"
        assert (item.label, item.kind) == (sample.label, sample.kind)
        assert item.score == pytest.approx(scores[item.index])
        shown = picture(gallery.images[item.index]).astype(float)
        assert np.abs(shown - read_image(sample.path)).mean() < 12  # encoding loses most of what is all noise
        if sample.masks:
            np.testing.assert_array_equal(picture(gallery.masks[item.index]), read_image(sample.masks[0])[..., 0] > 0)
        else:
            assert item.index not in gallery.masks


def test_maps_are_the_mean_of_the_folds_and_colors_those_of_normal_images(run_suite, suite, toys, gallery_of):
    category = suite.open_dataset().load("alpha")
    train, test = ([sample.path for sample in part] for part in (category.train, category.test))
    backbones = (toys.toy_linear(), toys.toy_square())
    documents = run_suite(suite, backbones=("toy-linear", "toy-square"), folds=3)
    for document, backbone in zip(documents, backbones, strict=True):
        folds = split_folds(len(train), 3, 0)
        fits = [toys.Toy(backbone).fit([train[i] for i in range(len(train)) if i not in fold]) for fold in folds]
        gallery, maps = gallery_of(document), np.mean([detector.predict(test).maps for detector in fits], axis=0)
        shown = np.stack([maps[item.index] for item in gallery.items])
        assert (gallery.low, gallery.high) == pytest.approx((shown.min(), shown.max()), rel=1e-5)
        for item in gallery.items:
            levels = np.asarray(Image.open(io.BytesIO(gallery.maps[item.index])).convert("L"))
            decoded = gallery.low + (levels / 255) ** 2 * (gallery.high - gallery.low)
            np.testing.assert_allclose(decoded, maps[item.index], atol=(gallery.high - gallery.low) / 255)
        assert gallery.colors_from == "held-out"
        assert gallery.low < gallery.color_low < gallery.color_high


def test_colors_come_of_normal_pixels():
    maps = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8)
    one = FoldMaps()
    one.add(maps)
    assert one.colors(np.array([0, 1])) == (*np.quantile(maps[0], [0.5, 0.999]), "test")
    assert one.colors(np.array([1, 1]))[2] == "all"
    one.add(maps, maps + 1000)
    assert one.colors(np.array([0, 1])) == (*np.quantile(maps[:, ::4, ::4] + 1000, [0.5, 0.999]), "held-out")


def test_pixels_that_are_not_judged_have_no_part_in_the_colors():
    maps = np.full((1, 8, 8), np.nan, dtype=np.float32)
    maps[:, :4] = np.arange(32).reshape(4, 8)
    folds = FoldMaps()
    folds.add(maps)
    assert folds.colors(np.array([0])) == (*np.quantile(np.arange(32.0), [0.5, 0.999]), "test")


def test_colors_of_a_small_region_come_of_all_its_pixels():
    held_out = np.full((3, 64, 64), np.nan, dtype=np.float32)
    region = np.s_[:, 13:15, 21:23]  # between every fourth row and column
    held_out[region] = np.arange(12).reshape(3, 2, 2)
    folds = FoldMaps()
    folds.add(np.zeros((2, 64, 64), dtype=np.float32), held_out)
    assert folds.colors(np.array([0, 1])) == (*np.quantile(np.arange(12.0), [0.5, 0.999]), "held-out")


def test_colors_of_a_large_region_are_those_of_about_every_sixteenth_pixel():
    held_out = np.random.default_rng(0).normal(size=(4, 128, 128)).astype(np.float32)
    whole = np.quantile(held_out[:, 1:], [0.5, 0.999]).tolist()
    held_out[:, 0] = np.nan
    folds = FoldMaps()
    folds.add(np.zeros((1, 128, 128), dtype=np.float32), held_out)
    low, high, _ = folds.colors(np.array([0]))
    assert low == pytest.approx(whole[0], abs=0.05)
    assert high == pytest.approx(whole[1], abs=0.5)


def test_a_thin_region_is_seen_in_a_reduced_map():
    maps = np.full((1, 300, 300), np.nan, dtype=np.float32)
    maps[:, :, 150] = 2.0
    folds = FoldMaps()
    folds.add(maps)
    assert np.isfinite(folds.mean).sum() == 100
    assert np.nanmax(folds.mean) == pytest.approx(2.0)


def test_large_maps_are_reduced_by_means():
    maps = np.random.default_rng(0).random((2, 300, 150)).astype(np.float32)
    folds = FoldMaps()
    folds.add(maps)
    folds.add(3 * maps)
    assert folds.mean.shape == (2, 100, 50)
    np.testing.assert_allclose(folds.mean[1, 7, 9], 2 * maps[1, 21:24, 27:30].mean(), rtol=1e-5)


def test_a_detector_without_maps_shows_images(run_suite, suite, gallery_of):
    [document] = run_suite(suite, detectors=("scores-only",))
    gallery = gallery_of(document)
    assert gallery.items
    assert not gallery.maps
    assert len(gallery.images) == len(gallery.items)


def test_a_gallery_is_no_part_of_a_run(run_suite, suite):
    [without] = run_suite(suite, gallery=False)
    assert RunStore(suite.output).gallery(without["id"]) is None
    [kept] = run_suite(suite)
    assert kept["created"] == without["created"]
    [new] = run_suite(suite.replace(output=suite.output.with_name("other")))
    assert new["id"] == without["id"]
    assert new["folds"] == without["folds"]
