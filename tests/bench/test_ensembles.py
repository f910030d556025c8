"""Ensembles in a benchmark: one class, whether it is fitted fold by fold or combined from saved models."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from padim_zoo import Ensemble, MahalanobisAD, PaDiM
from padim_zoo.bench.extraction import extract
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.cache.features import FeatureCache
from padim_zoo.cli.bench import bench
from padim_zoo.cli.main import main
from padim_zoo.cli.settings import asked_settings
from padim_zoo.core.errors import InputError
from padim_zoo.data.ground_truth import masks
from padim_zoo.detectors.held_out import split_folds
from padim_zoo.estimators.linear_shrinkage import Full
from padim_zoo.metrics.evaluation import evaluate
from padim_zoo.report.commands import reproducing_command

SIZE = {"resize": (24, 24), "crop": None}
SMALL = {"n_components": 6, "precision": "float32", **SIZE}


@pytest.fixture
def suite(suite):
    """Small detectors on the images of the toys."""
    return suite.replace(
        detectors=("padim",), backbones=("builtin",), ensemble=("builtin+scattering",), gallery=False, **SMALL
    )


def literal_ensemble(rule="mean", **options):
    return Ensemble([PaDiM(backbone, **SMALL, **options) for backbone in ("builtin", "scattering")], rule=rule)


def combined(rule, members, predictions):
    """Scores and maps by the definition."""
    scores, maps = [], []
    for member, prediction in zip(members, predictions, strict=True):
        own = member.calibration_
        if rule == "rank":
            scores.append([np.mean(own.scores <= score) for score in prediction.scores])
        else:
            scores.append((prediction.scores - own.scores.mean()) / own.scores.std(ddof=1))
        maps.append((prediction.maps - own.map_low) / (own.map_high - own.map_low))
    combine = np.max if rule == "max" else np.mean
    return combine(scores, axis=0), combine(maps, axis=0)


@pytest.mark.parametrize("rule", ["mean", "max", "rank"])
def test_folds_are_those_of_a_literal_loop(run_suite, suite, rule):
    *_, document = run_suite(suite, folds=3, rule=rule)
    assert document["status"] == "done", document["error"]
    category = suite.open_dataset().load("alpha")
    train, test = (np.array([sample.path for sample in part]) for part in (category.train, category.test))
    labels = np.array([sample.label for sample in category.test])
    members = [PaDiM(backbone, **SMALL) for backbone in ("builtin", "scattering")]
    scores, held_out_scores = [], np.empty(len(train))
    for found, held_out in zip(document["folds"], split_folds(len(train), 3, 0), strict=True):
        for member in members:
            member.fit(list(np.delete(train, held_out))).calibrate()
        of_test, maps = combined(rule, members, [member.predict(list(test)) for member in members])
        scores.append(of_test)
        own, _ = combined(rule, members, [member.predict(list(train[held_out])) for member in members])
        held_out_scores[held_out] = own
        expected = evaluate(labels, of_test, maps, masks(category.test, members[0].transform)).values
        free = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro")  # of thresholds
        assert {name: found[name] for name in free} == pytest.approx({name: expected[name] for name in free}, rel=1e-3)
    arrays = RunStore(suite.output).scores(document["id"])
    np.testing.assert_allclose(arrays["scores"], scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(arrays["out_of_fold_scores"], held_out_scores, rtol=1e-4, atol=1e-4)
    assert document["threshold"]["threshold"] == pytest.approx(held_out_scores.max(), rel=1e-4)


def test_one_fold_scores_as_fit_combine_and_predict(run_suite, suite, tmp_path):
    *_, document = run_suite(suite)

    def run(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output

    models = [tmp_path / f"{backbone}.safetensors" for backbone in ("builtin", "scattering")]
    folder = suite.data_root / "alpha"
    for model in models:
        options = ["--resize", "24x24", "--crop", "none", "--n-components", 6, "--precision", "float32"]
        options += ["--backbone", model.stem, "--estimator", "full", "--model-dtype", "float32"]
        run("fit", folder / "train" / "good", "--output", model, *options)
    run("combine", *models, "--output", tmp_path / "both.safetensors", "--rule", "mean")
    run("predict", tmp_path / "both.safetensors", folder / "test", "--scores", tmp_path / "scores.json")
    predicted = {row["path"]: row["score"] for row in json.loads((tmp_path / "scores.json").read_text())}
    expected = [predicted[str(sample.path)] for sample in suite.open_dataset().load("alpha").test]
    [scores] = RunStore(suite.output).scores(document["id"])["scores"]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("views", "options"), [({"tta": "flip"}, {}), ({"augment": "flip"}, {"folds": 2})])
def test_members_have_the_views_of_the_suite(run_suite, suite, views, options):
    *_, document = run_suite(suite, **views, **options)
    assert document["status"] == "done", document["error"]
    category = suite.open_dataset().load("alpha")
    train = [sample.path for sample in category.train]
    if options:
        train = [path for index, path in enumerate(train) if index not in split_folds(len(train), 2, 0)[0]]
    expected = literal_ensemble(**views).fit(train).predict([sample.path for sample in category.test])
    scores = RunStore(suite.output).scores(document["id"])["scores"]
    np.testing.assert_allclose(scores[0], expected.scores, rtol=1e-4, atol=1e-4)


def test_costs_are_those_of_the_ensemble(run_suite, suite):
    *members, document = run_suite(suite, folds=2)
    sizes = [member["timings"]["model_mb"] for member in members if member["config"]["estimator"] == "full"]
    assert document["timings"]["model_mb"] == pytest.approx(sum(sizes))
    assert document["timings"].keys() == members[0]["timings"].keys()
    assert min(document["timings"].values()) > 0


def test_members_that_share_features_keep_them_once(run_suite, suite):
    members = [PaDiM("builtin", "full", **SMALL), PaDiM("builtin", "diagonal", **SMALL)]
    samples = suite.open_dataset().load("alpha").train
    features = Ensemble(members).extract(samples)
    assert len(features.maps) == len(members[0].extract(samples).maps)
    *_, document = run_suite(suite, ensemble=("builtin:full+builtin:diagonal",))
    assert document["status"] == "done", document["error"]
    config = document["config"]
    assert (config["backbone"], config["estimator"], config["n_components"]) == ("builtin", "full+diagonal", 6)
    assert config["members"] == [{"estimator": "full"}, {"estimator": "diagonal"}]


def test_features_of_members_come_from_the_cache(suite, tmp_path):
    samples, cache = suite.open_dataset().load("alpha").train, FeatureCache(tmp_path / "cache")
    extract(PaDiM("builtin", **SMALL), samples, cache, normal=True)
    half = extract(literal_ensemble(), samples, cache, normal=True)
    whole = extract(literal_ensemble(), samples, cache, normal=True)
    assert (half.cached, whole.cached) == (0, len(samples))
    alone = [extract(member, samples, cache, normal=True) for member in literal_ensemble().members]
    assert whole.seconds_per_image == pytest.approx(sum(part.seconds_per_image for part in alone))
    for one, other in zip(whole.features.maps, [m for part in alone for m in part.features.maps], strict=True):
        np.testing.assert_array_equal(one, other)


def test_ids_tell_rules_and_members_apart(suite):
    def ids(**changes):
        return {run.id for run in make_plan(suite.replace(**changes)) if run.members}

    several = [
        ids(),
        ids(rule="max"),
        ids(folds=2),
        ids(ensemble=("builtin+scattering:diagonal",)),
        ids(weights=("builtin=none",)),
        ids(layers=("builtin=stage1,stage2",)),
        ids(n_components=5),
    ]
    assert len(set.union(*several)) == len(several)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rule": "max", "folds": 2, "seeds": (3,)},
        {"ensemble": ("builtin:full+builtin:diagonal+scattering:shrinkage(0.2)",)},
        {"layers": ("builtin=stage1,stage2",), "n_components": None},
        {"weights": ("builtin=none",)},
        {"detectors": ("mahalanobis-ad",)},
        {"detectors": ("patchcore",), "n_components": None, "tta": "flip"},
    ],
)
def test_its_command_plans_it_again(suite, changes):
    run = next(run for run in make_plan(suite.replace(**changes)) if run.members)
    words = shlex.split(reproducing_command({"config": run.config.to_dict(), "weights": run.weights_label}))
    assert words[:2] == ["padim-zoo", "bench"]
    with bench.make_context("bench", words[2:]):
        asked = asked_settings() | {"data_root": suite.data_root}
    assert run.id in {each.id for each in make_plan(Suite.from_settings(asked))}


def test_an_ensemble_of_scores_has_no_maps(run_suite, suite):
    *_, document = run_suite(suite, detectors=("mahalanobis-ad",), folds=2)
    assert document["status"] == "done", document["error"]
    assert any("no anomaly maps" in note for note in document["notes"])
    category = suite.open_dataset().load("alpha")
    held_out = split_folds(len(category.train), 2, 0)[0]
    train = [sample.path for index, sample in enumerate(category.train) if index not in held_out]
    members = [MahalanobisAD(backbone, precision="float32", **SIZE) for backbone in ("builtin", "scattering")]
    expected = Ensemble(members).fit(train).predict([sample.path for sample in category.test]).scores
    found = RunStore(suite.output).scores(document["id"])["scores"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_later_ensemble_does_no_member_again(run_suite, suite):
    alone = run_suite(suite, ensemble=(), backbones=("builtin", "scattering"))
    before = {document["id"]: document for document in alone}
    *members, ensemble = run_suite(suite)
    assert ensemble["id"] not in before
    assert {member["id"]: member for member in members} == before


def test_a_member_that_fails_fails_the_ensemble(run_suite, suite, monkeypatch):
    def fail(*_arguments, **_options):
        raise ArithmeticError("no luck")

    monkeypatch.setattr(Full, "fit", fail)
    failed, done, ensemble = run_suite(suite, ensemble=("builtin:full+builtin:diagonal",))
    assert (failed["status"], done["status"], ensemble["status"]) == ("failed", "done", "failed")
    assert ensemble["error"]["message"] == "no luck"


def test_workers_find_what_one_process_finds(run_suite, suite, tmp_path):
    alone = run_suite(suite, categories=())
    together = run_suite(suite, categories=(), jobs=2, output=tmp_path / "parallel")
    assert {document["status"] for document in together} == {"done"}
    for one, other in zip(alone, together, strict=True):
        assert one["folds"][0] == pytest.approx(other["folds"][0], rel=1e-5, nan_ok=True)


def test_detectors_that_cannot_be_members_are_refused_before_any_run(suite):
    with pytest.raises(InputError, match="members of the ensemble are Toy, Toy: expected two or more, each on a back"):
        make_plan(suite.replace(detectors=("toy",), backbones=(), ensemble=("toy-linear+toy-square",)))
    with pytest.raises(InputError, match="has members that do not differ"):
        make_plan(suite.replace(detectors=("patchcore",), n_components=None, ensemble=("builtin:full+builtin:tied",)))
