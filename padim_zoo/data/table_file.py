"""Tables in text files, however a spreadsheet wrote them: encoding and separator are told from the file."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from padim_zoo.core.errors import InputError

_ENCODINGS_BY_MARK = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table whose first line names its columns.

    The encoding is that of the byte order mark, else UTF-8, else Windows' 1252. The separator is the one of comma,
    semicolon and tab that the first line has most of. Empty lines are left out.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        Those that every row must have.

    Raises
    ------
    InputError
        If the file cannot be read, or a column or a field of a row is missing.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    text = _decoded(path, content)
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        missing = set(columns).difference(reader.fieldnames or ())
        if missing:
            expected = ", ".join(columns)
            raise InputError(f"{path} lacks the columns {', '.join(sorted(missing))}: expected {expected}")
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path} is not a text table (line {reader.line_num}: {error}): expected CSV") from None
    for number, row in enumerate(rows, 2):
        empty = [column for column in columns if row[column] is None]
        if empty:
            raise InputError(f"row {number} of {path} ends before the column {empty[0]}: complete or remove it")
    return [{column: row[column].strip() for column in columns} for row in rows]


def _decoded(path: Path, content: bytes) -> str:
    encoding = next((name for mark, name in _ENCODINGS_BY_MARK.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        try:
            return content.decode("cp1252")
        except UnicodeDecodeError:
            raise InputError(f"{path} is not text in UTF-8, UTF-16 or Windows-1252: save it as UTF-8") from None
