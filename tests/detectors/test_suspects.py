"""Normal images that are not stand out when each is scored by a fit on all others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.stats import norm

from padim_zoo import InputError, PaDiM, PatchCore
from padim_zoo.cli.main import main
from padim_zoo.detectors.mahalanobis_ad import MahalanobisAD
from padim_zoo.detectors.spade import SPADE
from padim_zoo.detectors.subspace import Subspace
from padim_zoo.detectors.suspects import find_suspects
from padim_zoo.metrics.suspicion import benjamini_hochberg, bulk_p_values, score_of_p_value
from padim_zoo.report.suspects_page import FolderSuspects

OPTIONS = {"resize": None, "crop": None, "precision": "float32"}
DEFECTS = [3, 11]
CORNER = np.zeros((64, 64), dtype=bool)
CORNER[:48, 8:] = True


def drawn() -> np.ndarray:
    """Stripes with noise, two with a spot."""
    rng = np.random.default_rng(0)
    stripes = 110 + 40 * np.sin(np.arange(64) / 3)[None, None, :, None]
    images = np.clip(stripes + rng.normal(0, 6, (24, 64, 64, 3)), 0, 255).astype(np.uint8)
    images[DEFECTS, 20:40, 24:44] = 250
    return images


IMAGES = drawn()


def by_n_fits(kind, options) -> np.ndarray:
    rest = [np.delete(np.arange(len(IMAGES)), image) for image in range(len(IMAGES))]
    fits = [kind(**OPTIONS, **options).fit(IMAGES[others]) for others in rest]
    return np.array([fit.predict(IMAGES[image : image + 1]).scores[0] for image, fit in enumerate(fits)])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PaDiM, {"n_components": 30}),
        (PaDiM, {"n_components": 6}),
        (PaDiM, {"n_components": 6, "estimator": "diagonal"}),
        (PaDiM, {"n_components": 30, "estimator": "ledoit-wolf"}),
        (PaDiM, {"n_components": 6, "tta": "flip"}),
        (PaDiM, {"n_components": 6, "score": "mean(0.02)"}),
        (PatchCore, {"coreset_ratio": 1.0}),
        (SPADE, {}),
        (Subspace, {}),
        (Subspace, {"augment": "flip", "tta": "flip"}),
        (Subspace, {"roi": CORNER}),
        (MahalanobisAD, {}),
    ],
)
def test_scores_are_those_of_n_fits(kind, options):
    lines: list[str] = []
    found = find_suspects(kind(**OPTIONS, **options).fit(IMAGES), exact=True, tell=lines.append)
    np.testing.assert_allclose(found.scores, by_n_fits(kind, options), rtol=2e-4)
    assert "takes about" in lines[0]
    if kind is PaDiM:
        assert set(found.ranking[:4]) >= set(DEFECTS)
        assert len(found.maps) == len(IMAGES)


def test_a_coreset_is_not_used():
    options = {"coreset_ratio": 1.0}
    found = find_suspects(PatchCore(**OPTIONS, coreset_ratio=0.1).fit(IMAGES))
    np.testing.assert_allclose(found.scores, by_n_fits(PatchCore, options), rtol=1e-4)
    assert found.method == "n fits without a coreset"


def test_a_frozen_shrinkage_is_told():
    detector = PaDiM(**OPTIONS, n_components=30, estimator="oas").fit(IMAGES)
    assert find_suspects(detector).method.startswith("with the shrinkage of all images")
    assert find_suspects(detector, exact=True).method == "exact"


def test_p_values_are_those_of_a_lognormal_bulk():
    scores = np.exp(np.random.default_rng(0).normal(1, 0.3, 20_000))
    expected = norm.sf((np.log(scores) - 1) / 0.3)
    np.testing.assert_allclose(bulk_p_values(scores), expected, atol=0.02)
    assert score_of_p_value(scores, 0.05) == pytest.approx(np.quantile(scores, 0.95), rel=0.02)
    assert (bulk_p_values(np.ones(9)) == 0.5).all()


def test_benjamini_and_hochberg():
    p_values = np.array([0.6, 0.01, 0.04, 0.03, 0.9])
    assert benjamini_hochberg(p_values, 0.05).tolist() == [False, True, False, False, False]
    assert benjamini_hochberg(p_values, 0.07).tolist() == [False, True, True, True, False]
    assert not benjamini_hochberg(np.full(4, 0.5), 0.05).any()


def test_refusals():
    with pytest.raises(InputError, match="expected 8 or more"):
        find_suspects(PaDiM(**OPTIONS).fit(IMAGES[:4]))
    with pytest.raises(InputError, match="between 0 and 1"):
        find_suspects(PaDiM(**OPTIONS).fit(IMAGES), rate=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "<b>photos"
    root.mkdir()
    for index, image in enumerate(IMAGES):
        Image.fromarray(image).save(root / f"{index:02}.png")
    return root


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["data", "suspects", "--estimator", "diagonal", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output if code == 2 else result.stdout


def test_a_folder_is_ranked_and_drawn(folder, tmp_path):
    sheet = tmp_path / "suspects.html"
    told = run(folder, "-o", sheet, "--resize", "64", code=1)
    assert "2 of 24 normal images are suspected (exact)" in told
    page = sheet.read_text()
    assert page.count("data:image/jpeg") == 24 * 6
    assert page.count("nearest normal patch") == 24 * 3
    assert "at the same place" in page
    assert "&lt;b&gt;photos" in page
    assert "<b>photos" not in page
    assert "http" not in page
    report = json.loads(run(folder, "--json", "--resize", "64", code=1))
    assert sorted(Path(row["path"]).stem for row in report["images"][:2]) == ["03", "11"]
    assert [row["suspected"] for row in report["images"][:3]] == [True, True, False]


def test_a_fit_draws_its_suspects(folder, tmp_path):
    sheet = tmp_path / "sheet.html"
    arguments = ["fit", folder, "-o", tmp_path / "m", "--report", sheet, "--estimator", "diagonal", "--resize", "64"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "2 of 24 normal images are suspected" in result.output
    assert sheet.read_text().count("data:image/jpeg") == 24 * 6


def test_a_sheet_of_images_of_several_sizes(folder, tmp_path):
    Image.fromarray(IMAGES[0][:, :56]).save(folder / "narrow.png")
    sheet = tmp_path / "sheet.html"
    arguments = ["data", "suspects", folder, "-o", sheet, "--detector", "subspace", "--resize", "none"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code in (0, 1), result.output
    assert "narrow.png (64x56)" in result.stdout
    page = sheet.read_text()
    assert page.count("nearest normal patch") == 24 * 3
    assert "at the same place" not in page


def test_a_sheet_without_maps_shows_the_images(folder, tmp_path):
    sheet = tmp_path / "sheet.html"
    arguments = ["data", "suspects", folder, "-o", sheet, "--detector", "mahalanobis-ad", "--resize", "64"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code in (0, 1), result.output
    page = sheet.read_text()
    assert page.count("data:image/jpeg") == 24
    assert "anomaly map" not in page
    assert result.stdout.endswith("the 24 highest scores\n")


def test_numbers_are_told_in_words():
    found = find_suspects(PaDiM(**OPTIONS, n_components=6).fit(IMAGES))
    one = np.arange(24) == 3
    told = FolderSuspects(
        [Path(f"{number}.png") for number in range(24)],
        replace(found, suspected=one),
        ["a = b"],
        [],
        {Path("c.png"): "5x7", Path("d.png"): "6x7"},
        {},
        [],
    )
    assert told.headline == "1 of 24 normal images is suspected"
    assert list(told.findings) == ["1 copy, which hides what both show", "2 images of another size"]


def test_clean_images_pass(folder):
    for index in DEFECTS:
        (folder / f"{index:02}.png").unlink()
    assert "0 of 22 normal images" in run(folder, "--resize", "64", "--rate", "1e-4")


def test_what_files_tell_is_listed(tmp_path):
    good, test = tmp_path / "part" / "train" / "good", tmp_path / "part" / "test" / "good"
    good.mkdir(parents=True), test.mkdir(parents=True)
    for index, image in enumerate(np.delete(IMAGES, DEFECTS, 0)):
        Image.fromarray(image).save(good / f"{index:02}.png")
    Image.fromarray(IMAGES[0]).save(test / "again.png")
    Image.fromarray(IMAGES[1]).save(good / "twice.png")
    for number in range(40, 50):
        Image.fromarray(np.roll(IMAGES[4], number * 5, 0)).save(good / f"{number}.png")
    Image.fromarray(IMAGES[5] // 4).resize((80, 64)).save(good / "odd.png")
    Image.fromarray(IMAGES[6]).save(good / "frame.jpg", quality=60)
    report = json.loads(run(tmp_path / "part", "--json", "--resize", "64x64", code=1))
    assert all("images may be near copies" in doubt for doubt in report["doubts"])
    assert any("twice.png (exact)" in line for line in report["copies"])
    assert [line for line in report["in_test"] if "again.png (exact)" in line]
    assert list(report["odd_sizes"].values()) == ["64x80"]
    assert [Path(path).name for path in report["odd_exposures"]] == ["odd.png"]


def test_a_rate_is_refused_before_a_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PaDiM, "fit", None)
    assert "--rate is 1.0" in run(tmp_path, "--rate", "1", code=2)
