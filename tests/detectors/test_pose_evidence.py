"""Unusual poses weigh as much as scores that are as rare, and the threshold keeps its rate."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from padim_zoo import InputError, PaDiM, load
from padim_zoo.bench.extraction import Extraction
from padim_zoo.bench.timed_fit import Extracted, TimedFit
from padim_zoo.detectors.calibration import Calibration, usual_rate
from padim_zoo.detectors.config import REGION_AREAS
from padim_zoo.detectors.held_out import folds_of
from padim_zoo.detectors.image_poses import ImagePoses
from padim_zoo.detectors.normal_poses import NormalPoses, distances_between
from padim_zoo.detectors.pose_evidence import POWER, SHARE, PoseEvidence, joined_by_poses, lifted
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.storage import write_detector
from padim_zoo.metrics.conformal import conformal_threshold
from tests.command_line import run
from tests.wedges import SIDE, wedge

SMALL: dict[str, Any] = {"resize": None, "n_components": 6, "backbone": "builtin", "precision": "float32"}
RATES = np.array([0.5, 0.1, 0.03, 0.009, 0.0042, 0.0038, 1e-3, 1e-5, 1e-9])


def drawn(n: int, seed: int, kind: str = "normal") -> np.ndarray:
    """Poses (n, 3), float32, of angles and shifts by some distribution."""
    rng = np.random.default_rng(seed)
    draw = {"normal": rng.standard_normal, "even": lambda size: rng.uniform(-1, 1, size)}
    draw["heavy"] = lambda size: rng.standard_t(4, size)
    return (draw[kind]((n, 3)) * [0.1, 2, 2]).astype(np.float32)


def calibration_of(scores: np.ndarray, groups: np.ndarray | None = None, rate: float | None = None) -> Calibration:
    """As of maps of four pixels, the highest of which is the score."""
    maps = np.stack([scores, 0.97 * scores, 0.5 * scores, 0.1 * scores], 1)
    peaks = np.stack([scores, *[maps[:, -1]] * (len(REGION_AREAS) - 1)], 1)
    asked = usual_rate(len(scores)) if rate is None else rate
    threshold = conformal_threshold(scores, asked, groups)
    return Calibration(threshold, asked, 5, 0.0, 1.0, scores, groups=groups, region_peaks=peaks)


def with_poses(calibration: Calibration, poses: np.ndarray, seed: int) -> Calibration:
    cut = folds_of(len(poses), 5, seed, calibration.groups)
    return joined_by_poses(calibration.changed(pose_evidence=PoseEvidence.of(calibration, poses, cut)))


def prediction_of(scores: np.ndarray, p_values: np.ndarray) -> Prediction:
    maps = np.stack([scores, 0.97 * scores, 0.5 * scores, 0.1 * scores], 1).reshape(-1, 2, 2)
    return Prediction(scores, maps, poses=ImagePoses(*[np.zeros(len(scores))] * 3, p_values))


# -- how usual a pose is ---------------------------------------------------------------------------------------------


def gaps(pose: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Of angle and shift from the nearest of others, one by one."""
    turns = [abs(math.remainder(float(pose[0]) - float(other[0]), 2 * math.pi)) for other in others]
    shifts = [math.hypot(*(float(a) - float(b) for a, b in zip(pose[1:], other[1:], strict=True))) for other in others]
    return min(turns), min(shifts)


def p_value(distance: float, known: list[tuple[float, int]]) -> float:
    """By its rank among distances of some groups, each of which is one image."""
    sizes = {group: sum(other == group for _, other in known) for _, group in known}
    as_far = sum(1 / sizes[group] for each, group in known if each >= distance)
    highest = max(each for each, _ in known)
    spread = max(np.std([each for each, _ in known]), 0.1 * highest)
    return (1 + as_far) / (1 + len(sizes)) / (1 + max(0.0, distance - highest) / spread)


