"""The report: its data against the run store, and the page itself in a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_up_runs import EVIL, made_up_gallery, write_run
from sklearn.metrics import auc

from padim_zoo.bench.gallery import Gallery, Shown
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.store import RunStore, digest_of
from padim_zoo.bench.suite import Suite
from padim_zoo.cli.bench import bench
from padim_zoo.cli.main import main
from padim_zoo.metrics import METRICS
from padim_zoo.report.commands import reproducing_command
from padim_zoo.report.gallery import Pictures, thinned
from padim_zoo.report.page import render_report, report_data, run_curves


def test_the_data_are_those_of_the_store(store: RunStore) -> None:
    documents = store.read_all().documents
    data = report_data(store, documents)
    assert len(data["runs"]) == len(documents) == 8
    runs = [row for row in data["rows"] if not row["mean"]]
    assert len({(row["category"], row["name"]) for row in runs}) == 8
    assert {row["name"] for row in runs} == {
        f"{estimator}{size}" for estimator in ("full", "diagonal") for size in ("", " · train size 6")
    }
    for row in runs:
        run, arrays = data["runs"][row["id"]], store.scores(row["id"])
        assert row["pixel_auroc"] == np.mean([fold["pixel_auroc"] for fold in run["folds"]])
        assert len(run["normal"]) == (arrays["labels"] == 0).sum()
        np.testing.assert_allclose(run["normal"], arrays["scores"].mean(0)[arrays["labels"] == 0], rtol=1e-4)


def test_area_below_a_curve_is_the_metric_beside_it(store: RunStore) -> None:
    """Runs of two folds: the mean of their curves is drawn, and the mean of their metrics stands beside it."""
    data = report_data(store, store.read_all().documents)
    for row in (row for row in data["rows"] if not row["mean"]):
        run = data["runs"][row["id"]]
        assert len(run["folds"]) == 2
        for metric in METRICS.values():
            if metric.curve is not None:
                x, y = run[metric.curve]
                assert auc(x, y) / x[-1] == pytest.approx(row[metric.name], abs=1e-3), metric.name


def test_no_curve_without_both_kinds_of_images() -> None:
    assert run_curves({"labels": np.zeros(3), "scores": np.arange(3.0)[None]}) == {}


def test_the_command_of_a_row_plans_the_same_run(store: RunStore, suite: Suite) -> None:
    names = {option: parameter.name for parameter in bench.params for option in parameter.opts}
    for document in store.read_all().documents:
        program, command, *words = shlex.split(reproducing_command(document))
        assert (program, command) == ("padim-zoo", "bench")
        asked: dict[str, Any] = {
            str(names[option]): value for option, value in zip(words[::2], words[1::2], strict=True)
        }
        asked["data_root"] = str(suite.data_root)
        assert [run.id for run in make_plan(Suite.from_settings(asked)).runs] == [document["id"]]


def test_nothing_in_a_run_store_can_end_its_script(store: RunStore, tmp_path: Path) -> None:
    shutil.copytree(store.folder, tmp_path / "runs")
    path = next((tmp_path / "runs").glob("*.json"))
    document = json.loads(path.read_text())
    document["notes"] = [EVIL]
    path.write_text(json.dumps(document | {"digest": digest_of(document)}))
    copy = RunStore(tmp_path / "runs")
    write_run(copy, category=EVIL, estimator=EVIL, gallery=1)
    page = render_report(copy).page
    assert "</script><script>alert" not in page
    assert EVIL in str(_data(page))


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for arguments, message in (
        (["report", str(tmp_path / "none")], "there is no run store"),
        (["report", str(tmp_path), "-o", str(tmp_path / "report.html")], "holds no run"),
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert len(result.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_fifty_runs_stay_under_ten_megabytes(tmp_path: Path) -> None:
    """Pictures of noise, which no picture of anything is as large as: images are left out until the page is small."""
    store = RunStore(tmp_path / "runs")
    for number in range(50):
        write_run(store, category=f"category {number}", gallery=2, side=112)
    page = render_report(store).page
    assert len(page.encode()) < 10e6
    data = _data(page)
    shown = [len(run["gallery"]["items"]) for run in data["runs"].values() if run["gallery"]]
    assert set(shown) == {3}  # one of each kind
    assert sum("left out" in (run["no_gallery"] or "") for run in data["runs"].values()) == 50 - len(shown)


def test_a_picture_that_runs_share_is_in_the_page_once() -> None:
    gallery = made_up_gallery(np.random.default_rng(0), 2, side=16)
    pictures = Pictures()
    pictures.add("a", gallery)
    once = dict(pictures.pictures)
    pictures.add("b", gallery)
    assert pictures.pictures == once
    assert len(once) == 12
    item = pictures.by_run["b"]["items"][0]
    assert base64.b64decode(once[item["image"]].removeprefix("data:image/png;base64,")) == gallery.images[0]
    assert item["mask"] is None


def test_fewer_images_are_the_worst_ones() -> None:
    items = [
        Shown(0, "a", "x", 1, 0.1, ("miss", "random")),
        Shown(1, "b", "x", 1, 0.2, ("miss",)),
        Shown(2, "c", "x", 0, 0.3, ("random",)),
    ]
    fewer = thinned(Gallery(items, {}, {}, {}), 1).items
    assert [(item.index, item.reasons) for item in fewer] == [(0, ("miss", "random"))]


def test_the_page_goes_without_what_is_damaged(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    one, two, three = (write_run(store, category=name, gallery=1) for name in ("a", "b", "c"))
    (store.folder / f"{one}.gallery.safetensors").write_bytes(b"no tensors")
    (store.folder / f"{two}.safetensors").unlink()
    (store.folder / "other.json").write_text("{")
    result = CliRunner().invoke(main, ["report", str(store.folder), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output
    assert f"the gallery of run {one} cannot be read" in result.stderr
    assert f"no curves of run {two}" in result.stderr
    assert "other.json is not a run document" in result.stderr
    runs = _data((tmp_path / "report.html").read_text(encoding="utf-8"))["runs"]
    assert runs[one]["gallery"] is None
    assert "normal" not in runs[two]
    assert runs[three]["gallery"]


def test_a_page_without_pictures(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    run_id = write_run(store, category="a", gallery=1)
    page = render_report(store, images=0).page
    assert "data:image" not in page
    assert "without pictures" in _data(page)["runs"][run_id]["no_gallery"]


def test_the_page_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    """What can be said of it without a browser."""
    store = RunStore(tmp_path / "runs")
    for category in "abc":
        for estimator in ("full", "diagonal"):
            write_run(store, category=category, estimator=estimator, gallery=1)
    page = render_report(store).page
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", page)
    assert "{{" not in page.replace("{{x}}", "")
    ids = re.findall(r'\bid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\$\("([\w-]+)"\)', page)) <= set(ids)
    packed = re.search(r'id="plotly">([^<]*)<', page)
    assert packed
    assert b"plotly.js v" in gzip.decompress(base64.b64decode(packed[1]))[:500]
    data = _data(page)
    assert data["facets"] == ["estimator"]
    assert data["common"]["backbone"] == "resnet18"
    assert {row["name"] for row in data["rows"]} == {"full", "diagonal"}
    assert data["environments"] == [{"cpu": "a processor"}]
    assert len(bytes.fromhex(data["colors"])) == 3 * 256


def _data(page: str) -> dict[str, Any]:
    text = re.search(r'id="data">([^<]*)<', page)
    assert text
    data: dict[str, Any] = json.loads(text[1])
    return data
