"""Defects among the images to fit: which ones moved, what is fitted and tested, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from padim_zoo import InputError
from padim_zoo.bench.compare import compare_runs
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.plan import groups, make_plan
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.run_images import contaminate
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.data.synthetic import generate
from padim_zoo.detectors.padim import PaDiM


@pytest.fixture
def suite(tmp_path):
    root = tmp_path / "data"
    generate(root, categories=["gear"], train=12, good=4, defects_per_kind=3, size=64)
    settings = {"data_root": str(root), "estimators": "full", "resize": "64", "crop": "none", "cache": False}
    return Suite.from_settings(
        settings, {"contaminate": "none,0.2", "output": str(tmp_path / "runs"), "gallery": False}
    )


def category_of(suite):
    return suite.open_dataset().load("gear")


def done(suite):
    store = RunStore(suite.output)
    events = execute(suite, find_missing(make_plan(suite), store), store)
    return [event.document for event in events if event.document is not None]


def moved_by_hand(category, share, seed, n):
    """Deal the defects out in the order of the seed until they are the share."""
    defects = [sample for sample in category.test if sample.label]
    order = np.random.default_rng(seed).permutation(len(defects)).tolist()
    moved = []
    while abs((len(moved) + 1) - share * (n + len(moved) + 1)) < abs(len(moved) - share * (n + len(moved))):
        moved.append(defects[order[len(moved)]])
    return moved


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("share", "count"), [(0.08, 1), (0.2, 3), (0.25, 4)])
def test_as_many_defects_move_as_make_the_share(suite, share, count, seed):
    category = category_of(suite)
    dirty = contaminate(category, RunConfig(contaminated=share, seed=seed))
    moved = moved_by_hand(category, share, seed, 12)
    assert len(moved) == count
    assert dirty.train[:12] == category.train
    assert set(dirty.train[12:]) == set(moved)
    assert dirty.test == tuple(sample for sample in category.test if sample not in moved)


def test_a_run_fits_what_moved_and_does_not_test_it(suite):
    category = category_of(suite)
    clean, dirty = sorted(done(suite), key=lambda document: document["n_train"])
    assert (clean["n_train"], dirty["n_train"]) == (12, 15)
    assert dirty["n_test"] == clean["n_test"] - 3 == len(category.test) - 3
    assert dirty["drawn"] == ["defects to fit"]
    assert "3 anomalous test images are among the images to fit, by --contaminate" in dirty["notes"]
    moved = moved_by_hand(category, 0.2, 0, 12)
    images = [sample.path for sample in (*category.train, *(s for s in category.test if s in moved))]
    model = PaDiM(estimator="full", resize=64, crop=None).fit(images)
    tested = [sample for sample in category.test if sample not in moved]
    kept = RunStore(suite.output).scores(dirty["id"])
    np.testing.assert_array_equal(kept["labels"], [sample.label for sample in tested])
    scores = model.predict([sample.path for sample in tested]).scores
    np.testing.assert_allclose(kept["scores"][0], scores, rtol=1e-4)
    board = leaderboard([clean, dirty])
    assert board.loc[board["id"] == dirty["id"], "contaminated"].tolist() == [0.2]


def test_every_detector_of_a_seed_and_share_has_the_same_images_in_one_group(suite):
    plan = make_plan(suite.replace(contaminate=(0.1, 0.2), seeds=(0, 1), estimators=("full", "diagonal")))
    assert [{(run.config.contaminated, run.config.seed) for run in group} for group in groups(plan)] == [
        {(0.1, 0)},
        {(0.1, 1)},
        {(0.2, 0)},
        {(0.2, 1)},
    ]
    assert {len(group) for group in groups(plan)} == {2}
    parts = [make_plan(suite.replace(contaminate=(0.1, 0.2), seeds=(0, 1), shard=f"{k}/3")).runs for k in (1, 2, 3)]
    assert sorted(run.id for part in parts for run in part) == sorted(
        run.id for run in make_plan(suite.replace(contaminate=(0.1, 0.2), seeds=(0, 1)))
    )


def test_a_smaller_number_of_normal_images_keeps_the_share(suite):
    (document,) = done(suite.replace(contaminate=(0.2,), train_sizes=(4,), folds=2))
    assert document["n_train"] == 5
    assert len(RunStore(suite.output).scores(document["id"])["out_of_fold_scores"]) == 5


def test_features_that_are_cached_are_not_computed_again(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    clean, dirty = sorted(done(suite.replace(cache=True)), key=lambda document: document["n_train"])
    assert dirty["cached_images"] == len(category_of(suite).train) + len(category_of(suite).test)
    assert clean["cached_images"] == 0


def test_a_copy_of_what_moved_is_not_tested(suite):
    moved = moved_by_hand(category_of(suite), 0.08, 0, 12)[0]
    shutil.copy(moved.path, moved.path.with_stem("zzz_copy"))
    mask = moved.masks[0]
    shutil.copy(mask, mask.with_name(mask.name.replace(moved.path.stem, "zzz_copy")))
    category = category_of(suite)
    seed = next(seed for seed in range(99) if moved_by_hand(category, 0.08, seed, 12)[0].path == moved.path)
    (document,) = done(suite.replace(contaminate=(0.08,), seeds=(seed,)))
    assert document["n_test"] == len(category.test) - 2
    assert document["status"] == "done"


def test_runs_that_tested_other_images_are_not_compared(suite):
    one, other = done(suite.replace(contaminate=(0.2,), seeds=(0, 1)))
    assert one["n_test"] == other["n_test"]
    with pytest.raises(InputError, match="other test images"):
        compare_runs(RunStore(suite.output), [one, other], one["id"], other["id"])


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0.5, r"^contaminate is 0\.5: beside 12 normal images of gear that takes 12 of \d+ .* at most half of them"),
        (0.01, r"^contaminate is 0\.01: that is no image beside 12 normal ones of gear; expected 0\.077 or more"),
    ],
)
def test_a_share_that_leaves_too_few_or_takes_none_is_refused(suite, share, message):
    with pytest.raises(InputError, match=message):
        make_plan(suite.replace(contaminate=(share,)))


@pytest.mark.parametrize("share", ["0", "1", "x", "-0.1"])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(InputError, match="contaminate is"):
        Suite.from_settings({"contaminate": share})