@pytest.mark.parametrize("groups", [None, np.arange(30) // 2])
def test_p_values_are_those_of_the_definition(groups: np.ndarray | None) -> None:
    poses = drawn(30, 0)
    poses[7] = 0  # of no image was it found
    cut = folds_of(30, 5, 0, groups)
    own = [(np.concatenate(held_out), rest) for rest, held_out in cut]
    distances = distances_between(poses, own)
    numbers = np.arange(30) if groups is None else groups
    known: list[list[tuple[float, int]]] = [[], []]
    for image in range(30):
        if image != 7:
            rest = next(rest for images, rest in own if image in images)
            both = gaps(poses[image], [poses[other] for other in rest if other != 7])
            np.testing.assert_allclose(distances[image], both, rtol=1e-5)
            for column, distance in zip(known, distances[image], strict=True):
                column.append((float(distance), int(numbers[image])))
    assert np.isnan(distances[7]).all()

    normal = NormalPoses(poses, distances, groups)
    tried = np.concatenate([drawn(20, 1), 3 * drawn(20, 2), [[3.1, 0, 0], [0, 58, 0]]]).astype(np.float32)
    for pose, found in zip(tried, normal.p_values(tried), strict=True):
        both = gaps(pose, np.delete(poses, 7, 0))
        expected = min(p_value(np.float32(each), column) for each, column in zip(both, known, strict=True))
        assert found == pytest.approx(min(1, 2 * expected), rel=1e-4)
    left = np.delete(np.arange(30), 7)
    for place, (image, found) in enumerate(zip(left, normal.own_p_values()[left], strict=True)):
        others = [[each for each in column if each[1] != numbers[image]] for column in known]
        expected = min(p_value(column[place][0], rest) for column, rest in zip(known, others, strict=True))
        assert found == pytest.approx(min(1, 2 * expected), rel=1e-4)
    assert normal.own_p_values()[7] == 1


def test_few_poses_make_none_unusual() -> None:
    poses, far = drawn(2, 0), np.array([[0, 58, 0]], np.float32)
    both = distances_between(poses, [(np.array([i]), np.array([1 - i])) for i in range(2)])
    assert NormalPoses(poses, both).p_values(far) == [1]
    unknown = np.zeros((5, 3), np.float32)
    none = NormalPoses(unknown, distances_between(unknown, [(np.arange(5), np.arange(5))]))
    assert none.p_values(far) == [1]
    assert none.own_p_values().tolist() == [1] * 5


def test_equal_poses_are_no_more_than_their_number() -> None:
    """Shifts alone have one angle, from which nothing differs."""
    poses = drawn(20, 0) * np.array([0, 1, 1], np.float32)
    normal = NormalPoses(poses, distances_between(poses, [(np.array([i]), np.delete(range(20), i)) for i in range(20)]))
    assert np.isfinite(normal.own_p_values()).all()
    assert normal.p_values(poses).min() > 0.05


@pytest.mark.parametrize("kind", ["normal", "even"])
@pytest.mark.parametrize("n", [10, 20, 50])
def test_poses_of_new_normal_images_are_rarely_rare(n: int, kind: str) -> None:
    """Of 20 poses by a normal distribution, a tail with their spread would call five times as many rare."""
    found = []
    for draw in range(150):
        poses = drawn(n, draw, kind)
        own = [(np.concatenate(held_out), rest) for rest, held_out in folds_of(n, 5, draw)]
        found.append(NormalPoses(poses, distances_between(poses, own)).p_values(drawn(100, 1000 + draw, kind)))
    for rate in (0.01, 0.005, 0.001):
        assert np.mean(np.concatenate(found) <= rate) < 1.5 * rate


# -- what it weighs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, np.array([*range(30), *[30] * 5, *[31] * 5])])
def test_levels_are_scores_that_are_as_rare(groups: np.ndarray | None) -> None:
    """That of a rate that ranks tell is its threshold; between them logarithms are, and a tail beyond."""
    scores = np.random.default_rng(0).gamma(4, 1, (40, 2)).astype(np.float32)
    evidence = PoseEvidence(drawn(40, 0), np.ones((40, 2), np.float32), scores, groups)
    sizes = np.bincount(np.arange(40) if groups is None else groups)
    numbers = np.arange(40) if groups is None else groups
    for column in range(2):
        rates = []
        for own in scores[:, column]:
            above = sum(1 / sizes[numbers[i]] for i in range(40) if scores[i, column] > own)
            rates.append((1 + above) / (1 + len(sizes)))
            [level] = evidence.levels(np.array([SHARE * rates[-1] * (1 - 1e-9)]))[:, column]
            assert level == pytest.approx(own, rel=1e-5)
            if rates[-1] < 1 - 1 / len(sizes):
                assert level == pytest.approx(conformal_threshold(scores[:, column], rates[-1] * 1.0000001, groups))
        (low, below), (high, above) = sorted(zip(rates, scores[:, column], strict=True))[1:3]
        [between] = evidence.levels(np.array([SHARE * math.sqrt(low * high)]))[:, column]
        assert between == pytest.approx((below + above) / 2, rel=1e-5)
        highest, least = scores[:, column].max(), 1 / (1 + len(sizes))
        [beyond] = evidence.levels(np.array([SHARE * 1e-7]))[:, column]
        assert beyond == pytest.approx(highest + scores[:, column].std() * math.log(least / 1e-7), rel=1e-5)
    assert np.isneginf(evidence.levels(np.array([1.0, SHARE, np.nan]))).all()


def test_a_pose_that_the_rate_does_not_allow_lifts_above_the_threshold() -> None:
    """By how much it is rarer; more never lowers; and what is usual stays to the bit."""
    poses, scores = drawn(50, 0), np.random.default_rng(0).gamma(4, 1, 50).astype(np.float32)
    for rate in (0.02, 0.05, 0.2):
        calibration = calibration_of(scores, rate=rate)
        made = with_poses(calibration, poses, 0)
        evidence = made.pose_evidence
        assert evidence is not None
        allowed = math.floor(51 * rate) / 51  # what ranks tell
        previous = np.zeros(30)
        for p in (1.0, 0.11, 0.09, allowed * SHARE * 1.001, allowed * SHARE * 0.999, 1e-3, 1e-4, 1e-6):
            found = evidence.lift(prediction_of(np.linspace(0.1, 20, 30, dtype=np.float32), np.full(30, p))).scores
            assert (found >= previous).all()
            assert (np.diff(found) >= 0).all()
            if p < allowed * SHARE:
                assert found.min() > calibration.threshold
            else:
                assert found.min() <= calibration.threshold
            previous = found
        raw = prediction_of(scores, np.where(np.arange(50) % 2, np.nan, SHARE))
        same = evidence.lift(raw)
        assert same.maps is raw.maps
        np.testing.assert_array_equal(same.scores, raw.scores)


def test_maps_are_lifted_where_they_are_highest() -> None:
    maps = np.random.default_rng(0).gamma(4, 1, (3, 5, 6)).astype(np.float32)
    highest, levels = maps.max((1, 2)), np.array([30, 0, -np.inf], np.float32)
    found = lifted(maps, highest, levels)
    np.testing.assert_array_equal(found[1:], maps[1:])
    assert found[0].max() == 30
    for place in np.ndindex(5, 6):
        own = float(maps[0][place])
        assert found[0][place] == pytest.approx(own + (30 - highest[0]) * (own / highest[0]) ** POWER, rel=1e-5)
    # Cells and region peaks are pixels, so they are lifted as these are.
    np.testing.assert_array_equal(lifted(maps.reshape(3, 30).max(1)[:, None], highest, levels)[:, 0], found.max((1, 2)))


@pytest.mark.parametrize("kind", ["normal", "even", "heavy"])
@pytest.mark.parametrize(("n", "rate"), [(20, 0.05), (40, 0.1), (100, 0.05)])
def test_the_threshold_keeps_its_rate(n: int, rate: float, kind: str) -> None:
    """New normal images, whose scores may go with their poses, exceed it as often as promised, or more seldom."""
    alarms, alone = [], []
    for draw in range(200):
        rng = np.random.default_rng(draw)
        poses, others = drawn(n, draw, kind), drawn(100, 10_000 + draw, kind)
        scores, new = (
            (5 + np.hypot(each[:, 1], each[:, 2]) + rng.gamma(4, 1, len(each))).astype(np.float32)
            for each in (poses, others)
        )
        calibration = calibration_of(scores, rate=rate)
        made = with_poses(calibration, poses, draw)
        assert made.pose_evidence is not None
        found = made.pose_evidence.lift(prediction_of(new, made.pose_evidence.normal.p_values(others)))
        alarms.append((found.scores > made.threshold).mean())
        alone.append((new > calibration.threshold).mean())
        assert made.threshold >= calibration.threshold
    assert np.mean(alarms) < rate + 3 * np.std(alarms) / math.sqrt(200)
    assert np.mean(alarms) < np.mean(alone) + SHARE * rate + 0.002


def test_poses_that_scatter_raise_the_threshold_by_what_they_take() -> None:
    """Where one in five normal parts lies anywhere, such poses are no evidence at the rate."""
    poses = drawn(40, 0)
    poses[::5, 1:] *= 40
    scores = np.random.default_rng(0).gamma(4, 1, 40).astype(np.float32)
    calibration = calibration_of(scores)
    made = with_poses(calibration, poses, 0)
    assert (made.scores > made.threshold).mean() <= calibration.false_alarm_rate
    assert made.pose_evidence is not None
    [usual] = made.pose_evidence.normal.p_values(np.array([[0, 70, 70]], np.float32))
    assert usual > SHARE


# -- the detector ----------------------------------------------------------------------------------------------------

POSES = np.random.default_rng(0).normal(0, [4, 1.5, 1.5], (30, 3))


def dusty(pose: Any, seed: int) -> np.ndarray:
    """A wedge with bright and dark spots anywhere: its maps are high, wherever it lies."""
    rng, image = np.random.default_rng(seed), wedge(*pose, seed).astype(float)
    rows, columns = np.meshgrid(*[np.arange(SIDE)] * 2, indexing="ij")
    for y, x in rng.uniform(4, SIDE - 4, (3, 2)):
        spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)
        image += 90 * rng.choice([-1, 1]) * spot[..., None]
    return image.clip(0, 255).astype(np.uint8)


MISPLACED = np.array([0, 13, 9])


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [dusty(pose, seed) for seed, pose in enumerate(POSES)]


@pytest.fixture(scope="module")
def tested() -> list[np.ndarray]:
    return [dusty(pose, 100 + seed) for seed, pose in enumerate([*POSES[:6], MISPLACED])]


@pytest.fixture(scope="module")
def fitted(images: list[np.ndarray]) -> PaDiM:
    detector = PaDiM(register="rigid", **SMALL).fit(np.stack(images))
    detector.calibrate()
    return detector


def test_a_part_in_a_wrong_place_is_anomalous_by_its_pose(fitted: PaDiM, tested: list[np.ndarray]) -> None:
    before, prediction = alone(fitted).predict(tested), fitted.predict(tested)
    assert prediction.poses is not None
    p_values = prediction.poses.pose_p_value
    assert p_values[-1] < SHARE * 0.03 < SHARE < p_values[:-1].min()
    np.testing.assert_array_equal(prediction.scores[:-1], before.scores[:-1])
    np.testing.assert_array_equal(prediction.maps[:-1], before.maps[:-1])
    assert fitted.threshold_ is not None
    assert prediction.scores[-1] > fitted.threshold_ > before.scores[-1]
    np.testing.assert_array_equal(prediction.scores, prediction.maps.max((1, 2)))
    assert prediction.anomalous is not None
    assert prediction.anomalous[-1]


def alone(detector: PaDiM) -> PaDiM:
    """The same without the evidence of poses."""
    other = copy.copy(detector)
    assert detector.calibration_ is not None
    other.calibration_ = detector.calibration_.changed(pose_evidence=None)
    return other


def test_the_calibration_compares_each_image_with_other_folds(fitted: PaDiM) -> None:
    made = fitted.calibration_
    assert made is not None
    assert made.pose_evidence is not None
    raw = made.changed(
        scores=made.pose_evidence.scores[:, 0],
        region_peaks=np.concatenate([made.pose_evidence.scores[:, 1:], made.region_peaks[:, 1:]], 1),
    )
    expected = with_poses(raw, fitted.statistics_.embeddings.poses.found.numpy(), fitted.seed)
    np.testing.assert_array_equal(made.scores, expected.scores)
    np.testing.assert_array_equal(made.pose_evidence.distances, expected.pose_evidence.distances)
    assert made.threshold == expected.threshold
    np.testing.assert_array_equal(made.scores, made.region_peaks[:, 0])
    np.testing.assert_array_equal(raw.scores, np.nanmax(made.map_maxima, (1, 2)))  # maps alone


def test_a_file_holds_the_evidence(fitted: PaDiM, tested: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fitted.save(path, dtype="float32")
    loaded, expected = load(path), fitted.predict(tested)
    found = loaded.predict(tested)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    np.testing.assert_array_equal(found.poses.pose_p_value, expected.poses.pose_p_value)
    run("calibrate", path, "--fpr", 0.1, "-o", tmp_path / "other.safetensors")
    other = load(tmp_path / "other.safetensors")
    np.testing.assert_allclose(other.predict(tested).scores, expected.scores, rtol=1e-5)
    assert other.threshold_ < loaded.threshold_
    loaded.threshold_ = 1.0  # by hand
    np.testing.assert_allclose(loaded.predict(tested).scores, expected.scores, rtol=1e-5)
    Image.fromarray(tested[-1]).save(tmp_path / "odd.png")
    run("predict", path, tmp_path / "odd.png", "--scores", tmp_path / "scores.csv")
    row = (tmp_path / "scores.csv").read_text().splitlines()[1].split(",")
    assert float(row[1]) == pytest.approx(expected.scores[-1], rel=1e-4)
    assert "True" in row or "true" in row


def test_poses_of_images_that_were_added_are_normal(images: list[np.ndarray], tested: list[np.ndarray]) -> None:
    detector = PaDiM(register="rigid", **SMALL).fit(np.stack(images))
    more = [dusty(pose, 200 + seed) for seed, pose in enumerate(POSES[:4] + MISPLACED)]
    detector.partial_fit(np.stack(more))
    assert detector.predict(tested).poses.pose_p_value[-1] < SHARE  # the mean image is of the first
    detector.calibrate()
    found = detector.predict(tested)
    assert found.poses.pose_p_value[-1] > SHARE
    np.testing.assert_array_equal(found.scores, alone(detector).predict(tested).scores)


@pytest.mark.parametrize("options", [{"score": "mean(0.01)"}, {"map_values": "p-value"}])
def test_other_scores_are_lifted_too(images: list[np.ndarray], tested: list[np.ndarray], options: Any) -> None:
    detector = PaDiM(register="rigid", **options, **SMALL).fit(np.stack(images))
    calibration = detector.calibrate()
    found, before = detector.predict(tested), alone(detector).predict(tested)
    np.testing.assert_array_equal(found.scores[:-1], before.scores[:-1])
    assert found.scores[-1] > calibration.threshold > before.scores[-1]


def test_a_benchmark_scores_as_a_calibrated_model(fitted: PaDiM, images: list[np.ndarray], tested: Any) -> None:
    detector = PaDiM(register="rigid", **SMALL)
    train, test = detector.extract_normal(np.stack(images)), detector.extract(tested[:1])
    extracted = Extracted(Extraction(train, 0.0, 0), Extraction(test, 0.0, 0))
    timed = TimedFit(detector, extracted, np.arange(30))
    timed.fit(np.arange(0))
    assert timed.normal_p_values() is None
    np.testing.assert_allclose(timed.predict(detector.extract(tested)).scores, fitted.predict(tested).scores, rtol=1e-4)
    few = TimedFit(PaDiM(register="rigid", **SMALL), extracted, np.zeros(30, dtype=np.int64))
    few.fit(np.arange(0))  # equal images make no folds
    assert few.detector.calibration_ is None


def test_a_damaged_file_is_refused_in_a_line(fitted: PaDiM, tmp_path: Path) -> None:
    header, arrays = fitted.to_state()
    short = {"calibration.pose_evidence.poses": arrays["calibration.pose_evidence.poses"][:3]}
    write_detector(tmp_path / "model.safetensors", header, arrays | short)
    with pytest.raises(InputError, match=r"pose_evidence[.]poses are not 3 numbers"):
        load(tmp_path / "model.safetensors")


def test_nothing_rests_on_evidence_that_is_not_there(fitted: PaDiM, tested: list[np.ndarray]) -> None:
    """Without a calibration no score is known that would be as rare."""
    assert fitted.calibration_ is not None
    uncalibrated = alone(fitted)
    uncalibrated.calibration_ = None
    prediction = uncalibrated.predict(tested)
    np.testing.assert_array_equal(prediction.scores, alone(fitted).predict(tested).scores)
    evidence = fitted.calibration_.pose_evidence
    assert evidence is not None
    without = replace(prediction, poses=None)
    assert evidence.lift(without) is without
