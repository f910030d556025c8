"""Names of files that no encoding takes are written in one escaped form, everywhere."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from padim_zoo.bench.formats import to_csv
from padim_zoo.core.atomic_write import write_text_whole
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.core.printable import encodable, printable, without_formula


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"pr\xfcf.png", r"pr\xfcf.png"),
        ("prüf 1.png".encode(), "prüf 1.png"),
        (b"a\nb\x1b[31m.png", r"a\nb\x1b[31m.png"),
        ("a\u202egnp.exe".encode(), r"a\u202egnp.exe"),
        ("釘.png".encode(), "釘.png"),
    ],
)
def test_printable(name: bytes, shown: str) -> None:
    assert printable(os.fsdecode(name)) == shown
    assert printable(Path(os.fsdecode(name))) == shown
    printable(os.fsdecode(name)).encode()


def test_only_surrogates_are_escaped_in_text() -> None:
    assert encodable("a\nb\udcfc\ud800") == "a\nb\\xfc\\ud800"


def test_writers_take_any_name(tmp_path: Path) -> None:
    name = os.fsdecode(b"pr\xfcf.png")
    write_text_whole(tmp_path / "o.txt", name)
    assert (tmp_path / "o.txt").read_text(encoding="utf-8") == r"pr\xfcf.png"
    plain = to_jsonable({name: [name, "a\nb"]})
    assert json.loads(json.dumps(plain, ensure_ascii=False).encode()) == {r"pr\xfcf.png": [r"pr\xfcf.png", "a\nb"]}


def test_a_long_name_of_wide_letters_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("釘" * 80 + ".txt")
    write_text_whole(path, "text")
    assert path.read_text() == "text"


def test_spreadsheets_compute_nothing() -> None:
    assert [without_formula(text) for text in ("=1+1", "+a", "-a", "@a", "a=1", "")] == [
        *("'=1+1", "'+a", "'-a", "'@a", "a=1", ""),
    ]


def test_text_of_a_csv_table_is_harmless_and_numbers_stay() -> None:
    board = pd.DataFrame({"=x": [-1.5, None], "name": ["=1+1", "a\x1b[31m\nb"], "mixed": [-2, "-2"]})
    rows = list(csv.reader(io.StringIO(to_csv(board).decode())))
    assert rows[1:] == [["-1.5", "'=1+1", "-2"], ["", "a\\x1b[31m\\nb", "'-2"]]
