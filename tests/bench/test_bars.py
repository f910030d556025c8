"""Bars on a terminal, and the table that they stand in at any width."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from padim_zoo.bench.bars import Axis, bar, cost_axis, metric_axis
from padim_zoo.bench.leaderboard import leaderboard, sort_rows
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.store import FORMAT
from padim_zoo.bench.table import BoardTable

unit = st.floats(0, 1)


@given(unit, st.integers(2, 40), st.sampled_from([0.0, 0.5, 0.9]))
def test_length_of_a_bar_is_its_value(value: float, width: int, start: float) -> None:
    drawn = bar(value, Axis(start, 1.0), width)
    assert len(drawn) == width
    length = drawn.count("━") + 0.5 * drawn.count("╸")
    assert abs(length - width * max(0.0, value - start) / (1 - start)) <= 0.25 + 1e-9
    assert set(drawn.rstrip()) <= {"━", "╸"}


@given(st.lists(unit, min_size=3, max_size=3).map(sorted), st.integers(2, 40))
def test_whiskers_are_where_the_interval_ends(limits: list[float], width: int) -> None:
    low, value, high = limits
    plain, drawn = bar(value, Axis(0, 1), width), bar(value, Axis(0, 1), width, (low, high))
    assert len(drawn) == width
    if "┿" in drawn:
        assert drawn.index("┿") <= low * width + 1e-6 <= drawn.index("┿") + 1.1
    if "┤" in drawn:
        assert drawn.index("┤") <= high * width + 1e-6 <= drawn.index("┤") + 1.1
        assert drawn.endswith("┤" + " " * (width - 1 - drawn.index("┤")))
    # What the whiskers leave of the bar is as long as it was.
    assert drawn.translate(str.maketrans("┿╾─┤", "━╸  ")) == plain
    assert ("┤" in drawn) == (int(min(high * width + 1e-9, width - 1)) >= len(plain.rstrip()))


def test_a_known_bar() -> None:
    assert bar(0.75, Axis(0.5, 1.0), 20, (0.6, 0.9)) == "━━━━┿━━━━━──────┤   "
    assert bar(0.775, Axis(0.5, 1.0), 20) == "━━━━━━━━━━━         "
    assert bar(0.7625, Axis(0.5, 1.0), 20).rstrip() == "━━━━━━━━━━╸"


@given(st.lists(unit, min_size=1))
def test_every_figure_is_on_its_axis(values: list[float]) -> None:
    axis = metric_axis(values)
    assert axis.end == 1
    assert axis.start <= min(values)
    assert axis.start == 0 or min(axis.position(value, 100) for value in values) >= 10


def test_costs_start_at_nothing() -> None:
    axis = cost_axis([2.0, 8.0])
    assert axis == Axis(0.0, 8.0)
    assert axis.labels(10) == "0        8"
    assert cost_axis([]) is None
    assert cost_axis([0.0]) is None


def document(category: str, backbone: str, auroc: float, **changes: Any) -> dict[str, Any]:
    config = RunConfig(
        dataset="mvtec",
        category=category,
        data=category,
        detector="padim",
        backbone=backbone,
        weights_hash="0",
        layers=("layer1",),
        n_components=100,
        estimator="full",
        seed=0,
        folds=1,
    )
    return {
        "format": FORMAT,
        "id": config.id,
        "status": "done",
        "config": config.to_dict(),
        "weights": "default",
        "folds": [{"image_auroc": auroc, "pixel_auroc": auroc, "aupro": auroc}],
        "interval": {"image_auroc_low": auroc - 0.1, "image_auroc_high": min(1.0, auroc + 0.05)},
        "timings": {"fit_seconds": 4.0, "ms_per_image_b1": 11.5, "model_mb": 3.5, "peak_memory_mb": 812.0},
        "notes": [],
        **changes,
    }


BOARD = leaderboard(
    [
        document("bottle", "resnet18", 0.95),
        document("bottle", "timm/convnext_tiny.in12k_ft_in1k", 0.9),
        document("cable", "resnet18", 0.8),
        document("cable", "timm/convnext_tiny.in12k_ft_in1k", 0.7),
        document("toothbrush", "resnet18", 0.99),
    ]
)


def lines(width: int, **options: Any) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(BoardTable(sort_rows(BOARD, "image_auroc"), **options))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 50, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("bars", [True, False])
def test_no_figure_is_cut_at_any_width(width: int, bars: bool) -> None:
    printed = lines(width, bars=bars)
    assert max(map(len, printed)) <= width
    text = " ".join(printed)
    assert "…" not in text
    assert ("━" in text) == (bars and width >= 120)
    assert ("too narrow for" in text) == (width < 90)
    if width >= 50:
        assert all(figure in text for figure in ("0.950", "0.990", "0.700"))


def test_bars_are_beside_their_figures() -> None:
    printed = lines(160, bars=True)
    axis = metric_axis([0.6])  # the least end of an interval
    for auroc in (0.95, 0.9, 0.8, 0.99):
        [line] = [line for line in printed if f"{auroc:.3f}" in line and "┿" in line]
        assert bar(auroc, axis, 30, (auroc - 0.1, min(1.0, auroc + 0.05))).strip() in line
    assert any("0.5" in line and line.count("1") for line in printed[:4])


def test_bars_of_what_the_board_is_sorted_by() -> None:
    file = io.StringIO()
    board = BOARD.assign(fit_seconds=[1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 2.0])
    Console(file=file, width=160).print(BoardTable(board, "fit_seconds", bars=True))
    lengths = [line.count("━") + 0.5 * line.count("╸") for line in file.getvalue().splitlines()]
    assert [length for length in lengths if length] == [7.5, 15, 22.5, 30, 15, 15, 15]


def test_rows_are_left_out_where_lines_are_few() -> None:
    assert len(lines(100)) > 12
    for limit in (7, 9, 11):
        printed = lines(100, max_lines=limit)
        assert len(printed) <= limit
        assert "more rows" in printed[-1]
    assert len(lines(100, max_lines=1)) >= 4  # one row is always shown


def test_a_mean_over_fewer_categories_is_no_rival() -> None:
    """The one backbone with toothbrush has the higher mean only because the other lacks that category."""
    few = document("toothbrush", "easy", 1.0)
    board = leaderboard([*[document(c, "resnet18", 0.9) for c in ("bottle", "cable")], few])
    file = io.StringIO()
    Console(file=file, width=120).print(BoardTable(board[board["id"].isna()]))
    assert "*" not in file.getvalue().replace("* best", "")
