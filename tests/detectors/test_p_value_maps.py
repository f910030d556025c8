"""Detectors whose maps say how rare a pixel is: held to the maps of each fold, made one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import padim_zoo
from padim_zoo import InputError, PaDiM, PatchCore
from padim_zoo.data.image import read_image
from padim_zoo.detectors.held_out import folds_of
from padim_zoo.detectors.p_value_maps import decides_by_p_values, note_on_tail, use_p_values
from padim_zoo.export.networks import exportable
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.metrics.map_p_values import NormalMaps, cell_maxima
from padim_zoo.metrics.region_peak import region_peaks
from tests.image_files import write_noise

OPTIONS = {"resize": (48, 48), "n_components": 12, "precision": "float32"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    root: Path = tmp_path_factory.mktemp("images")
    return [read_image(path) for path in write_noise(root / f"{number:02}.png" for number in range(24))]


def test_maps_scores_and_thresholds_are_those_of_folds_made_one_by_one(images):
    normal, test = images[:20], images[20:]
    groups = np.array([0, 0, *range(1, 19)])
    scored = PaDiM(**OPTIONS).fit(normal)
    maps = np.empty((20, *scored.image_size_), dtype=np.float32)
    for rest, parts in folds_of(20, 5, 0, groups):
        without = PaDiM(**OPTIONS).fit([normal[image] for image in rest])
        for held_out in parts:
            maps[held_out] = without.predict([normal[image] for image in held_out]).maps
    compared = NormalMaps(np.stack([cell_maxima(one) for one in maps]), groups)

    detector = PaDiM(**OPTIONS, map_values="p-value").fit(normal)
    calibration = detector.calibrate(groups=groups)
    prediction, expected = detector.predict(test), compared.values(scored.predict(test).maps)
    np.testing.assert_allclose(prediction.maps, expected, rtol=2e-3, atol=2e-3)
    assert (prediction.scores == prediction.maps.max((1, 2))).all()
    of_normal = [compared.values_of_normal(image) for image in range(20)]
    np.testing.assert_allclose(calibration.scores, [one.max() for one in of_normal], rtol=2e-3, atol=2e-3)
    assert calibration.threshold == conformal_threshold(calibration.scores, calibration.false_alarm_rate, groups)
    wide = [one.repeat(8, 0).repeat(8, 1)[: maps.shape[1], : maps.shape[2]] for one in of_normal]
    peaks = [region_peaks(one, (16,))[0] for one in wide]
    np.testing.assert_allclose(calibration.peaks_of(16), peaks, rtol=2e-3, atol=2e-3)
    assert (calibration.peaks_of(1) == calibration.scores).all()


def test_a_detector_goes_over_to_p_values_as_it_would_have_been_fitted(images, tmp_path):
    scored, rare = (PaDiM(**OPTIONS, map_values=values).fit(images[:20]) for values in (None, "p-value"))
    for detector in (scored, rare):
        detector.calibrate(false_alarm_rate=0.1)
    before = scored.predict(images[20:])
    scored.save(tmp_path / "scored.safetensors", dtype="float32")
    loaded = padim_zoo.load(tmp_path / "scored.safetensors")
    use_p_values(loaded)
    expected = rare.predict(images[20:])
    loaded.save(tmp_path / "rare.safetensors", dtype="float32")
    for detector in (loaded, padim_zoo.load(tmp_path / "rare.safetensors")):
        prediction = detector.predict(images[20:])
        assert detector.map_values == "p-value"
        np.testing.assert_allclose(prediction.maps, expected.maps, rtol=1e-3, atol=1e-3)
        assert prediction.threshold == pytest.approx(expected.threshold, rel=1e-3)
    again = padim_zoo.load(tmp_path / "scored.safetensors").predict(images[20:])
    np.testing.assert_allclose(again.maps, before.maps, rtol=1e-4)


def test_regions_and_rules_of_score_are_of_p_values(images):
    odd = images[20].copy()
    odd[8:24, 10:30] = (255, 0, 0)
    detector = PaDiM(**OPTIONS, map_values="p-value", score="mean(0.1)").fit(images[:20])
    calibration = detector.calibrate(false_alarm_rate=0.1)
    detector.calibration_ = calibration.for_regions(0.1, 16).deciding_by("region")
    prediction = detector.predict([odd, images[21]])
    assert prediction.anomalous.tolist() == [True, False]
    top = np.sort(prediction.maps[0].ravel())[-round(0.1 * prediction.maps[0].size) :]
    assert prediction.scores[0] == pytest.approx(top.mean(), rel=1e-2)
    assert [len(one) for one in prediction.regions] == [1, 0]
    assert prediction.regions[0][0].p_value == pytest.approx(1 / 21)


def test_scores_that_are_not_of_the_map_stay(images):
    scored, rare = (PatchCore(resize=(48, 48), map_values=values).fit(images[:12]) for values in (None, "p-value"))
    assert rare.calibrate().threshold == scored.calibrate().threshold
    one, other = scored.predict(images[20:]), rare.predict(images[20:])
    assert (one.scores == other.scores).all()
    assert (one.maps != other.maps).any()
    assert not decides_by_p_values(rare)
    assert note_on_tail(rare) is None
    rare.calibration_ = rare.calibration_.deciding_by("pixel")
    assert decides_by_p_values(rare)


def test_what_cannot_be_is_refused_in_one_line(images):
    with pytest.raises(InputError, match="map_values is 'p': expected p-value, or None for scores"):
        PaDiM(**OPTIONS, map_values="p").fit(images[:5])
    detector = PaDiM(**OPTIONS, map_values="p-value").fit(images[:5])
    with pytest.raises(InputError, match="needs the maps of normal images: calibrate"):
        detector.predict(images[5:6])
    detector.calibrate()
    with pytest.raises(InputError, match="cannot be exported: a network compares with no normal images"):
        exportable(detector)
    by_hand = PaDiM(**OPTIONS).fit(images[:5])
    with pytest.raises(InputError, match="knows no maps of normal images"):
        use_p_values(by_hand)
    by_hand.calibrate()
    by_hand.threshold_ = 3.0
    with pytest.raises(InputError, match="set by hand, as a score and not as a p-value"):
        use_p_values(by_hand)
    few = PaDiM(**OPTIONS, map_values="p-value").fit(images[:2])
    with pytest.raises(InputError, match="3 or more different normal images, found 2"):
        few.calibrate(folds=2)


def test_more_images_and_ensembles_go_on_with_p_values(images):
    whole = PaDiM(**OPTIONS, map_values="p-value").fit(images[:20])
    grown = PaDiM(**OPTIONS, map_values="p-value").fit(images[:12])
    grown.calibrate()
    grown.partial_fit(images[12:20])
    assert grown.calibrate().threshold == pytest.approx(whole.calibrate().threshold, rel=1e-3)
    np.testing.assert_allclose(grown.predict(images[20:]).maps, whole.predict(images[20:]).maps, rtol=1e-3, atol=1e-3)
    scored = PaDiM(**OPTIONS).fit(images[:20])
    scored.calibrate()
    ensemble = padim_zoo.Ensemble([whole, scored])
    ensemble.calibrate()
    odd = images[20].copy()
    odd[8:24, 10:30] = (255, 0, 0)
    assert ensemble.predict([odd, images[21]]).anomalous.tolist() == [True, False]
    with pytest.raises(InputError, match="no out-of-fold maps to make p-values of"):
        ensemble.calibration_.normal_maps  # noqa: B018
