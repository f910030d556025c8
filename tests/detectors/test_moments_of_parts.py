"""Moments of chunks, joined, are those of all images; held-out scores by them are those of samples."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest

from padim_zoo.data.image_groups import ImageGroups
from padim_zoo.detectors.fit_in_parts import Folds, PartMoments, Place, embed_part, grid_of_fit, score_part, take_fit
from padim_zoo.detectors.held_out import HeldOutScores
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.tree import reduce_in_tree
from tests.image_files import write_noise

SIZE = {"backbone": "builtin", "resize": (40, 40), "n_components": 5}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("noise")
    paths = write_noise(folder / f"{number:03d}.png" for number in range(70))
    paths[69].write_bytes(paths[3].read_bytes())
    return paths


@pytest.mark.parametrize("estimator", ["full", "ledoit-wolf", "tied", "diagonal"])
def test_model_and_threshold_are_those_of_samples(
    paths: list[Path], estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("padim_zoo.detectors.fit_in_parts.PIECE", 8)
    local = PaDiM(**SIZE, estimator=estimator).fit(paths)
    calibration = local.calibrate(false_alarm_rate=0.1, folds=3)

    model = PaDiM(**SIZE, estimator=estimator)
    place = Place(grid_of_fit(model, paths), model.extractor.bit_depth)
    reference = embed_part(model, paths[:1], *place).embeddings
    folds = Folds.of(ImageGroups.apart(70), 3, model.seed)
    assert [len(fold) for fold in folds.held_out] == [24, 23, 23]

    def moments(images: np.ndarray) -> PartMoments:
        parts = (PartMoments.of(model, [paths[i] for i in half], place, reference) for half in np.split(images, [11]))
        return reduce_in_tree(parts, PartMoments.followed_by)

    everything = moments(np.arange(70))
    equal = folds.with_equal(everything.embedded, 3)
    assert equal.groups.numbers.tolist() == [*range(69), 3]
    assert not folds.is_cut_like(equal)
    take_fit(model, everything.moments, everything.image_size, place.bit_depth, everything.hashes, paths)
    np.testing.assert_allclose(model.predict(paths).scores, local.predict(paths).scores, rtol=1e-5)
    assert local.learned_images_.hashes is not None
    assert everything.hashes.tolist() == local.learned_images_.hashes.tolist()

    scores = HeldOutScores(70, 0.1, equal.groups.numbers)
    for images in equal.held_out:
        fitted = model.fit_model(everything.moments - moments(images).moments)
        kept = score_part(model, fitted, everything.image_size, [paths[i] for i in images], place, images, scores.every)
        scores.add_kept(images, kept)
    ours = scores.calibration(3)
    np.testing.assert_allclose(ours.scores, calibration.scores, rtol=1e-5)
    np.testing.assert_allclose(ours.region_peaks, calibration.region_peaks, rtol=1e-4)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.map_maxima, calibration.map_maxima, rtol=1e-4)  # type: ignore[arg-type]
    for name in ("threshold", "map_low", "map_high"):
        assert getattr(ours, name) == pytest.approx(getattr(calibration, name), rel=1e-5)


def test_joined_moments_are_those_of_one_look(paths: list[Path]) -> None:
    model = PaDiM(**SIZE)
    place = Place(grid_of_fit(model, paths), model.extractor.bit_depth)
    embeddings = embed_part(model, paths, *place).embeddings
    reference = embeddings.images(np.array([0]))
    joined = PartMoments.of(model, paths[:20], place, reference)
    joined = joined.followed_by(PartMoments.of(model, paths[20:], place, reference))
    for one, other in zip(
        joined.moments.arrays().values(), Moments.of(embeddings, reference).arrays().values(), strict=True
    ):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9, atol=1e-9)


def test_moments_of_two_pieces_are_alive(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("padim_zoo.detectors.fit_in_parts.PIECE", 8)
    of, made, alive = Moments.of, [], []

    def counted(embeddings: PatchEmbeddings, reference: PatchEmbeddings) -> Moments:
        moments = of(embeddings, reference)
        made.append(weakref.ref(moments.second))
        alive.append(sum(one() is not None for one in made))
        return moments

    monkeypatch.setattr(Moments, "of", counted)
    model = PaDiM(**SIZE)
    place = Place(grid_of_fit(model, paths), model.extractor.bit_depth)
    reference = embed_part(model, paths[:1], *place).embeddings
    assert PartMoments.of(model, paths, place, reference).moments.n == 70
    assert alive == [1] + [2] * 8


def test_too_few_groups_make_no_folds() -> None:
    folds = Folds.of(ImageGroups.of_numbers(np.zeros(9)), 5, 0)
    assert len(folds.held_out) == 1
    assert "at least 2 different normal images" in folds.why_none
