"""A leaderboard in a notebook."""

from __future__ import annotations

import re
import sys

import pandas as pd
import pytest
from made_up_runs import EVIL

import padim_zoo
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.store import RunStore


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_a_table_with_units_bars_and_the_best_marked(store: RunStore) -> None:
    pytest.importorskip("jinja2")
    shown = padim_zoo.Leaderboard(store.folder, sort="aupro")
    html = shown._repr_html_()
    heading, *rows = cells(html)
    assert heading[:3] == ["category", "estimator", "train size"]
    assert heading[-4:] == ["fit s", "ms/image batch 1", "model MB", "peak MB"]
    assert len(rows) == len(shown) == len(shown.frame) == 12
    column = heading.index("AUPRO")
    assert [row[column] for row in rows] == [f"{value:.3f}" for value in shown.frame["aupro"]]
    # The bars: as long as the figure on an axis that the caption tells.
    start = float(re.search(r"bars: AUPRO from ([\d.]+) to 1<", html)[1])
    lengths = re.findall(r"#4a90c880 ([\d.]+)%, transparent", html)
    expected = {f"{100 * (value - start) / (1 - start):.1f}" for value in shown.frame["aupro"]}
    assert set(lengths) == expected
    bold = re.findall(r"#T_\w+_row(\d+)_col(\d+)[^{]*\{[^}]*font-weight: bold", html)
    assert bold
    assert "dataset folder" in html


def test_the_frame_is_the_leaderboard(store: RunStore) -> None:
    board = leaderboard(store.read_all().documents)
    pd.testing.assert_frame_equal(padim_zoo.Leaderboard(store.folder).frame, board)
    pd.testing.assert_frame_equal(padim_zoo.Leaderboard(board).frame, board)
    by = padim_zoo.Leaderboard(store.folder, by=["estimator"], sort="fit_seconds")
    assert by.frame["fit_seconds"].is_monotonic_increasing
    assert len(by) == 2
    assert "ms/image" in repr(by)
    assert "diagonal" in repr(by)


def test_names_cannot_be_markup(store: RunStore) -> None:
    pytest.importorskip("jinja2")
    board = leaderboard(store.read_all().documents)
    html = padim_zoo.Leaderboard(board.assign(category=EVIL, backbone=EVIL))._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;" in html


def test_without_jinja2_a_plain_table_and_what_to_install(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    board = leaderboard(store.read_all().documents).assign(backbone=EVIL)
    html = padim_zoo.Leaderboard(board)._repr_html_()
    assert "padim-zoo[report]" in html
    assert "<table" in html
    assert "<script" not in html


def test_of_many_rows_the_first_are_shown(store: RunStore) -> None:
    pytest.importorskip("jinja2")
    board = leaderboard(store.read_all().documents)
    html = padim_zoo.Leaderboard(pd.concat([board] * 30))._repr_html_()
    assert "the first 200 of 360 rows" in html
    assert len(cells(html)) == 201


def test_mistakes(store: RunStore, tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(padim_zoo.InputError, match="there is no run store"):
        padim_zoo.Leaderboard(f"{tmp_path}/none")
    with pytest.raises(padim_zoo.InputError, match="holds no run"):
        padim_zoo.Leaderboard(str(tmp_path))
    with pytest.raises(padim_zoo.InputError, match="did you mean image_auroc"):
        padim_zoo.Leaderboard(store.folder, sort="image_aurok")
    with pytest.raises(padim_zoo.InputError, match="give the folder"):
        padim_zoo.Leaderboard(leaderboard([]), by=["backbone"])


def test_ipython_shows_them(store: RunStore) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(padim_zoo.Leaderboard(store.folder))
    assert "<table" in shown["text/html"]


def test_it_is_shown_once(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import rich.jupyter

    displayed: list[object] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(rich.jupyter, "display", lambda *parts: displayed.append(parts))
    assert "ms/image" in repr(padim_zoo.Leaderboard(store.folder))
    assert not displayed
