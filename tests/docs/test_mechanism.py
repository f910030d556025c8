"""A page that shows something wrong fails: each rule of the pages, broken once."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_commands import BlockError, PageRun, check_span
from doc_page import PageError, read_page
from doc_world import STARTING_POINTS, World


def run(text: str, folder: Path) -> PageRun:
    (folder / "page.md").write_text(text, encoding="utf-8")
    page = read_page(folder / "page.md", folder)
    done = PageRun(page, folder / "drawn")
    done.all_blocks()
    return done


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_blocks_are_run_in_order_and_share_files_and_names(tmp_path: Path) -> None:
    done = run(
        "```python\nnumber = 1\n```\n\n```python\nopen('n', 'w').write(str(number + 1))\n```\n\n"
        "* in a list\n  ```sh\n  grep 2 n | wc -l > lines  # a pipe\n  padim-zoo --version \\\n    --help\n  ```\n\n"
        "<!-- not run: needs a download -->\n```sh\npadim-zoo fit good --output m && pip install '.[report]'\n```\n\n"
        "```text\nsome output\n```\n\n"
        "```python\n# mine.py\nraise SystemExit('not executed')\n```\n\n```sh\ncat mine.py\n```\n",
        tmp_path,
    )
    assert (done.ran, done.parsed, done.shown) == (5, 1, 1)
    assert Path("lines").read_text().strip() == "1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\npadim-zoo fit nothing --output m\n```", r"page.md:2: padim-zoo fit .*\nexit code 2, expected 0"),
        ("text\n\n```sh\ntrue\nfalse | cat\n```", r"page.md:5: false \| cat\nexit code 1, expected 0"),
        ("```sh\nno-such-program\n```", "exit code 127"),
        ("```sh\npadim-zoo --version > /dev/null && padim-zoo nothing\n```", "exit code 2"),
        ("<!-- exits with 1: as it should -->\n```sh\ntrue\n```", "exit code 0, expected 1"),
        ("```sh\n# nothing\n```", "no command"),
        ("\n```python\n1 / 0\n```", r"(?s)page.md:3: ZeroDivisionError.*page.md\", line 3"),
        ("```python\n# mine.py\nx = 1\n```", "makes use of mine.py"),
        ("```\n$ padim-zoo bench\n```", "a command in a block of output"),
        ("```text\npadim-zoo bench\n```", "a command in a block of output"),
        ("```bash\ntrue\n```", "language 'bash', expected sh"),
        ("```yaml\na: [\n```", "page.md:2"),
        ("<!-- not run: why -->\n```sh\npadim-zoo fit --no-such-option 3\n```", "No such option"),
        ("<!-- not run: why -->\n```sh\ntrue && padim-zoo no-such-command\n```", "no command no-such-command"),
        ("<!-- not run: why -->\n```sh\npadim-zoo data no-such-command\n```", "no command no-such-command"),
        ("<!-- not run: why -->\n```sh\npip install -e '.[test,nosuch]'\n```", "no extra nosuch"),
        ("<!-- not run: why -->\n```sh\npython benchmarks/nosuch.py\n```", "there is no benchmarks/nosuch.py"),
        ("<!-- not run: why -->\n```sh\npython benchmarks/coreset.py --nosuch\n```", "no option --nosuch"),
        ("<!-- not run: why -->\n```python\nx =\n```", "invalid syntax"),
        ("<!-- not run -->\n```sh\ntrue\n```", "gives no reason"),
        ("<!-- not run: why -->\n\nAnd then text.\n\n```sh\ntrue\n```", "stands before no block"),
        ("<!-- not run: why -->", "stands before no block"),
        ("<!-- exits with x: why -->\n```sh\ntrue\n```", "expected <!-- exits with N"),
        ("text\n\n    padim-zoo bench\n", "an indented block"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((BlockError, PageError), match=message):
        run(text, tmp_path)


@pytest.mark.parametrize(
    "span", ["padim-zoo nothing", "padim-zoo fit --nosuch", "fit --nosuch", "--nosuch 3", "data check --fpr 1"]
)
def test_spans_name_what_there_is(span: str) -> None:
    with pytest.raises(BlockError, match="page:1: "):
        check_span("page:1", span)


@pytest.mark.parametrize(
    "span", ["padim-zoo fit --fpr 0.1", "bench --folds", "--update", "data synthetic --size", "x --y"]
)
def test_spans_that_are_right_pass(span: str) -> None:
    check_span("page:1", span)


def test_starting_points_are_made_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        world.furnish(tmp_path / name, ["photos"])
        assert any((tmp_path / name / "photos" / "fine").iterdir())
    with pytest.raises(KeyError, match="nosuch"):
        world.furnish(tmp_path, ["nosuch"])
    assert "runs" in STARTING_POINTS
