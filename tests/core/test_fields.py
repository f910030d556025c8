"""JSON of files by others: what is refused before anything is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from padim_zoo.bench.check.baseline import read_baseline
from padim_zoo.bench.check.microbenchmark import read_microbenchmarks
from padim_zoo.bench.running import read_states
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import DEEPEST, FieldError, read_json


def nested(depth: int) -> str:
    return depth * "[" + depth * "]"


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 100_000])
def test_a_document_may_nest_only_so_deep(depth: int) -> None:
    assert read_json(nested(DEEPEST)) is not None
    with pytest.raises(FieldError, match=r"deeper|recursion"):
        read_json(nested(depth))


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "", None])
def test_what_json_lacks_is_refused(text: str | None) -> None:
    with pytest.raises(FieldError):
        read_json(text)


@pytest.mark.parametrize("depth", [900, 100_000])
def test_deep_files_are_one_line(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "deep.json"
    path.write_text(nested(depth))
    for read in (read_baseline, read_microbenchmarks):
        with pytest.raises(InputError) as refusal:
            read(path)
        assert len(str(refusal.value).splitlines()) == 1
    (tmp_path / ".1.bench").write_text(nested(depth))
    assert read_states(tmp_path) == []
