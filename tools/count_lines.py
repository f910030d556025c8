"""Count the lines of code of a package, and the places in which a word stands.

    python tools/count_lines.py
    python tools/count_lines.py --word sigma --word aupro
    python tools/count_lines.py --json

A line counts if a token of code starts or ends on it. Comments, docstrings, line breaks and indentation are no code.
So blank lines do not count, nor do the inner lines of a string that spans several lines. A docstring is the first
statement of a module, class or function; a string below an attribute counts as code. Only ``.py`` files count: not
the scripts, style sheets and templates of the report, nor the templates of plugins (``.in``).

By this definition the package had 19,624 lines in 220 files at commit 068c3b2.

A word stands in a line if no letter, digit or underscore touches it: ``sigma`` is not in ``sigma_max``. Strings that
are no docstrings are code, since a name in a string is one more place to change.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
"""Types of the tokens that are no code."""

Position = tuple[int, int]
"""Line, from 1, and column, from 0, in characters."""


class Source(NamedTuple):
    """One module.

    Attributes
    ----------
    lines : set of int
        Numbers of the lines of code.
    text : str
        The whole text.
    code : str
        The same text with comments and docstrings blanked out.
    """

    lines: set[int]
    text: str
    code: str


def read_source(text: str) -> Source:
    """Tell the code of a module from its comments and docstrings.

    Raises
    ------
    SyntaxError
        If the text is no Python.
    """
    rows = text.splitlines(keepends=True)
    docstrings = list(_docstrings(ast.parse(text), rows))
    lines: set[int] = set()
    blanked = list(docstrings)
    for kind, start, end in _tokens(text):
        if kind == tokenize.COMMENT:
            blanked.append((start, end))
        elif kind not in LAYOUT and not any(first <= start < last for first, last in docstrings):
            lines |= {start[0], end[0]}
    for start, end in blanked:
        for number in range(start[0], end[0] + 1):
            row = rows[number - 1]
            left = start[1] if number == start[0] else 0
            right = end[1] if number == end[0] else len(row.rstrip("\r\n"))
            rows[number - 1] = row[:left] + " " * (right - left) + row[right:]
    return Source(lines, text, "".join(rows))


def _docstrings(tree: ast.Module, rows: list[str]) -> Iterator[tuple[Position, Position]]:
    """Where each docstring starts and ends."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            string = node.body[0]
            assert string.end_lineno is not None
            assert string.end_col_offset is not None
            yield (
                (string.lineno, _column(rows[string.lineno - 1], string.col_offset)),
                (string.end_lineno, _column(rows[string.end_lineno - 1], string.end_col_offset)),
            )


def _column(row: str, offset: int) -> int:
    """The column in characters; the parser counts bytes."""
    return len(row.encode()[:offset].decode())


def _tokens(text: str) -> Iterator[tuple[int, Position, Position]]:
    """Type, start and end of each token; an f-string is one token, as it was before Python 3.12."""
    starts: list[Position] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if name in ("FSTRING_START", "TSTRING_START"):
            starts.append(token.start)
        elif name in ("FSTRING_END", "TSTRING_END"):
            start = starts.pop()
            if not starts:
                yield tokenize.STRING, start, token.end
        elif not starts or token.type == tokenize.COMMENT:
            yield token.type, token.start, token.end


def count_packages(lines: dict[str, int]) -> dict[str, dict[str, int]]:
    """Files and lines of each folder, its subfolders included, from the lines of each file."""
    packages: dict[str, dict[str, int]] = {}
    for name, count in lines.items():
        for folder in list(Path(name).parents)[:-1]:  # the last one is "."
            package = packages.setdefault(folder.as_posix(), {"files": 0, "lines": 0})
            package["files"] += 1
            package["lines"] += count
    return dict(sorted(packages.items()))


def count_word(word: str, texts: list[str]) -> dict[str, int]:
    """Lines and files in which a word stands."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    hits = [sum(pattern.search(row) is not None for row in text.splitlines()) for text in texts]
    return {"lines": sum(hits), "files": sum(hit > 0 for hit in hits)}


def main(arguments: list[str]) -> int:
    """Print the counts; the exit status is 2 if a file is no Python."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="?", type=Path, default=ROOT / "padim_zoo", help="folder (default: padim_zoo)")
    parser.add_argument("--word", action="append", default=[], dest="words", help="count this word too; repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    package = options.package.resolve()
    if not package.is_dir():
        parser.error(f"{options.package} is no folder: expected one with .py files")

    sources: dict[str, Source] = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package.parent).as_posix()
        try:
            sources[name] = read_source(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError) as error:
            parser.error(f"{name} is no Python: {error}")

    files = {name: len(source.lines) for name, source in sources.items()}
    packages = count_packages(files)
    words = {
        word: {
            "code": count_word(word, [source.code for source in sources.values()]),
            "total": count_word(word, [source.text for source in sources.values()]),
        }
        for word in options.words
    }
    total = sum(files.values())
    if options.json:
        print(json.dumps({"lines": total, "files": files, "packages": packages, "words": words}, indent=2))
        return 0
    print(" lines  file")
    for name, count in files.items():
        print(f"{count:6,}  {name}")
    print("\n lines  files  package")
    for name, sums in packages.items():
        print(f"{sums['lines']:6,}  {sums['files']:5,}  {name}")
    if words:
        print("\n in code        in total")
        print(" lines  files   lines  files  word")
        for word, places in words.items():
            numbers = "  ".join(f"{place['lines']:6,}  {place['files']:5,}" for place in places.values())
            print(f"{numbers}  {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
