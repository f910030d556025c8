"""Region thresholds and regions as files: fit, calibrate, update, merge, export, predict, show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import padim_zoo
from padim_zoo.cli.main import main
from padim_zoo.detectors.config import REGION_AREAS
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.metrics.region_peak import region_peaks
from tests.command_line import run
from tests.image_files import write_noise

OPTIONS = ("--resize", "none", "--crop", "none", "--n-components", "20")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("images")
    return write_noise(root / f"{number:02}.png" for number in range(24))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "odd.png"
    picture = np.random.default_rng(1).integers(80, 160, (40, 40, 3), dtype=np.uint8)
    picture[8:24, 10:30] = (255, 0, 0)
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture(scope="module")
def model(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.safetensors"
    told = run("fit", *images, "-o", path, *OPTIONS, "--region-fpr", "0.1", "--region-area", "16")
    assert "for a rate of at most 0.1, from 16 pixels of the map" in told
    return path


def test_the_threshold_is_conformal_over_peaks_out_of_fold(images, model):
    calibration = padim_zoo.load(model).calibration_
    peaks = calibration.peaks_of(16)
    assert calibration.region_threshold == conformal_threshold(peaks, 0.1)
    assert calibration.region_peaks.shape == (len(images), len(REGION_AREAS))
    assert (calibration.region_peaks[:, 0] == calibration.scores).all()  # the score of PaDiM is the maximum
    assert (np.diff(calibration.region_peaks) <= 0).all()
    scored = padim_zoo.PaDiM(resize=None, n_components=20, precision="float32").fit(images[4:]).predict(images[:4])
    assert scored.maps is not None
    expected = [region_peaks(one, (16,))[0] for one in scored.maps]
    assert np.corrcoef(expected, peaks[:4])[0, 1] > 0.5


def test_a_model_decides_by_regions_where_it_was_told_to(images, odd, model, tmp_path):
    new = tmp_path / "new.safetensors"
    assert "decides    region" in run("calibrate", model, "--decide-by", "region", "-o", new)
    assert "decides    region" in run("show", new)
    assert "decides    image" in run("show", model)
    assert json.loads(run("show", new, "--json"))["region_area"] == 16
    detector = padim_zoo.load(new)
    calibration = detector.calibration_
    prediction = detector.predict([odd, *images[:6]])
    peaks = [region_peaks(one, (16,))[0] for one in prediction.maps]
    assert prediction.deciding_scores.tolist() == peaks
    assert prediction.threshold == calibration.region_threshold
    assert prediction.anomalous.tolist() == [bool(regions) for regions in prediction.regions]
    assert (detector.decision_function([odd]) < 0).all()
    rows = json.loads(run("predict", new, odd, images[0], "--scores", "-", "--format", "json").split("decided by")[0])
    assert [row["score"] for row in rows] == pytest.approx(peaks[:2], rel=1e-5)
    assert rows[0]["anomalous"]
    assert "decided by the region threshold" in run("predict", new, odd)
    # Scores and the image threshold are as they were.
    assert detector.threshold_ == padim_zoo.load(model).threshold_


def test_regions_are_written_as_json_and_coco(odd, images, model, tmp_path):
    own, coco = tmp_path / "r.json", tmp_path / "r.coco.json"
    told = run("predict", model, odd, images[0], "--regions", own, "--scores", tmp_path / "s.csv")
    assert f"in {own}" in told
    run("predict", model, odd, images[0], "--regions", coco, "--scores", tmp_path / "s.csv")
    document, data_set = json.loads(own.read_text()), json.loads(coco.read_text())
    prediction = padim_zoo.load(model).predict([odd, images[0]])
    assert document["least_area"] == 16
    for told_of, regions in zip(document["images"], prediction.regions, strict=True):
        assert told_of["regions"] == json.loads(json.dumps([region.to_dict() for region in regions]))
    first = document["images"][0]
    assert (first["path"], first["height"], first["width"], first["anomalous"]) == (str(odd), 40, 40, True)
    assert [one["bbox"] for one in data_set["annotations"] if one["image_id"] == 1] == [
        region["box"] for region in first["regions"]
    ]


def test_later_fits_keep_the_rate_and_the_area(images, model, tmp_path):
    part = tmp_path / "part.safetensors"
    options = (*OPTIONS, "--region-fpr", "0.2", "--region-area", "4", "--decide-by", "region")
    run("fit", *images[:12], "-o", part, *options)
    rest = run("fit", *images[12:], "-o", tmp_path / "rest.safetensors", *options)
    assert "decides    region" in rest
    run("update", part, *images[12:18], "-o", tmp_path / "more.safetensors")
    for name in ("more", "merged"):
        if name == "merged":
            run("merge", part, tmp_path / "rest.safetensors", "-o", tmp_path / "merged.safetensors")
        calibration = padim_zoo.load(tmp_path / f"{name}.safetensors").calibration_
        assert (calibration.region_rate, calibration.region_area, calibration.decides) == (0.2, 4, "region")
        assert len(calibration.region_peaks) == (18 if name == "more" else 24)
        assert calibration.region_threshold == conformal_threshold(calibration.peaks_of(4), 0.2)
    run("fit", *images[18:], "-o", tmp_path / "plain.safetensors", *OPTIONS)
    told = run("merge", part, tmp_path / "plain.safetensors", "-o", tmp_path / "both.safetensors")
    assert "differ in their region thresholds" in told
    assert padim_zoo.load(tmp_path / "both.safetensors").calibration_.region_threshold is None


def test_an_export_keeps_regions_and_refuses_to_decide_by_them(model, odd, tmp_path):
    new, exported, out = tmp_path / "new.safetensors", tmp_path / "m.pt2", tmp_path / "r.json"
    run("calibrate", model, "--decide-by", "region", "-o", new)
    refused = run("export", new, "--format", "torch", "-o", exported, "--images", odd, code=2)
    assert "decides by region" in refused
    run("export", model, "--format", "torch", "-o", exported, "--images", odd)
    run("predict", exported, odd, "--regions", out, "--scores", tmp_path / "s.csv")
    told = json.loads(out.read_text())["images"][0]["regions"]
    expected = padim_zoo.load(model).predict([odd]).regions[0]
    assert [region["box"] for region in told] == [list(region.box) for region in expected]
    assert {region["p_value"] for region in told} == {None}
    assert "from 16 pixels of the map" in run("show", exported)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--region-area", 4), "without --region-fpr"),
        (("--decide-by", "region"), "there is no region threshold to decide by"),
        (("--shard", "1/2", "--region-fpr", "0.2"), "after the merge"),
        (("--shard", "1/2", "--decide-by", "pixel"), "after the merge"),
    ],
)
def test_what_cannot_be_is_refused_before_a_fit(images, tmp_path, monkeypatch, options, why):
    monkeypatch.setattr(padim_zoo.PaDiM, "fit", None)
    assert why in run("fit", *images, "-o", tmp_path / "m.safetensors", *OPTIONS, *options, code=2)


def test_mistakes_get_one_line(images, model, tmp_path):
    out = tmp_path / "m.safetensors"
    assert "expected one of 1, 4, 16, 64, 256" in run(
        "calibrate", model, "--region-fpr", "0.1", "--region-area", 3, code=2
    )
    assert "without --region-fpr" in run("calibrate", model, "--region-area", 4, code=2)
    assert "needs at least 99" in run("calibrate", model, "--region-fpr", "0.01", code=2)
    assert "needs at least 99" in run("fit", *images, "-o", out, *OPTIONS, "--region-fpr", "0.01", code=2)
    run("fit", *images, "-o", out, *OPTIONS)
    assert "no region threshold to decide by" in run("calibrate", out, "--decide-by", "region", code=2)
    run("fit", *images[:8], "-o", tmp_path / "mapless.safetensors", *OPTIONS[:4], "--detector", "mahalanobis-ad")
    mapless = tmp_path / "mapless.safetensors"
    assert "no out-of-fold maps" in run("calibrate", mapless, "--region-fpr", "0.2", code=2)
    assert "leave out --maps and --regions" in run("predict", mapless, images[0], "--regions", out, code=2)
    both = tmp_path / "both.safetensors"
    run("fit", *images, "-o", out, *OPTIONS, "--sigma", "2")
    run("combine", model, out, "-o", both)
    assert "an ensemble" in run("calibrate", both, "--region-fpr", "0.2", code=2)
    run("calibrate", both, "--decide-by", "pixel", "--in-place")
    assert padim_zoo.load(both).predict(images[:1]).decides == "pixel"


def test_a_rate_may_be_one_of_an_hour(model):
    told = run("calibrate", model, "--alarms-per-hour", "6", "--parts-per-hour", "60")
    assert "for a false-alarm rate of at most 0.1" in told
    assert "at 60 parts per hour: at most 6 alarms" in told
    assert "0.01 takes 99, 75 more" in told
    assert "give both" in run("calibrate", model, "--alarms-per-hour", "6", code=2)
    assert "fewer alarms than parts" in run("calibrate", model, "--alarms-per-hour", 6, "--parts-per-hour", 6, code=2)
    both = ("--alarms-per-hour", 6, "--parts-per-hour", 60, "--fpr", "0.1")
    assert "excludes --fpr" in run("calibrate", model, *both, code=2)


def test_a_model_that_forgets_keeps_its_regions_if_it_can(images, tmp_path):
    model = tmp_path / "m.safetensors"
    run("fit", *images[:12], "-o", model, *OPTIONS, "--region-fpr", "0.09", "--decide-by", "region")
    told = run("forget", model, images[0], "-o", tmp_path / "one.safetensors")
    assert "for a rate of at most 0.09" in told
    assert padim_zoo.load(tmp_path / "one.safetensors").calibration_.decides == "region"
    told = run("forget", model, *images[:4], "-o", tmp_path / "four.safetensors")
    assert "threshold removed, for a false-alarm rate of 0.09 needs at least 11" in told
    calibration = padim_zoo.load(tmp_path / "four.safetensors").calibration_
    assert (calibration.decides, calibration.region_threshold, calibration.rate_asked) == ("image", None, False)


def test_an_evaluation_counts_the_decisions_of_predict(images, odd, model, tmp_path):
    decided = tmp_path / "by_region.safetensors"
    run("calibrate", model, "--decide-by", "region", "-o", decided)
    random = np.random.default_rng(7)
    for number in range(8):
        path = tmp_path / "data" / "test" / "good" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(80, 160, (40, 40, 3), dtype=np.uint8)).save(path)
    (tmp_path / "data" / "test" / "red").mkdir()
    (tmp_path / "data" / "test" / "red" / "odd.png").write_bytes(odd.read_bytes())
    (tmp_path / "data" / "train" / "good").mkdir(parents=True)
    (tmp_path / "data" / "train" / "good" / "0.png").write_bytes(images[0].read_bytes())

    arguments = ("evaluate", decided, "--data-root", tmp_path / "data", "--json")
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    by_region, by_image = json.loads(result.stdout)["thresholds"][:2]
    detector = padim_zoo.load(decided)
    prediction = detector.predict(sorted((tmp_path / "data" / "test" / "good").iterdir()))
    assert by_region["threshold_for"] == "decision by region"
    assert by_region["false_alarms"]["count"] == prediction.anomalous.sum()
    assert by_region["detections"]["count"] == 1
    assert by_image["score"] == pytest.approx(detector.calibration_.threshold)
    assert by_image["false_alarms"]["count"] == (prediction.scores > detector.calibration_.threshold).sum()


def test_maps_of_p_values_by_fit_or_by_predict(images, odd, model, tmp_path):
    rare = tmp_path / "rare.safetensors"
    told = run(
        "fit", *images, "-o", rare, *OPTIONS, "--region-fpr", "0.1", "--region-area", "16", "--map-values", "p-value"
    )
    assert "maps       of p-values, -log10" in run("show", rare)
    assert "from 16 pixels of the map" in told
    asked = run("predict", model, odd, *images[:3], "--map-values", "p-value", "--maps", "npy", "-o", tmp_path / "a")
    assert "scores and maps are -log10 of p-values: from ranks of normal images up to 1.40 (p 0.04)" in asked
    beyond = "is beyond 1.40, where the ranks of 24 different normal images end"
    assert (told.count(beyond), asked.count(beyond)) == (1, 1)
    assert beyond not in run("predict", rare, odd, "--threshold", "1.2", "--scores", tmp_path / "low.csv")
    run("predict", rare, odd, *images[:3], "--maps", "npy", "-o", tmp_path / "b", "--regions", tmp_path / "r.json")
    assert (tmp_path / "a/scores.csv").read_text() == (tmp_path / "b/scores.csv").read_text()
    one, other = (np.load(next((tmp_path / folder).rglob("odd*.npy"))) for folder in "ab")
    assert (one == other).all()
    assert other.max() > 1.4
    (region, *_) = json.loads((tmp_path / "r.json").read_text())["images"][0]["regions"]
    assert region["score"] == pytest.approx(float(other.max()))
    refused = CliRunner().invoke(main, ["predict", str(rare), str(odd), "--map-values", "score"])
    assert refused.exit_code == 2
    assert "has --map-values p-value: fit without it for scores" in refused.output
    later = tmp_path / "later.safetensors"
    options = ("--region-fpr", "0.1", "--region-area", "16", "--map-values", "p-value")
    assert run("calibrate", model, *options, "-o", later).count(beyond) == 1
    run("calibrate", model, *options, "-o", later)  # the same model, so it may be replaced
    assert "maps       of p-values, -log10" in run("show", later)
    run("predict", later, odd, *images[:3], "-o", tmp_path / "c")
    assert (tmp_path / "c/scores.csv").read_text() == (tmp_path / "b/scores.csv").read_text()
    assert padim_zoo.load(later).calibration_.region_threshold == padim_zoo.load(rare).calibration_.region_threshold
    refused = CliRunner().invoke(main, ["calibrate", str(later), "--map-values", "score"])
    assert refused.exit_code == 2
    assert "fit without it for scores" in refused.output
    by_hand = tmp_path / "by-hand.safetensors"
    run("calibrate", model, "--threshold", "1.2", "--map-values", "p-value", "-o", by_hand)
    assert padim_zoo.load(by_hand).threshold_ == 1.2
    again = tmp_path / "again.safetensors"
    run("calibrate", model, "--threshold", "5", "-o", by_hand.with_name("scores.safetensors"))
    refused = CliRunner().invoke(main, ["calibrate", str(tmp_path / "scores.safetensors"), "--map-values", "p-value"])
    assert "calibrate for a rate (--fpr)" in refused.output
    told = run("calibrate", tmp_path / "scores.safetensors", "--map-values", "p-value", "--fpr", "0.1", "-o", again)
    assert "threshold" in told
    asked = (["calibrate", str(one), "--fpr", "0.1", "--json"] for one in (again, later, rare))
    (same,) = {json.loads(CliRunner().invoke(main, words).stdout)["threshold"] for words in asked}
    assert padim_zoo.load(again).threshold_ == same
    exported = ["export", str(rare), "--format", "torch", "-o", str(tmp_path / "m.pt2")]
    refused = CliRunner().invoke(main, exported)
    assert refused.exit_code == 2
    assert "a network compares with no normal images" in refused.output
