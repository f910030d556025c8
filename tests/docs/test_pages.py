"""Every command of every page runs as shown; every option, file and link that a page names is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from doc_commands import PageRun, check_span
from doc_page import read_page
from doc_world import World

from padim_zoo import registry

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "plugins", "benchmarks", ".github") for page in (ROOT / folder).rglob("*.md")),
    ]
)
LONGEST = 120
"""Characters of a line, as in code."""
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def test_no_page_is_forgotten() -> None:
    """Markdown elsewhere would not be tried."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a clone: git knows no files here")
    assert set(listed.stdout.split()) <= set(NAMES)
    assert "README.md" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_block_runs_as_shown(name: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = read_page(ROOT / name, ROOT)
    world.furnish(tmp_path, page.starts_with)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for kind in registry.REGISTRIES.values():
        kind.names()
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))
    for plugin in page.loads:
        registry.load_plugin(plugin)
    run = PageRun(page, world.drawn)
    run.all_blocks()
    assert run.ran + run.parsed + run.shown == len(page.blocks)


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_options_in_the_text_exist(name: str) -> None:
    """As in `padim-zoo bench --folds`, `fit --folds` and a bare `--folds`."""
    for where, span in read_page(ROOT / name, ROOT).spans:
        check_span(where, span)


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_short(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [f"{name}:{number}" for number, line in enumerate(lines, 1) if len(line) > LONGEST] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = read_page(ROOT / name, ROOT)
    for where, link in page.links:
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), f"{where}: {link} leads nowhere"
        assert ROOT in target.parents, f"{where}: {link} leads out of the project"
        if anchor:
            assert anchor in read_page(target, ROOT).anchors, f"{where}: {link}: there is no such heading"
