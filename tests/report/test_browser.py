"""The page in a real browser: it opens without errors, sorts, filters, and shows its pictures, by mouse and keys."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from made_up_runs import EVIL, write_run
from PIL import Image

from padim_zoo.bench.gallery import Gallery
from padim_zoo.bench.store import RunStore
from padim_zoo.report.page import render_report

NAMES = """[...document.querySelectorAll('#board tbody tr')].map(row =>
    [...row.cells[0].childNodes].filter(e => !e.classList?.contains('note')).map(e => e.textContent).join(''))"""
NOTES = "[...document.querySelectorAll('#board tbody .note:not(.ties)')].map(e => e.textContent)"
CATEGORIES = "[...document.querySelectorAll('#board tbody tr')].map(row => row.cells[1].textContent)"
FIGURES = "[...document.querySelectorAll('#board tbody tr')].map(row => parseFloat(row.cells[3].textContent))"
ITEMS = "document.querySelectorAll('#gallery .item').length"


def heading(text: str) -> str:
    return f"[...document.querySelectorAll('#board th button')].find(e => e.textContent.startsWith('{text}')).click()"


def choose(name: str, value: str, event: str = "change") -> str:
    return f"$('{name}').value = {value!r}; $('{name}').dispatchEvent(new Event('{event}'))"


CHART_LABELS = "[...document.querySelectorAll('#{0} .{1}tick text')].map(e => e.textContent)"
TIES = "[...document.querySelectorAll('#board tbody .ties')].map(e => e.textContent)"


def test_rows_are_best_first_and_the_address_keeps_what_is_chosen(
    store: RunStore, tmp_path: Path, browser: Chromium
) -> None:
    path = tmp_path / "a report.html"
    path.write_text(render_report(store, 0, "Screws <2026>").page, encoding="utf-8")
    browser.open(path)
    assert browser.run("document.querySelector('h1').textContent") == "Screws <2026>"
    assert browser.run("document.title") == "Screws <2026>"
    cells = "[row.cells[1].textContent, row.cells[2].textContent]"
    first = f"[...document.querySelectorAll('#board tbody tr')].map(row => {cells})"
    rows = browser.run(first)
    for place in {place for place, _ in rows}:
        figures = [float(text[:5]) for other, text in rows if other == place]
        assert figures == sorted(figures, reverse=True)
    assert all(text.startswith("not distinguishable from ") for text in browser.run(TIES))
    browser.run(heading("pixel AUROC"))
    browser.run(choose("filter", "diagonal", "input"))
    address = browser.run("location.search")
    assert address == "?filter=diagonal&sort=pixel_auroc&order=down"
    chosen = browser.run(first)
    browser.open(path, query=address)
    assert browser.run(first) == chosen
    assert browser.run("$('filter').value") == "diagonal"


@pytest.fixture(scope="module")
def page(store: RunStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_report(store).page, encoding="utf-8")
    return path


def test_a_metric_that_no_run_has_takes_no_column(tmp_path: Path, browser: Chromium) -> None:
    store = RunStore(tmp_path / "runs")
    for estimator in ("full", "diagonal"):
        write_run(store, category="gear", estimator=estimator)
    path = tmp_path / "report.html"
    path.write_text(render_report(store).page, encoding="utf-8")
    browser.open(path)
    headings = browser.run("[...document.querySelectorAll('#board th button')].map(e => e.textContent)")
    assert headings[:4] == ["configuration", "category", "image AUROC", "AUPRO"]
    assert not {"pixel AUROC", "AUPRO.05", "AUPIMO"} & set(headings)


def test_the_leaderboard_sorts_and_filters(page: Path, browser: Chromium) -> None:
    browser.open(page)
    assert len(browser.run(NAMES)) == 8 + 4  # runs and means
    assert browser.run("document.querySelectorAll('#board .whisker i').length") == 4 * 12  # AUPIMO is undefined
    notes = browser.run(NOTES)
    assert len(notes) == 12
    assert all("one draw of" in note for note in notes)
    browser.run(heading("pixel AUROC"))
    falling = browser.run(FIGURES)
    assert falling == sorted(falling, reverse=True)
    assert browser.run("document.querySelector('#board [aria-sort]').getAttribute('aria-sort')") == "descending"
    browser.press("Enter")  # the heading has kept the focus
    rising = browser.run(FIGURES)
    assert rising == sorted(falling)
    assert len(set(rising)) > 2
    browser.run(choose("filter", "diagonal", "input"))
    assert {name.split()[0] for name in browser.run(NAMES)} == {"diagonal"}
    browser.run("$('clear').click()")
    browser.run(choose("facet-estimator", "full"))
    assert {name.split()[0] for name in browser.run(NAMES)} == {"full"}
    browser.run(choose("filter", "no name has this", "input"))
    assert "nothing matches" in browser.run(NAMES)[0]
    browser.run("$('clear').click()")
    browser.run(choose("category", "gear"))
    assert browser.run(CATEGORIES) == ["gear"] * 4
    assert browser.run("$('curves-category').value") == "gear"
    browser.run("document.querySelector('#heat th button').click()")
    assert set(browser.run(CATEGORIES)) == {"fabric"}
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_every_chart_is_drawn_and_can_be_hovered(page: Path, browser: Chromium) -> None:
    browser.open(page)
    drawn = "[...document.querySelectorAll('.chart')].filter(e => e.querySelector('.trace')).map(e => e.id)"
    charts = {"latency", "size", "folds", "learning", "roc", "pr", "pro", "histogram"}
    charts |= {"corrupted-false-alarms", "corrupted-detections", "corrupted-metric"}
    assert set(browser.run(drawn)) == charts
    browser.run(choose("metric", "aupro"))
    assert browser.run("document.querySelector('#latency .ytitle').textContent") == "AUPRO"
    browser.run("document.querySelector('[name=level][value=pixel]').click()")
    assert browser.run("$('roc').data.length") == 4
    assert browser.run("$('roc').data[0].x.length") == 201
    for chart in ("pro", "roc"):
        browser.run(f"$('{chart}').scrollIntoView({{behavior: 'instant', block: 'center'}})")
        place = f"""(box => {{
            const {{xaxis, yaxis}} = $('{chart}')._fullLayout, [line] = $('{chart}').data;
            return [box.x + xaxis.l2p(line.x[50]), box.y + yaxis.l2p(line.y[50])];
        }})($('{chart}').querySelector('.nsewdrag').getBoundingClientRect())"""
        x, y = browser.run(place)
        browser.point(x - 30, y + 30)
        browser.point(x, y)
        browser.wait(f"$('{chart}').querySelector('.hoverlayer text')")
        assert "rate" in browser.run(f"$('{chart}').querySelector('.hoverlayer').textContent")
    assert browser.errors == []


def test_dark_light_and_paper(page: Path, browser: Chromium) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(page, dark=True)
    dark = browser.run(paper)
    assert browser.run("$('theme-name').textContent") == "light"
    browser.run("$('theme').click()")
    light = browser.run(paper)
    browser.run("$('theme').click()")
    assert browser.run(paper) == dark != light
    folded = "[...document.querySelectorAll('details')].filter(e => !e.open).length"
    assert browser.run(folded) == 8
    pdf = browser.call("Page.printToPDF")["data"]
    assert len(pdf) > 100_000  # charts and pictures are in it
    assert browser.run(folded) == 0
    assert browser.run(paper) == dark
    assert browser.errors == []


def test_no_label_of_a_chart_is_cut_or_lacks_digits(page: Path, browser: Chromium) -> None:
    browser.open(page, width=390)
    ends = f"(texts => texts.filter(text => !text.endsWith('…')))({CHART_LABELS.format('folds', 'y')})"
    assert set(browser.run(ends)) <= set(browser.run("names"))
    assert browser.run("logTicks([1.1, 24])") == {
        "tickvals": [1, 2, 5, 10, 20],
        "ticktext": ["1", "2", "5", "10", "20"],
    }
    assert browser.run("logTicks([0.02, 0.3]).ticktext") == ["0.02", "0.05", "0.1", "0.2"]


def test_a_table_fades_where_it_goes_on(page: Path, browser: Chromium) -> None:
    browser.open(page, width=390)
    fades = "(box => box.classList.contains('more'))($('board').closest('.scroll'))"
    browser.wait(fades)
    browser.run("(box => { box.scrollLeft = box.scrollWidth; })($('board').closest('.scroll'))")
    browser.wait(f"!{fades}")
    line = "getComputedStyle(document.querySelector('.controls')).position"
    assert browser.run(line) == "relative"  # the line below them is placed by them, and not by the page


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen(page: Path, browser: Chromium, width: int) -> None:
    browser.open(page, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.wait(f"{ITEMS} > 7")
    browser.run("document.querySelector('#gallery .item').click()")
    assert browser.run("$('zoom').getBoundingClientRect().width") <= width
    labels = "[...document.querySelectorAll('#zoom-views label')]"
    assert browser.run(f"{labels}.filter(e => e.scrollWidth > e.clientWidth + 1).length") == 0
    assert browser.run("$('zoom-canvas').getBoundingClientRect().width") > 0.6 * min(width, 600)
    assert browser.errors == []


def test_everything_can_be_reached_by_keys(page: Path, browser: Chromium) -> None:
    browser.open(page)
    reached = []
    for _ in range(60):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.id || document.activeElement.textContent"))
        outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"the focus on {reached[-1]} cannot be seen"
    wanted = ["theme", "metric", "category", "facet-estimator", "filter", "configuration", "category", "pixel AUROC"]
    assert [name for name in reached if name in wanted] == wanted


PICTURE = "(canvas => canvas.toDataURL())"


def test_the_gallery(page: Path, store: RunStore, browser: Chromium) -> None:
    browser.open(page)
    titles = "[...document.querySelectorAll('#gallery h4')].map(e => e.firstChild.textContent.trim())"
    assert browser.run(titles) == ["Worst misses", "Worst false alarms", "Random images"]
    scores = browser.run("galleryItems.map(entry => [entry.item.label, entry.item.score])")
    misses = [score for label, score in scores[:4] if label]
    assert misses == sorted(misses)
    views = "[...document.querySelector('#gallery .item').querySelectorAll('canvas')]"
    assert browser.run(f"{views}.map(e => e.dataset.view)") == ["image", "map", "mask", "boundary"]
    assert len(set(browser.run(f"{views}.map({PICTURE})"))) == 4
    boundary = f"{PICTURE}(document.querySelector('#gallery [data-view=boundary]'))"
    before = browser.run(boundary)
    browser.run("$('threshold').value = galleryItems[0].gallery.color_low; $('threshold').oninput()")
    assert browser.run(boundary) != before
    browser.run("document.querySelector('#threshold-presets button').click()")
    assert browser.run(boundary) == before

    # The levels of a map come out of the picture as they went in.
    shown = browser.run("[state.run, galleryItems[0].item.name, mean([...galleryItems[0].made.map.scores])]")
    gallery = Gallery.from_arrays(store.gallery(shown[0]) or {})
    [index] = [item.index for item in gallery.items if item.name == shown[1]]
    levels = np.asarray(Image.open(io.BytesIO(gallery.maps[index])).convert("L")) / 255
    assert shown[2] == pytest.approx((gallery.low + levels**2 * (gallery.high - gallery.low)).mean(), rel=1e-5)

    other = browser.run("[...$('run').options].map(e => e.value).find(id => id !== state.run)")
    browser.run("document.querySelectorAll('#board button.link').forEach(e => e.title)")
    browser.run(choose("run", other))
    browser.wait(f"state.run === '{other}' && {ITEMS} > 7")
    assert browser.run("document.querySelectorAll('#board tr.chosen').length") == 1
    assert browser.errors == []


def test_zoom_by_keys(page: Path, browser: Chromium) -> None:
    browser.open(page)
    browser.wait(f"{ITEMS} > 7")
    browser.run("document.querySelector('#gallery .item').focus()")
    browser.press("ArrowRight")
    browser.press("Enter")
    assert browser.run("$('zoom').open")
    name = "$('zoom-name').textContent + $('zoom-about').textContent"
    one = browser.run(name)
    browser.press("ArrowRight")
    assert browser.run(name) != one
    browser.press("ArrowLeft")
    assert browser.run(name) == one
    width = "$('zoom-canvas').getBoundingClientRect().width"
    fitting = browser.run(width)
    browser.press("+")
    assert browser.run(width) == pytest.approx(1.5 * fitting, rel=0.01)
    browser.press("0")
    assert browser.run(width) == pytest.approx(fitting, rel=0.01)
    pictures = []
    for key in "12345":
        browser.press(key)
        pictures.append(browser.run(f"{PICTURE}($('zoom-canvas'))"))
    assert len(set(pictures)) == 5
    box = browser.run("$('zoom-canvas').getBoundingClientRect().toJSON()")
    browser.point(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    browser.wait("$('zoom-score').textContent.startsWith('score here')")
    browser.press("Escape")
    browser.wait("!$('zoom').open")
    assert browser.run("galleryItems.findIndex(entry => entry.button === document.activeElement)") == 1
    assert browser.errors == []


def test_a_store_of_all_that_is_odd(tmp_path: Path, browser: Chromium) -> None:
    """Failed runs, no masks, no curves, no gallery, an ensemble, and names that are none."""
    store = RunStore(tmp_path / "runs")
    write_run(store, category=EVIL, estimator=EVIL, gallery=1)
    write_run(store, category=EVIL, estimator="full", curves=False)
    write_run(store, category="leather", estimator="full", failed=True)
    members = ({"backbone": "a"}, {"backbone": "b"})
    write_run(store, category="leather", backbone="a+b", estimator="full", ensemble="mean", members=members)
    (tmp_path / "report.html").write_text(render_report(store).page, encoding="utf-8")
    for width in (390, 1440):
        browser.open(tmp_path / "report.html", width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelectorAll('#board td.failed').length") == 1
        assert browser.run("document.querySelectorAll('[onclick]').length") == 0
        notes = []
        for run in browser.run("[...$('run').options].map(e => e.value)"):
            browser.run(f"chooseRun('{run}')")
            notes.append(browser.run(f"[{ITEMS}, $('gallery-note').textContent]"))
        assert sorted(count for count, _ in notes) == [0, 0, 3]
        assert sum("kept no pictures" in note for _, note in notes) == 2
        assert browser.errors == []


@pytest.mark.parametrize("failed", [True, False])
def test_a_single_run(tmp_path: Path, browser: Chromium, failed: bool) -> None:
    store = RunStore(tmp_path / "runs")
    write_run(store, category="leather", estimator="full", failed=failed)
    (tmp_path / "report.html").write_text(render_report(store).page, encoding="utf-8")
    browser.open(tmp_path / "report.html")
    assert len(browser.run(NAMES)) == 1
    sections = browser.run("[...document.querySelectorAll('nav a')].map(e => e.hash)")
    assert ("#run-section" in sections) is not failed
    assert "#cost-section" not in sections
    assert browser.errors == []


def test_seeds_are_told_apart(tmp_path: Path, browser: Chromium) -> None:
    store = RunStore(tmp_path / "runs")
    for detector in ("padim", "patchcore"):
        for seed in (0, 1):
            write_run(store, category="leather", detector=detector, seed=seed)
    (tmp_path / "report.html").write_text(render_report(store).page, encoding="utf-8")
    browser.open(tmp_path / "report.html")
    assert {"leather · seed 0", "leather · seed 1"} <= set(browser.run(CATEGORIES))
    legend = browser.run("[...$('curves-legend').children].map(entry => entry.textContent)")
    assert legend == ["padim", "patchcore", "seed 0", "seed 1"]
    lines = (
        "$('roc').data.map(line => [line.name, line.line.color, line.line.dash, line.hovertemplate.includes('seed 0')])"
    )
    drawn = browser.run(lines)
    assert len({(color, dash) for _, color, dash, _ in drawn}) == 4
    assert len({color for name, color, _, _ in drawn if name == "padim"}) == 1
    assert sorted(first for *_, first in drawn) == [False, False, True, True]
    told = browser.run("[plusMinus(0), plusMinus(null), plusMinus(3e-4), plusMinus(0.0213)]")
    assert told == ["", "", "±<.001", "±.021"]
    assert browser.errors == []


def test_aupimo_under_other_bounds_is_no_rival(tmp_path: Path, browser: Chromium) -> None:
    store = RunStore(tmp_path / "runs")
    for backbone, value, bounds in (("a", 0.6, None), ("b", 0.5, None), ("c", 0.9, (1e-4, 1e-3))):
        write_run(store, category="gear", backbone=backbone, figures={"aupimo": value}, aupimo_bounds=bounds)
    (tmp_path / "report.html").write_text(render_report(store).page, encoding="utf-8")
    browser.open(tmp_path / "report.html")
    assert "Best AUPIMO" not in browser.run("$('tiles').textContent")
    assert "Best AUPRO" in browser.run("$('tiles').textContent")
    browser.run(choose("metric", "aupimo"))
    best = "[...document.querySelectorAll('#board td.best')].map(cell => cell.firstChild.textContent)"
    assert "0.600" in browser.run(best)
    assert "0.900" not in browser.run(best)
    assert browser.run("$('latency').data.filter(trace => trace.mode === 'lines').length") == 2
    assert browser.errors == []
