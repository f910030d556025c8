"""Augmentation and test-time augmentation in a benchmark: the figures of a fit outside of it, cached, and recorded."""

from __future__ import annotations

import numpy as np
import pytest

from padim_zoo import InputError, MahalanobisAD, PaDiM
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.detectors.held_out import split_folds

SMALL = {"resize": 56, "crop": 48}
AUGMENT = "flip,rotate(10)"


@pytest.fixture
def suite(gear_suite: Suite) -> Suite:
    return gear_suite


def test_figures_are_those_of_a_fit_outside_of_a_benchmark(suite, run_suite):
    documents = run_suite(
        suite, detectors=("padim", "mahalanobis-ad"), augment=AUGMENT, passes=3, tta="flip", cache=True
    )
    assert [document["status"] for document in documents] == ["done", "done"]
    assert {document["n_train"] for document in documents} == {9}
    category = suite.open_dataset().load("gear")
    train, test = ([sample.path for sample in split] for split in (category.train, category.test))
    for document, kind, options in zip(documents, (PaDiM, MahalanobisAD), ({"n_components": 20}, {}), strict=True):
        found = RunStore(suite.output).scores(document["id"])
        for number, part in enumerate(split_folds(9, 3, 0)):
            detector = kind("builtin", augment=AUGMENT, passes=3, tta="flip", **options, **SMALL)
            detector.fit([path for index, path in enumerate(train) if index not in part])
            np.testing.assert_allclose(found["scores"][number], detector.predict(test).scores, rtol=1e-3)
            held_out = detector.predict([train[index] for index in part]).scores
            np.testing.assert_allclose(found["out_of_fold_scores"][part], held_out, rtol=1e-3)
    again = run_suite(suite.replace(output=suite.output / "again"), augment=AUGMENT, passes=3, tta="flip")
    assert again[0]["cached_images"] == again[0]["n_train"] + again[0]["n_test"]
    assert again[0]["folds"] == documents[0]["folds"]


def test_runs_are_told_apart(suite):
    plain = make_plan(suite).runs[0].config
    changed = [
        make_plan(suite.replace(**options)).runs[0].config
        for options in ({"augment": AUGMENT}, {"augment": AUGMENT, "passes": 3}, {"tta": "flip"})
    ]
    assert len({plain.id, *(config.id for config in changed)}) == 4
    assert changed[0].passes == 4
    assert make_plan(suite.replace(augment=AUGMENT, passes=4)).runs[0].config.id == changed[0].id


def test_a_detector_may_say_its_own_views(suite, run_suite):
    documents = run_suite(suite, detectors=("padim", "padim(augment='flip',passes=2)"), folds=1)
    assert [document["status"] for document in documents] == ["done", "done"]
    with pytest.raises(InputError, match="sets augment, which is for the whole suite"):
        make_plan(suite.replace(detectors=("padim(augment='flip')",), augment="vflip"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "flop"}, "augment has 'flop'"),
        ({"tta": ["flip", "rotate"]}, "tta has 'rotate'"),
        ({"passes": 3}, "passes is 3 without augment"),
        ({"augment": "flip", "passes": 1}, "passes is 1: expected 2 or more"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Suite.from_settings(settings)


def test_settings_are_read_as_text_and_lists():
    read = Suite.from_settings({"augment": ["flip", "rotate(10.0)"], "tta": "flip", "passes": "3"})
    assert (read.augment, read.tta, read.passes) == ("flip,rotate(10)", "flip", 3)
    assert Suite.from_settings({"tta": "flip"}, {"tta": "none"}).tta is None
