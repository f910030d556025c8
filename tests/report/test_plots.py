"""Plots: what is drawn is what is in the run store, line by line and number by number."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_runs import write_run
from sklearn.metrics import auc

from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.store import RunStore
from padim_zoo.cli import plot as plot_command
from padim_zoo.cli.main import main
from padim_zoo.data.corruptions import CORRUPTIONS
from padim_zoo.report import plots
from padim_zoo.report.board_plots import pareto_front
from padim_zoo.report.curve_plots import area_below
from padim_zoo.report.page import report_data
from padim_zoo.report.plot_style import STYLE, grid_of, in_lines, lines, short_names

pytest.importorskip("matplotlib")
from matplotlib import rc_context
from matplotlib.figure import Figure


def drawn(store: RunStore, kind: str, metric: str = "image_auroc") -> Figure:
    data = report_data(store, store.read_all().documents)
    fig = Figure()
    plots.KINDS[kind](fig, store, plots.rows_with_runs(data), metric)
    return fig


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((kind, "svg") for kind in plot_command.KINDS), ("pr", "png"), ("roc", "pdf")]
)
def test_every_kind_of_plot(store: RunStore, tmp_path: Path, kind: str, suffix: str) -> None:
    output = tmp_path / f"plot.{suffix}"
    result = CliRunner().invoke(main, ["plot", str(store.folder), "--kind", kind, "-o", str(output)])
    assert result.exit_code == 0, result.output
    content = output.read_bytes()
    assert len(content) > 5000
    if suffix == "png":
        assert content.startswith(b"\x89PNG")
    elif suffix == "svg":
        assert b"<text" in content  # letters, not outlines
        assert ">mean" in content.decode() or kind in ("learning-curve", "histogram", "pareto", "corruptions")
    else:
        assert b"/CIDFontType2" in content
        assert b"/Type3" not in content


def test_the_same_store_gives_the_same_bytes(store: RunStore, tmp_path: Path) -> None:
    for suffix in ("svg", "pdf"):
        for name in "ab":
            plots.plot(store, "folds", tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_roc_of_all_categories_in_one_picture(store: RunStore) -> None:
    fig = drawn(store, "roc")
    runs = leaderboard(store.read_all().documents).dropna(subset="id")
    axes = [ax for ax in fig.axes if ax.get_visible()]
    assert len(axes) == 4  # one for each configuration
    titles = {ax.get_title() for ax in axes}
    assert titles == {"full", "full · train size 6", "diagonal", "diagonal · train size 6"}
    [ax] = [ax for ax in axes if ax.get_title() == "full"]
    rows = runs[(runs["estimator"] == "full") & runs["train_size"].isna()]
    expected = [f"{c}  {v:.3f}" for c, v in zip(rows["category"], rows["image_auroc"], strict=True)]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [*expected, f"mean  {rows['image_auroc'].mean():.3f}"]


@pytest.mark.parametrize(("kind", "array"), [("pro", "pro_curve"), ("pixel-roc", "pixel_roc_curve")])
def test_pixel_curves_are_those_of_the_store(store: RunStore, kind: str, array: str) -> None:
    stored = {tuple(np.round(store.scores(d["id"])[array][1], 5)) for d in store.read_all().documents}
    plotted = set()
    for ax in drawn(store, kind).axes:
        for line in ax.get_lines()[:2]:
            assert (line.get_xdata()[0], line.get_ydata()[0]) == (0, 0)
            plotted.add(tuple(np.round(np.asarray(line.get_ydata()[1:], dtype=np.float32), 5)))
    assert plotted == stored


@pytest.mark.parametrize("kind", ["roc", "pr", "pro", "pixel-roc", "pixel-pr"])
def test_area_below_a_curve_is_the_metric_beside_it(store: RunStore, kind: str) -> None:
    """Runs of two folds: the mean of their curves is drawn, and the mean of their metrics stands beside it."""
    rounding = 5e-4
    board = leaderboard(store.read_all().documents).dropna(subset="id")
    values = set(board[area_below(kind.replace("-", "_")).name])
    for ax in drawn(store, kind).axes:
        lines, texts = ax.get_lines(), ax.get_legend().get_texts()
        areas = [auc(line.get_xdata(), line.get_ydata()) / line.get_xdata()[-1] for line in lines[: len(texts)]]
        assert areas == pytest.approx([float(text.get_text().split()[-1]) for text in texts], abs=1e-3 + rounding)
        for area in areas[:-1]:
            assert min(abs(area - value) for value in values) < 1e-3


def test_heat_table_holds_the_leaderboard(store: RunStore) -> None:
    [ax] = drawn(store, "heat-table", "aupro").axes
    board = leaderboard(store.read_all().documents)
    columns = [label.get_text() for label in ax.get_xticklabels()]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert columns == ["fabric", "gear", "mean"]
    texts = {tuple(map(int, text.get_position())): text for text in ax.texts}
    for line, name in enumerate(names):
        rows = board[board["estimator"] == name.split(" · ")[0]]
        rows = rows[rows["train_size"] == 6] if "train size 6" in name else rows[rows["train_size"].isna()]
        for column, category in enumerate(columns):
            [value] = rows.loc[rows["category"] == category, "aupro"]
            assert texts[column, line].get_text() == f"{value:.3f}"
    for column in range(3):
        values = [float(texts[column, line].get_text()) for line in range(4)]
        bold = [texts[column, line].get_fontweight() == "bold" for line in range(4)]
        assert values[bold.index(True)] == max(values)


def test_histograms_count_every_image_and_show_the_threshold(store: RunStore) -> None:
    fig = drawn(store, "histogram")
    axes = [ax for ax in fig.axes if ax.get_visible()]
    assert len(axes) == 8
    for ax in axes:
        assert sum(patch.get_height() for patch in ax.patches) == 4 + 10
    thresholds = {round(float(ax.get_lines()[0].get_xdata()[0]), 4) for ax in axes}
    board = leaderboard(store.read_all().documents).dropna(subset="id")
    assert thresholds == set(board["threshold"].round(4))


def test_learning_curves_go_from_few_to_all_images(store: RunStore) -> None:
    [ax] = drawn(store, "learning-curve", "pixel_auroc").axes
    means = leaderboard(store.read_all().documents)
    means = means[means["id"].isna()]
    for container, name in zip(ax.containers, ("diagonal", "full"), strict=True):
        assert container.get_label() == name
        rows = means[means["estimator"] == name].sort_values("train_size", na_position="last")
        np.testing.assert_array_equal(container.lines[0].get_xdata(), [6, 10])
        np.testing.assert_allclose(container.lines[0].get_ydata(), rows["pixel_auroc"])


def test_severity_curves_are_the_tables_of_the_runs(store: RunStore) -> None:
    axes = [ax for ax in drawn(store, "corruptions").axes if ax.get_visible()]
    assert [ax.get_xlabel() for ax in axes] == 4 * [""] + ["blur: sigma in pixels", "jpeg: quality"]
    rates = [rate for rate in ("false_alarms", "detections", "image_auroc") for _ in range(2)]
    runs = [document for document in store.read_all().documents if document["config"]["train_size"] is None]
    for ax, rate, name, clean in zip(axes, rates, 3 * ["blur", "jpeg"], 3 * [0, 100], strict=True):
        for line in ax.get_lines():
            own = [
                run["corruptions"]
                for run in runs
                if run["config"]["estimator"] == line.get_label().split(" · ")[0] and "6" not in line.get_label()
            ]
            if not own:
                continue
            points: dict[float, list[float]] = {}
            for row in (row for rows in own for row in rows):
                if row["corruption"] in (None, name):
                    points.setdefault(clean if row["amount"] is None else row["amount"], []).append(row[rate])
            np.testing.assert_array_equal(line.get_xdata(), sorted(points))
            np.testing.assert_allclose(line.get_ydata(), [np.mean(points[x]) for x in sorted(points)])


def test_folds_are_points_and_the_mean_a_stroke(store: RunStore) -> None:
    [ax] = drawn(store, "folds", "aupro").axes
    documents = store.read_all().documents
    points = sorted(x for line in ax.get_lines() if line.get_marker() != "|" for x in line.get_xdata())
    assert points == pytest.approx(sorted(fold["aupro"] for d in documents for fold in d["folds"]))
    strokes = sorted(float(line.get_xdata()[0]) for line in ax.get_lines() if line.get_marker() == "|")
    board = leaderboard(documents)
    assert strokes == pytest.approx(sorted(board.loc[board["id"].isna(), "aupro"]))


@pytest.fixture(scope="module")
def seeds(store: RunStore, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """Two seeds of each of two configurations and two train sizes on two categories."""
    seeded = RunStore(tmp_path_factory.mktemp("seeds") / "runs")
    for seed in (0, 1):
        for estimator in ("full", "diagonal"):
            for category in ("fabric", "gear"):
                for size in (5, None):
                    write_run(seeded, seed=seed, estimator=estimator, category=category, train_size=size)
    return seeded


def test_seeds_are_runs_of_one_configuration(seeds: RunStore) -> None:
    board = leaderboard(seeds.read_all().documents)
    means = board[board["id"].isna()]
    assert len(means) == 4
    shown = report_data(seeds, seeds.read_all().documents)["rows"]
    assert {row["name"] for row in shown} == {row["name"] for row in shown if row["mean"]}
    for ax in drawn(seeds, "pareto").axes:
        points = sorted(float(line.get_ydata()[0]) for line in ax.get_lines() if line.get_marker() != "None")
        assert points == pytest.approx(sorted(means["image_auroc"]))
    [ax] = drawn(seeds, "heat-table").axes
    assert len(ax.texts) == 4 * 3
    assert "–" not in {text.get_text() for text in ax.texts}
    [ax] = drawn(seeds, "folds").axes
    assert len(ax.get_yticklabels()) == 4
    assert len([ax for ax in drawn(seeds, "roc").axes if ax.get_visible()]) == 8  # a curve is one run's


def test_plots_refuse_what_they_cannot_draw(store: RunStore, tmp_path: Path) -> None:
    runs = str(store.folder)
    for arguments, message in (
        ([runs, "--kind", "roc", "-o", "x.gif"], "expected .pdf, .png, .svg"),
        ([runs, "--kind", "folds", "--metric", "accuracy", "-o", "x.png"], "unknown metric 'accuracy'"),
        ([runs, "--kind", "roc", "--categories", "gera", "-o", "x.png"], "there are fabric, gear"),
        ([str(tmp_path), "--kind", "roc", "-o", "x.png"], "holds no run"),
    ):
        result = CliRunner().invoke(main, ["plot", *arguments])
        assert result.exit_code == 2
        assert message in result.output
    assert set(plot_command.KINDS) == set(plots.KINDS)


def test_some_categories_only(store: RunStore, tmp_path: Path) -> None:
    plots.plot(store, "roc", tmp_path / "some.svg", categories=["ge*"])
    text = (tmp_path / "some.svg").read_text(encoding="utf-8")
    assert "gear" in text
    assert "fabric" not in text


def test_runs_without_curves_of_pixels_are_refused_in_one_line(store: RunStore, tmp_path: Path) -> None:
    old = RunStore(tmp_path / "old")
    for document in store.read_all().documents:
        arrays = {name: array for name, array in store.scores(document["id"]).items() if "curve" not in name}
        old.write(document, arrays)
    result = CliRunner().invoke(main, ["plot", str(old.folder), "--kind", "pro", "-o", str(tmp_path / "x.png")])
    assert result.exit_code == 2
    [line] = result.output.splitlines()
    assert "no run keeps curves of its pixels" in line
    assert not (tmp_path / "x.png").exists()


def test_short_names_say_what_differs() -> None:
    names = ["padim · builtin · full", "padim · builtin · diagonal", "padim · builtin · full · train size 6"]
    assert list(short_names(names).values()) == ["full", "diagonal", "full · train size 6"]
    assert short_names(["padim · builtin"]) == {"padim · builtin": "padim · builtin"}
    assert short_names(["padim", "padim · full"]) == {"padim": "padim", "padim · full": "full"}


def test_lines_look_different() -> None:
    looks = [(look["color"], look["linestyle"]) for look in lines(24)]
    assert len(set(looks)) == 24


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1))
def test_nothing_beats_the_front(points: list[tuple[int, int]]) -> None:
    front = pareto_front([cost for cost, _ in points], [gain for _, gain in points])
    best = {
        (cost, gain)
        for cost, gain in points
        if not any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in points)
    }
    assert {points[index] for index in front} == best


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """30 configurations on two categories, some of long names."""
    store = RunStore(tmp_path_factory.mktemp("many"))
    for number in range(6):
        for estimator in ("full", "ledoit-wolf", "diagonal", "spherical", "shrinkage(0.2)"):
            for category in ("bottle", "metal_nut"):
                write_run(store, backbone=f"timm/quite_long_name_{number}", estimator=estimator, category=category)
    return store


@pytest.mark.parametrize(("kind", "axes"), [("roc", 30), ("histogram", 60)])
def test_many_configurations_go_below_each_other(many: RunStore, kind: str, axes: int) -> None:
    fig = drawn(many, kind)
    width, height = fig.get_size_inches()
    assert width == 7
    assert height < 2.5 * width
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert len(shown) == axes
    titles = {ax.get_title() for ax in shown} - {""}
    assert len(titles) == 30
    assert max(len(line) for title in titles for line in title.splitlines()) <= 20
    [legend] = fig.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == (["bottle", "metal_nut", "mean"] if kind == "roc" else ["normal", "anomalous"])


def test_names_are_broken_between_their_parts() -> None:
    assert in_lines("resnet18 · full", 20) == "resnet18 · full"
    assert in_lines("wide_resnet50_2 · ledoit-wolf", 20) == "wide_resnet50_2\nledoit-wolf"
    assert in_lines(25 * "x", 20) == 20 * "x" + "\n" + 5 * "x"


@given(st.integers(1, 200), st.integers(1, 9))
def test_a_grid_has_room_for_all_and_no_empty_row(count: int, most: int) -> None:
    columns, rows = grid_of(count, most)
    assert columns <= most
    assert columns * (rows - 1) < count <= columns * rows


def test_the_backend_of_a_notebook_is_not_asked_for(store: RunStore, tmp_path: Path) -> None:
    environment = {**os.environ, "MPLBACKEND": "module://of_a_notebook", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = "from padim_zoo.cli.main import main; main()"
    arguments = ["plot", str(store.folder), "--kind", "roc", "--output", str(tmp_path / "roc.svg")]
    done = subprocess.run([sys.executable, "-c", command, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "roc.svg").is_file()


def test_aupimo_under_other_bounds_is_no_rival(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    for backbone, value, bounds in (("a", 0.6, None), ("b", 0.5, None), ("c", 0.9, (1e-4, 1e-3))):
        write_run(store, category="gear", backbone=backbone, figures={"aupimo": value}, aupimo_bounds=bounds)
    [ax] = drawn(store, "heat-table", "aupimo").axes
    assert [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"] == ["0.600"]
    for ax in drawn(store, "pareto", "aupimo").axes:
        fronts = [set(line.get_ydata()) for line in ax.get_lines() if line.get_marker() == "None"]
        assert {0.9} in fronts
        assert {0.6} in fronts or {0.5, 0.6} in fronts


def test_the_names_of_seven_corruptions_do_not_overlap(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    rates = {"false_alarms": 0.1, "detections": 0.9, "image_auroc": 0.95}
    amounts = [(None, None), *((name, 1.0) for name in CORRUPTIONS)]
    run_id = write_run(store, category="gear")
    document = store.read(run_id) | {"corruptions": [{"corruption": a, "amount": b, **rates} for a, b in amounts]}
    store.write(document, store.scores(run_id))
    fig = Figure(layout="constrained")
    with rc_context(STYLE):
        plots.KINDS["corruptions"](fig, store, plots.rows_with_runs(report_data(store, [document])), "image_auroc")
        fig.draw_without_rendering()
        boxes = [ax.xaxis.label.get_window_extent() for ax in fig.axes if ax.get_xlabel()]
    assert len(boxes) == len(CORRUPTIONS) == 7
    for left, right in pairwise(sorted(boxes, key=lambda box: box.x0)):
        assert left.x1 < right.x0
    assert boxes[0].x0 > 0
    assert boxes[-1].x1 < fig.bbox.width
