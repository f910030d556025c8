"""Features kept on disk: exact, found by content, bounded in size, harmless when damaged, missing or not writable."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_zoo import InputError
from padim_zoo.cache import content_addressed
from padim_zoo.cache.features import Entry, FeatureCache
from padim_zoo.core.cache_folder import DEFAULT_LIMIT, cache_limit

KEYS = [f"{number:064x}" for number in range(16)]


def entry_of(number: int, side: int = 4) -> Entry:
    generator = torch.Generator().manual_seed(number)
    maps = tuple(torch.randn(side // scale, side, 5, generator=generator) for scale in (1, 2))
    return Entry(maps, (number + 1, 3 * side), seconds=0.1 * number, conditions=f"threads {number}")


def assert_same(found: Entry | None, expected: Entry) -> None:
    assert found is not None
    assert replace(found, maps=()) == replace(expected, maps=())
    assert len(found.maps) == len(expected.maps)
    assert all(torch.equal(a.float(), b) for a, b in zip(found.maps, expected.maps, strict=True))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path)


def size_of(cache: FeatureCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.iterdir())


def test_an_entry_comes_back_as_it_was(cache):
    assert cache.read(KEYS[0]) is None
    for number in range(3):
        cache.write(KEYS[number], entry_of(number))
    for number in range(3):
        assert_same(cache.read(KEYS[number]), entry_of(number))
    cache.write(KEYS[0], entry_of(7))
    assert_same(cache.read(KEYS[0]), entry_of(7))


def test_16_bits_where_they_lose_nothing(cache):
    entry = entry_of(1, side=64)
    rounded = replace(entry, maps=(entry.maps[0].bfloat16().float(), entry.maps[1]))
    cache.write(KEYS[0], entry)
    exact = size_of(cache)
    cache.write(KEYS[0], rounded)
    assert_same(cache.read(KEYS[0]), rounded)
    assert [layer.dtype for layer in cache.read(KEYS[0]).maps] == [torch.bfloat16, torch.float32]
    assert exact - size_of(cache) == pytest.approx(2 * entry.maps[0].numel(), abs=64)


def test_keys_follow_bytes_and_options_not_paths(cache, tmp_path):
    one, same, other = (tmp_path / name for name in ("one.png", "same.jpg", "other.png"))
    one.write_bytes(b"pixels")
    same.write_bytes(b"pixels")
    other.write_bytes(b"pixelz")
    key = cache.key(one, "resnet18")
    assert key == cache.key(same, "resnet18")
    assert len({key, cache.key(other, "resnet18"), cache.key(one, "resnet34")}) == 3
    with pytest.raises(OSError, match="absent"):
        cache.key(tmp_path / "absent.png", "resnet18")


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    cache = FeatureCache(tmp_path_factory.mktemp("intact"))
    cache.write(KEYS[0], entry_of(3))
    return (cache.folder / f"{KEYS[0]}.safetensors").read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_damaged_is_absent(intact, tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["cut", "flipped", "zeroed", "longer"]))
    damaged = bytearray(intact)
    position = data.draw(st.integers(0, len(intact) - 1))
    if kind == "cut":
        damaged = damaged[:position]
    elif kind == "flipped":
        damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "zeroed":
        damaged[position:] = bytes(len(damaged) - position)
    else:
        damaged += b"\0"
    cache = FeatureCache(tmp_path_factory.getbasetemp() / "damaged")
    cache.folder.mkdir(parents=True, exist_ok=True)
    (cache.folder / f"{KEYS[0]}.safetensors").write_bytes(bytes(damaged))
    found = cache.read(KEYS[0])
    if found is not None:  # spaces pad the header, and a last byte that is zero already is not damaged by zeroing
        assert_same(found, entry_of(3))
        assert kind in ("flipped", "zeroed")


def test_a_folder_in_place_of_an_entry_is_no_entry(cache):
    (cache.folder / f"{KEYS[0]}.safetensors").mkdir(parents=True)
    assert cache.read(KEYS[0]) is None


# -- size ------------------------------------------------------------------------------------------------------------


def names(cache: FeatureCache) -> set[str]:
    return {path.stem for path in cache.folder.iterdir()}


def at(cache: FeatureCache, number: int, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(cache.folder / f"{KEYS[number]}.safetensors", (then, then))


def test_the_least_recently_used_go_first(cache):
    for number in range(4):
        cache.write(KEYS[number], entry_of(1))
        at(cache, number, seconds_ago=100 - number)
    cache.limit = size_of(cache)  # room for four
    assert cache.read(KEYS[0]) is not None  # now the most recent
    cache.write(KEYS[4], entry_of(1))
    cache.write(KEYS[5], entry_of(1))
    assert names(cache) == {KEYS[0], KEYS[3], KEYS[4], KEYS[5]}
    assert size_of(cache) <= cache.limit


@pytest.mark.parametrize("limit", [0, 1, 5_000, 20_000])
def test_any_limit_holds_when_all_is_written(tmp_path, limit):
    cache = FeatureCache(tmp_path, limit)
    for key in KEYS:
        cache.write(key, entry_of(2, side=8))
        assert size_of(cache) <= limit
    cache.trim()
    assert size_of(cache) <= limit


def test_half_of_what_the_disk_has_is_left_free(cache, monkeypatch):
    for number in range(4):
        cache.write(KEYS[number], entry_of(1))
        at(cache, number, seconds_ago=100 - number)
    held = size_of(cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(held, held, 0))
    cache.trim()
    assert names(cache) == {KEYS[2], KEYS[3]}


def test_remains_of_killed_writers_go_and_work_of_living_ones_stays(cache):
    cache.write(KEYS[0], entry_of(1))
    remains, living, foreign = (
        cache.folder / name for name in (f".{KEYS[1]}.a.tmp", f".{KEYS[1]}.b.tmp", ".foreign.tmp")
    )
    for path in (remains, living, foreign):
        path.write_bytes(b"half")
    for path in (remains, foreign):
        os.utime(path, (0, 0))
    cache.trim()
    assert not remains.exists()
    assert living.exists()
    assert foreign.exists()


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", DEFAULT_LIMIT),
        ("0", 0),
        ("1000B", 1000),
        ("4e9", 4_000_000_000),
        ("500MB", 500_000_000),
        (" 2.5 gb ", 2_500_000_000),
        ("1TB", 10**12),
    ],
)
def test_limits_as_people_write_them(text, limit, monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", text)
    assert cache_limit() == limit
    assert FeatureCache().limit == limit


@pytest.mark.parametrize("text", ["much", "-1", "10 XB", "GB"])
def test_a_limit_that_is_no_size_is_refused(text, monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", text)
    with pytest.raises(InputError, match=r"PADIM_ZOO_CACHE_LIMIT is .* expected a size"):
        cache_limit()


# -- folders that cannot be written to -------------------------------------------------------------------------------


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_as_safetensors_says_it(*_: object) -> None:
    raise content_addressed.SafetensorError("I/O error: No space left on device (os error 28)")


def test_a_large_entry_is_written_without_a_copy(cache):
    entry = entry_of(0, side=1200)
    size = sum(layer.nbytes for layer in entry.maps)
    tracemalloc.start()
    cache.write(KEYS[0], entry)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 10
    assert_same(cache.read(KEYS[0]), entry)


@pytest.mark.parametrize(
    ("where", "call", "fails", "copied"),
    [
        (os, "open", full_disk, 2**22),
        (os, "replace", full_disk, 2**22),
        (os, "replace", full_disk, 0),
        (content_addressed, "save_file", full_disk_as_safetensors_says_it, 0),
    ],
)
def test_a_full_disk_is_told_once(cache, monkeypatch, where, call, fails, copied):
    cache.write(KEYS[0], entry_of(0))
    monkeypatch.setattr(content_addressed, "_COPIED", copied)
    monkeypatch.setattr(where, call, fails)
    with pytest.warns(UserWarning, match=r"features and images are not kept: .*No space left"):
        cache.write(KEYS[1], entry_of(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.write(KEYS[2], entry_of(2))
    monkeypatch.undo()
    assert names(cache) == {KEYS[0]}
    assert_same(cache.read(KEYS[0]), entry_of(0))


def test_a_folder_that_can_only_be_read_is_read(cache, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError

    cache.write(KEYS[0], entry_of(0))
    monkeypatch.setattr(os, "utime", refuse)
    assert_same(cache.read(KEYS[0]), entry_of(0))


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path):
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file")
    with pytest.warns(UserWarning, match="features and images are not kept"):
        cache.write(KEYS[0], entry_of(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.write(KEYS[1], entry_of(1))
        cache.trim()
    assert cache.read(KEYS[0]) is None


# -- several processes -----------------------------------------------------------------------------------------------


def _work(root: Path, limit: int, seed: int, looks: int, report: Callable[[str], None]) -> None:
    """Write, read and trim entries at random; report how many reads found one, or what went wrong."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    cache = FeatureCache(root, limit)
    generator = torch.Generator().manual_seed(seed)
    found = 0
    try:
        for _ in range(looks):
            number = int(torch.randint(len(KEYS), (), generator=generator))
            entry = cache.read(KEYS[number])
            if entry is None:
                cache.write(KEYS[number], entry_of(number, side=16))
            else:
                assert_same(entry, entry_of(number, side=16))
                found += 1
        report(f"found {found}")
    except BaseException as error:
        report(repr(error))


def test_processes_share_a_folder(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.write(KEYS[0], entry_of(0, side=16))
    limit = 8 * size_of(cache)  # half of the entries fit, so that they vanish all the time
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    workers = [context.Process(target=_work, args=(cache.root, limit, seed, 1000, reports.put)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    told = [reports.get() for _ in workers]
    for worker in workers:
        worker.join()
    assert all(line.startswith("found ") and line != "found 0" for line in told), told
    cache.limit = limit
    cache.trim()
    assert size_of(cache) <= limit
    assert not [path for path in cache.folder.iterdir() if path.suffix == ".tmp"]
