"""Detectors in scikit-learn's tools: parameters, labels, signs, scorers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from padim_zoo import Ensemble, InputError, MahalanobisAD, PaDiM, PatchCore, Scorer
from padim_zoo.data.image import read_image
from padim_zoo.data.sample import Category
from padim_zoo.data.synthetic import generate
from padim_zoo.detectors.detector import Detector
from padim_zoo.estimators import Full, Shrinkage
from padim_zoo.registry import datasets
from padim_zoo.testing.images import anomalous_images, normal_images

X = np.concatenate([normal_images(8, 48, 48), anomalous_images(4, 48, 48)])
Y = np.array([1] * 8 + [-1] * 4)
FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


def small(**parameters: object) -> PaDiM:
    return PaDiM(**{"n_components": 8, "resize": None, "crop": None, **parameters})


@pytest.mark.parametrize(
    "detector",
    [
        small(estimator=Shrinkage(0.3)),
        PatchCore(coreset_ratio=0.5, layers=("stage1",)),
        MahalanobisAD(explained_variance=0.5),
        Ensemble([small(), small(seed=1)], rule="max"),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_clones_have_equal_parameters_and_no_fit(detector: Detector) -> None:
    copy = clone(detector)
    assert type(copy) is type(detector)
    assert repr(copy) == repr(detector)
    assert copy.get_params(deep=False).keys() == detector.get_params(deep=False).keys()
    assert copy.calibration_ is None


def test_a_clone_of_a_fitted_detector_is_not_fitted() -> None:
    detector = small().fit(X[:8])
    check_is_fitted(detector)
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(detector))


def test_parameters_of_an_estimator_nest() -> None:
    detector = small(estimator=Shrinkage(0.3)).fit(X[:8])
    assert detector.get_params()["estimator__shrinkage_intensity"] == 0.3
    before = detector.predict(X).scores
    detector.set_params(estimator__shrinkage_intensity=0.9, sigma=2.0)
    expected = small(estimator=Shrinkage(0.9), sigma=2.0).fit(X[:8]).predict(X).scores
    np.testing.assert_array_equal(detector.predict(X).scores, expected)
    assert not np.allclose(before, expected)
    detector.set_params(estimator=Full(), estimator__epsilon=0.5)
    call, told = repr(detector).split("  # ")
    assert call == "PaDiM(estimator=Full(epsilon=0.5), resize=None, sigma=2.0, n_components=8)"
    assert told.startswith("fitted on 8 normal images of ")
    assert told.endswith(", no threshold")
    with pytest.raises(ValueError, match="PaDiM has no parameter 'estimator__shrinkage_intensity'"):
        detector.set_params(estimator__shrinkage_intensity=0.1)
    with pytest.raises(InputError, match="epsilon is -1"):
        detector.set_params(estimator__epsilon=-1)
    assert detector.estimator.epsilon == 0.5


def test_a_saved_detector_names_its_estimator_once(tmp_path) -> None:
    from padim_zoo import load

    small(estimator=Shrinkage(0.3)).fit(X[:8]).save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").estimator == "shrinkage(shrinkage_intensity=0.3, epsilon=0.01)"


@pytest.mark.parametrize("images", [X, list(X), tuple(X)], ids=["array", "list", "tuple"])
def test_anomalous_images_are_left_out_of_the_fit(images: object) -> None:
    expected = small().fit(X[:8]).predict(X).scores
    found = small().fit(images, Y)
    assert found.n_images_ == 8
    np.testing.assert_array_equal(found.predict(X).scores, expected)
    np.testing.assert_array_equal(small().fit(X[:8], Y[:8]).predict(X).scores, expected)


@pytest.mark.parametrize(
    ("images", "y", "message"),
    [
        (X, (Y < 0).astype(int), r"y has the values 0, 1: expected .* 1 for normal and -1 .* numpy.where\(y, -1, 1\)"),
        (X, Y < 0, "y has the values False, True"),
        (X, ["good"] * 12, "y has the values good"),
        (X, Y[:, None], "expected scikit-learn's labels of outliers, one per image"),
        (X, Y[:5], "y has 5 labels for 12 images"),
        (X, -np.ones(12), "all 12 images are labeled anomalous"),
        ("folder", Y, "they are a str: expected a list"),
        (iter(X), Y, "they are a iterator: expected a list"),
    ],
    ids=("numbers", "booleans", "words", "a column", "too few", "none normal", "a folder", "an iterator"),
)
def test_labels_that_do_not_fit_are_refused(images: object, y: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small().fit(images, y)


def test_signs_are_those_of_outlier_detectors() -> None:
    detector = small().fit(X, Y)
    scores = detector.predict(X).scores
    np.testing.assert_array_equal(detector.score_samples(X), -scores)
    assert detector.threshold_ is None
    decisions = detector.decision_function(X)  # sets the threshold that calibrate sets
    assert detector.threshold_ == small().fit(X, Y).calibrate().threshold
    np.testing.assert_array_equal(decisions < 0, detector.predict(X).anomalous)
    assert roc_auc_score(Y, decisions) == roc_auc_score(Y == -1, scores) == Scorer()(detector, X, Y)


def test_cross_validation_by_scorers_of_both() -> None:
    scoring = {"theirs": "roc_auc", "ours": Scorer("image_auroc"), "ap": Scorer("image_ap")}
    found = cross_validate(small(sigma=0.0), X, Y, cv=FOLDS, scoring=scoring, error_score="raise")
    by_hand = []
    for train, test in FOLDS.split(X, Y):
        fitted = small(sigma=0.0).fit(X[train][Y[train] == 1])
        by_hand.append(roc_auc_score(Y[test] == -1, fitted.predict(X[test]).scores))
    np.testing.assert_array_equal(found["test_theirs"], by_hand)
    np.testing.assert_array_equal(found["test_ours"], by_hand)


def test_a_grid_over_a_pipeline() -> None:
    pipeline = Pipeline([("invert", FunctionTransformer(np.invert)), ("detector", small())])
    grid = {"detector__estimator": ["full", Shrinkage(0.5)], "detector__sigma": [0.0, 4.0]}
    search = GridSearchCV(pipeline, grid, scoring=Scorer("image_ap"), cv=FOLDS, error_score="raise").fit(X, Y)
    assert set(search.best_params_) == set(grid)
    expected = small(**{key.partition("__")[2]: value for key, value in search.best_params_.items()}).fit(~X[:8])
    np.testing.assert_array_equal(search.predict(X).scores, expected.predict(~X).scores)
    np.testing.assert_array_equal(search.best_estimator_.score_samples(X), expected.score_samples(~X))


@pytest.fixture(scope="module")
def gear(tmp_path_factory: pytest.TempPathFactory) -> Category:
    root = tmp_path_factory.mktemp("images")
    generate(root, categories=["gear"], train=6, good=2, defects_per_kind=1, size=64)
    return datasets.create("folder", root=root).load("gear")


def test_samples_know_their_labels_and_masks(gear: Category) -> None:
    from padim_zoo.data.ground_truth import masks
    from padim_zoo.metrics import evaluate

    samples = [*gear.train, *gear.test]
    detector = PaDiM(n_components=8, resize=64, crop=48).fit(samples)
    assert detector.n_images_ == 8
    prediction = detector.predict(samples)
    labels = np.array([sample.label for sample in samples])
    expected = evaluate(labels, prediction.scores, prediction.maps, masks(samples, detector.transform)).values
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        assert Scorer(metric)(detector, samples) == expected[metric]
    y = np.where(labels, -1, 1)
    assert cross_val_score(detector, samples, y, cv=FOLDS, scoring=Scorer("aupro"), error_score="raise").min() > 0
    images = np.stack([read_image(sample.path) for sample in samples])
    assert Scorer("image_auroc")(detector, images, y) == expected["image_auroc"]
    with pytest.raises(InputError, match="pixel_auroc needs masks: give images that are Samples"):
        Scorer("pixel_auroc")(detector, images, y)
    with pytest.raises(InputError, match="image_auroc needs labels"):
        Scorer()(detector, images)
    with pytest.raises(InputError, match=r"image_auroc is undefined: .* no anomalous"):
        Scorer()(detector, gear.train)


def test_a_scorer_of_no_metric_is_refused_and_all_can_be_sent_to_processes() -> None:
    with pytest.raises(InputError, match="unknown metric 'accuracy': expected image_auroc"):
        Scorer("accuracy")
    assert pickle.loads(pickle.dumps(Scorer("aupro"))) == Scorer("aupro")
