"""What a fit is said to cost is what it costs, as far as a machine that does other work can tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from padim_zoo import SPADE, STFPM, InputError, MahalanobisAD, PaDiM, PatchCore, Subspace
from padim_zoo.bench import fit_cost
from padim_zoo.bench.fit_cost import fit_costs
from padim_zoo.cli.main import main
from tests.wedges import wedge


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight images of (200, 264) pixels: noise on stripes."""
    folder, rng = tmp_path_factory.mktemp("normal"), np.random.default_rng(0)
    stripes = 120 + 60 * np.sin(np.arange(264) / 5)[None, :, None]
    for number in range(8):
        image = np.clip(stripes + rng.normal(0, 20, (200, 264, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (PaDiM, {}),
        (PaDiM, {"estimator": "tied(cells=4)"}),
        (PaDiM, {"estimator": "diagonal"}),
        (PatchCore, {"coreset_ratio": 0.05}),
        (SPADE, {}),
        (MahalanobisAD, {}),
        (Subspace, {}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_model_has_the_size_that_was_told(
    kind: Any, own: dict[str, Any], paths: list[Path], tmp_path: Path
) -> None:
    detector = kind(resize=None, **own)
    told = fit_costs(detector, paths, 2)[0]
    detector.fit(paths).calibrate(folds=2)
    detector.save(tmp_path / "model")
    embeddings = detector.statistics_.embeddings
    assert told.dimensions == embeddings.D
    assert told.model_mb * 1e6 == pytest.approx((tmp_path / "model").stat().st_size, rel=0.1, abs=50_000)
    assert told.seconds > 0
    assert told.memory_mb > 0


def test_what_a_resumable_model_holds_is_counted(paths: list[Path], tmp_path: Path) -> None:
    detector = PaDiM(resize=None, estimator="tied(cells=4)", n_components=16)
    plain, told = (fit_costs(detector, paths, 2, resumable=each)[0].model_mb for each in (False, True))
    detector.fit(paths).calibrate(folds=2)
    detector.save(tmp_path / "model", resumable=True)
    assert told > plain + 0.5
    assert told * 1e6 == pytest.approx((tmp_path / "model").stat().st_size, rel=0.1, abs=50_000)


def test_the_detector_stays_unfitted(paths: list[Path]) -> None:
    detector = PaDiM(resize=None)
    fit_costs(detector, paths, 2)
    with pytest.raises(InputError, match="not fitted"):
        detector.predict(paths)


def test_cheaper_ways_are_told_and_the_first_small_enough_is_recommended(paths: list[Path]) -> None:
    costs = fit_costs(PaDiM(resize=None, memory=10**9), paths, 2)
    ways = [cost.way for cost in costs]
    assert ways[0] == "as asked"
    assert any("tied(cells=8)" in way for way in ways)
    assert any("--n-components" in way for way in ways)
    assert any("--layers" in way for way in ways)
    assert [cost.recommended for cost in costs] == [True] + [False] * (len(costs) - 1)
    sizes = {cost.way: cost.model_mb for cost in costs}
    between = (sizes["as asked"] + sizes['--estimator "tied(cells=8)"']) / 2
    tight = fit_costs(PaDiM(resize=None, memory=int(between * 1e6)), paths, 2)
    assert [cost.way for cost in tight if cost.recommended] == ['--estimator "tied(cells=8)"']


@pytest.mark.parametrize("power", [1, 2])
def test_rounds_of_leave_one_out_are_counted(power: int, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_cost._Probe, "of", staticmethod(probe_of(fit_cost._Probe.of, power)))
    without, once, often = (fit_costs(PaDiM(resize=None), paths, 2, rounds)[0] for rounds in (0, 1, 8))
    assert once.seconds - without.seconds == pytest.approx(once.patches**power, rel=0.2)
    assert often.seconds - once.seconds == pytest.approx(7 * once.patches**power, rel=0.2)


def probe_of(of: Any, power: int) -> Any:
    """Probes of which a round takes the power of its patches, in seconds."""

    def probe(detector: Any, parts: Any, folds: int, rounds: int = 0, **_: bool) -> Any:
        made = of(detector, parts, folds, rounds)
        assert (made.seconds_of_round > 0) == (rounds > 0)
        return replace(made, seconds_of_round=float(made.patches**power) * (rounds > 0))

    return probe


def test_trims_are_told(paths: list[Path]) -> None:
    options = ["fit", str(paths[0].parent), "--dry-run", "--resize", "none", "--folds", "2"]
    trimmed = CliRunner().invoke(main, [*options, "--trim", "auto"])
    assert "the time is for 3 rounds of --trim" in trimmed.stdout, trimmed.output
    patches = CliRunner().invoke(main, [*options, "--trim-patches", "0.2"])
    assert patches.exit_code == 0, patches.output
    assert "as asked" in patches.stdout
    assert "tied" not in patches.stdout


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More wedges than poses are learned of."""
    folder = tmp_path_factory.mktemp("turned")
    poses = np.random.default_rng(0).uniform([-25, -4, -4], [25, 4, 4], (20, 3))
    for number, pose in enumerate(poses):
        Image.fromarray(wedge(*pose, number)).resize((128, 128)).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


def test_the_margin_of_turned_parts_is_counted(turned: list[Path], tmp_path: Path) -> None:
    detector = PaDiM(resize=None, register="rigid")
    plain, told = (fit_costs(PaDiM(resize=None, register=kind), turned, 2)[0] for kind in (None, "rigid"))
    detector.fit(turned).calibrate(folds=2)
    detector.save(tmp_path / "model")
    assert told.patches == detector.gaussian_.mean.P > plain.patches
    assert told.model_mb * 1e6 == pytest.approx((tmp_path / "model").stat().st_size, rel=0.1, abs=50_000)


@pytest.mark.parametrize("kind", ["translation", "rigid", "auto"])
def test_the_time_for_poses_of_all_images_is_counted(
    kind: str, turned: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []

    def choose(extractor: Any, images: list[Path], embed: Any) -> Any:
        asked = extractor.config.register
        seen.append((asked, len(images)))
        clock[0] += len(images) * {"translation": 100, "rigid": 1000, "auto": 6100}[asked]
        return None, ""

    clock = [0.0]
    real = fit_cost.time.perf_counter
    monkeypatch.setattr(fit_cost, "choose_registration", choose)
    monkeypatch.setattr(fit_cost.time, "perf_counter", lambda: real() + clock[0])
    monkeypatch.setattr(fit_cost, "MOST_IMAGES", 15)
    told = fit_costs(PaDiM(resize=None, register=kind), turned, 2)[0]
    # Of auto, 1100 is for learning both motions of all 20 images, and 5000 for comparing them on 15.
    expected = {"translation": 100 * 20, "rigid": 1000 * 20, "auto": 1100 * 20 + 5000 * 15}[kind]
    assert told.seconds == pytest.approx(expected, abs=60)
    assert {count for _, count in seen} == {fit_cost.IMAGES_OF_POSES}
    assert (kind, fit_cost.IMAGES_OF_POSES) in seen


def test_the_command_says_what_poses_are_of(turned: list[Path]) -> None:
    options = ["fit", str(turned[0].parent), "--dry-run", "--resize", "none", "--folds", "2"]
    told = CliRunner().invoke(main, [*options, "--detector", "padim(register='translation')"])
    assert "poses were learned of 12 images here" in told.stdout, told.output


def test_no_images_cost_nothing_that_can_be_told() -> None:
    with pytest.raises(InputError, match="no images to tell the costs of: expected one normal image or more"):
        fit_costs(PaDiM(), [], 2)


def test_a_training_cannot_be_told(paths: list[Path]) -> None:
    with pytest.raises(InputError, match="--dry-run cannot tell what a fit of stfpm costs"):
        fit_costs(STFPM(), paths, 2)


def test_the_command_writes_nothing(paths: list[Path], tmp_path: Path) -> None:
    options = ["fit", str(paths[0].parent), "--dry-run", "--resize", "none", "--no-cache", "--folds", "2"]
    table = CliRunner().invoke(main, [*options, "-o", str(tmp_path / "model")])
    assert table.exit_code == 0, table.output
    assert "as asked" in table.stdout
    assert "recommended" in table.stdout
    assert not list(tmp_path.iterdir())
    as_json = CliRunner().invoke(main, [*options, "--json"])
    rows = json.loads(as_json.stdout)
    assert {"way", "seconds", "memory_mb", "scratch_mb", "model_mb", "recommended"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "no file to write: give --output FILE, or --dry-run"), (["--json", "-o", "m"], "add --dry-run")],
)
def test_what_goes_with_a_dry_run(options: list[str], message: str, paths: list[Path]) -> None:
    refused = CliRunner().invoke(main, ["fit", str(paths[0].parent), *options])
    assert refused.exit_code == 2
    assert message in refused.stderr
