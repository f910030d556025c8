"""Free memory is what is least: the machine's, or what any control group around the process leaves."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from padim_zoo.core import memory as free_memory
from padim_zoo.core.errors import InputError


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups, of which this process is in /job/step."""
    membership = tmp_path / "cgroup"
    membership.write_text("0::/job/step\n")
    monkeypatch.setattr(free_memory, "MEMBERSHIP", membership)
    monkeypatch.setattr(free_memory, "ROOT", tmp_path / "tree")
    (tmp_path / "tree" / "job" / "step").mkdir(parents=True)
    return tmp_path / "tree"


def _limit(group: Path, most: str, taken: int, cached: int) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{taken}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


@pytest.mark.parametrize(
    ("n_bytes", "words"), [(3, "3 bytes"), (2000, "2 KB"), (123_456_789, "123 MB"), (1.44e9, "1.44 GB")]
)
def test_amounts_in_words(n_bytes: float, words: str) -> None:
    assert free_memory.amount(n_bytes) == words


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4GB", 4 * 10**9),
        (" 1.5 gib ", 3 * 2**29),
        ("500mb", 5 * 10**8),
        ("4e9", 4 * 10**9),
        ("1TB", 10**12),
        ("10 b", 10),
        ("0", 0),
    ],
)
def test_sizes_as_people_write_them(text: str, n_bytes: int) -> None:
    assert free_memory.parse_bytes("size", text) == n_bytes


@pytest.mark.parametrize("text", ["much", "-1", "10 XB", "GB", "1.2.3GB", "٣GB", "1e999", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"size is .* expected a size"):
        free_memory.parse_bytes("size", text)


def test_sizes_that_were_meant_otherwise_are_refused() -> None:
    with pytest.raises(InputError, match=r"size is 16, which means bytes: write a unit, e.g. 16GB"):
        free_memory.parse_bytes("size", "16")
    with pytest.raises(InputError, match=r"size is '0': expected a size"):
        free_memory.parse_bytes("size", "0", least=1)


def test_without_limits_it_is_what_the_machine_has(groups: Path) -> None:
    _limit(groups / "job", "max", 100, 0)
    assert free_memory.free_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_the_tightest_group_counts_and_cached_files_are_free(groups: Path) -> None:
    _limit(groups / "job", "1000000", 600_000, 50_000)
    _limit(groups / "job" / "step", "900000", 100_000, 0)
    assert free_memory.free_memory() == 450_000


def test_a_group_beyond_its_limit_leaves_nothing(groups: Path) -> None:
    _limit(groups / "job" / "step", "1000", 5000, 0)
    assert free_memory.free_memory() == 0


def test_groups_of_the_first_version(groups: Path) -> None:
    free_memory.MEMBERSHIP.write_text("3:cpu:/x\n5:memory:/job\n")
    group = groups / "memory" / "job"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("70000")
    (group / "memory.usage_in_bytes").write_text("30000")
    (group / "memory.stat").write_text("total_inactive_file 1000\n")
    assert free_memory.free_memory() == 41_000


def test_where_there_are_no_groups(groups: Path) -> None:
    free_memory.MEMBERSHIP.unlink()
    assert free_memory.free_memory() > 0


def test_memory_that_torch_was_refused() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**59, dtype=torch.uint8)
    assert free_memory.is_out_of_memory(refused.value)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("unsupported memory format"), False),
        (ValueError("DefaultCPUAllocator"), False),
    ],
)
def test_errors_that_say_memory_was_refused(error: Exception, refused: bool) -> None:
    assert free_memory.is_out_of_memory(error) is refused
