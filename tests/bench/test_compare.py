"""Two run stores compared run by run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from padim_zoo import InputError
from padim_zoo.bench import compare as compare_module
from padim_zoo.bench.compare import compare_stores, holm
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunStore]:
    root = tmp_path_factory.mktemp("data")
    generate(root / "images", categories=["gear", "fabric"], train=10, good=4, defects_per_kind=2, size=64)
    stores = {}
    for name, settings in {
        "full": {"estimators": "full"},
        "diagonal": {"estimators": "diagonal"},
        "both": {"estimators": "full,diagonal"},
        "seed": {"estimators": "full", "seeds": "1"},
        "other": {"detectors": "mahalanobis-ad"},
        "drawn": {"estimators": "full", "reduction": "random", "seeds": "1"},
        "drawn again": {"estimators": "full", "reduction": "random", "seeds": "2"},
    }.items():
        given = {"data_root": str(root / "images"), "resize": "64", "crop": "none", "cache": False, **settings}
        suite = Suite.from_settings(given, {"output": str(root / name)})
        stores[name] = RunStore(suite.output)
        list(execute(suite, find_missing(make_plan(suite), stores[name]), stores[name]))
    return stores


def test_pairs_differ_in_what_the_stores_differ_in(stores):
    found = compare_stores(stores["full"], stores["diagonal"])
    assert list(found["category"]) == ["fabric", "gear", "mean"]
    assert found.attrs["differing"] == {"estimator": (['"full"'], ['"diagonal"'])}
    assert found.attrs["unpaired"] == (0, 0)
    for store, column in ((stores["full"], "image_auroc_a"), (stores["diagonal"], "image_auroc_b")):
        for document in store.read_all().documents:
            arrays = store.scores(document["id"])
            row = found[found["category"] == document["config"]["category"]].iloc[0]
            assert row[column] == pytest.approx(roc_auc_score(arrays["labels"], arrays["scores"][0]))
            assert row["difference"] == pytest.approx(row["image_auroc_b"] - row["image_auroc_a"])
            assert math.isnan(row["low"]) or row["low"] <= row["difference"] <= row["high"]
    mean = found.iloc[-1]
    assert mean["difference"] == pytest.approx(found["difference"][:2].mean())
    assert mean["pixel_auroc_difference"] == pytest.approx(found["pixel_auroc_difference"][:2].mean())
    turned = compare_stores(stores["diagonal"], stores["full"])
    np.testing.assert_allclose(turned["difference"], -found["difference"])


def test_a_store_does_not_differ_from_itself(stores):
    found = compare_stores(stores["both"], stores["both"])
    assert (found["difference"] == 0).all()
    assert not found["significant"].any()
    assert found.attrs["differing"] == {}


def test_runs_without_a_partner_are_counted(stores):
    found = compare_stores(stores["both"], stores["full"])
    assert len(found) == 3
    assert found.attrs["unpaired"] == (2, 0)


def test_detectors_are_compared_though_one_has_settings_that_the_other_has_not(stores):
    found = compare_stores(stores["full"], stores["other"])
    assert list(found["category"]) == ["fabric", "gear", "mean"]
    assert found.attrs["differing"]["detector"] == (['"padim"'], ['"mahalanobis-ad"'])
    assert found.attrs["differing"]["estimator"] == (['"full"'], ["null"])


def test_other_draws_are_no_pairs(stores):
    with pytest.raises(InputError, match="has a partner in"):
        compare_stores(stores["drawn"], stores["drawn again"])


def test_a_mean_has_no_interval_beyond_the_possible():
    row = {f"{prefix}{name}": math.nan for prefix in ("", "aupimo_") for name in ("difference", "low", "p_value")}
    far, near = (
        [row | {"category": name, "difference": value} for name, value in pair]
        for pair in ((("a", 0.1), ("b", -0.15)), (("a", 0.1), ("b", 0.11)))
    )
    mean = compare_module._mean_row(far)
    assert math.isnan(mean["low"])
    assert math.isnan(mean["high"])
    assert mean["p_value"] > 0.5
    assert compare_module._mean_row(near)["low"] < 0.1


def test_the_head_names_settings_of_what_is_compared(stores):
    result = CliRunner().invoke(main, ["compare", *(str(stores[name].folder) for name in ("both", "other"))])
    assert "['" not in result.output
    found = compare_stores(stores["both"], stores["full"])
    assert all('"diagonal"' not in values for sides in found.attrs["differing"].values() for values in sides)


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, float("nan")]) == [True, False, False, False]
    assert holm([0.01, 0.04, 0.02]) == [True, True, True]
    assert holm([]) == []


@pytest.mark.parametrize("form", ["table", "csv", "json", "md"])
def test_the_command_shows_it(stores, tmp_path, form):
    result = CliRunner().invoke(
        main, ["compare", str(stores["full"].folder), str(stores["diagonal"].folder), "--format", form]
    )
    assert result.exit_code == 0, result.output
    assert "fabric" in result.output
    assert form != "table" or "estimator: A full; B diagonal" in result.output
    assert "AUPRO" in result.output or form in ("csv", "json")
    assert "AUPIMO" not in result.output  # so few normal pixels define none, and a table has no column for it


@pytest.fixture
def with_overlaps(stores, tmp_path: Path) -> tuple[RunStore, RunStore]:
    """Two stores of one run each, with AUPIMO of each image: B finds more of every defect, the more the later."""
    [document] = [d for d in stores["full"].read_all().documents if d["config"]["category"] == "gear"]
    arrays = stores["full"].scores(document["id"])
    anomalous = arrays["labels"] == 1
    pair = []
    for name, gain in (("a", 0.0), ("b", 0.1)):
        overlaps = np.where(anomalous, 0.2 + gain * (1 + np.arange(len(anomalous)) / 40), np.nan).astype(np.float32)
        folds = [{**document["folds"][0], "aupimo": float(np.nanmean(overlaps))}]
        pair.append(RunStore(tmp_path / name))
        pair[-1].write({**document, "folds": folds}, {**arrays, "aupimo_per_image": overlaps[None]})
    return pair[0], pair[1]


def test_a_metric_of_images_is_compared_image_by_image(with_overlaps):
    [row] = compare_stores(*with_overlaps).to_dict("records")
    assert row["aupimo_low"] < row["aupimo_difference"] < row["aupimo_high"]
    assert row["aupimo_difference"] > 0.1
    assert row["aupimo_p_value"] < 0.01
    assert row["aupimo_significant"]
    assert not row["significant"]
    result = CliRunner().invoke(main, ["compare", *(str(store.folder) for store in with_overlaps)])
    assert "AUPIMO 95 % interval" in result.output
    assert "*" in result.output
    told = CliRunner().invoke(main, ["compare", *[str(with_overlaps[0].folder)] * 2])
    assert "not defined" in told.output
    assert "*" not in told.output


def test_a_run_without_values_of_images_has_no_such_comparison(stores, with_overlaps):
    found = compare_stores(stores["full"], stores["diagonal"])
    assert found[["aupimo_difference", "aupimo_low", "aupimo_p_value"]].isna().all(axis=None)
    assert not found["aupimo_significant"].any()


def test_no_interval_is_without_width(stores, with_overlaps):
    for found in (compare_stores(stores["full"], stores["full"]), compare_stores(*with_overlaps)):
        for low, high in ((found["low"], found["high"]), (found["aupimo_low"], found["aupimo_high"])):
            assert ((low < high) | (low.isna() & high.isna())).all()


def test_mistakes_are_one_line(stores, tmp_path: Path):
    full = str(stores["full"].folder)
    for arguments, message in (
        ([full, str(tmp_path / "none")], "there is no run store"),
        ([full, str(tmp_path)], "holds no run"),
        ([full, full, "-o", str(tmp_path / "x.xls")], "ends in .xls"),
    ):
        result = CliRunner().invoke(main, ["compare", *arguments])
        assert result.exit_code == 2
        assert message in result.output
        assert len(result.output.splitlines()) == 1


def test_a_run_that_draws_nothing_is_a_partner_under_every_seed(stores):
    # One seed is run where nothing is drawn: which one it is says nothing.
    comparison = compare_stores(stores["full"], stores["seed"])
    assert comparison.attrs["unpaired"] == (0, 0)
    assert list(comparison["difference"]) == [0, 0, 0]
