"""Blocks of patches: every patch once, whatever the threads, and torch's number of threads as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from padim_zoo.core import parallel


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def squares(patches: slice) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.arange(1000)[patches]
    return numbers**2, numbers[:, None].expand(-1, 3).double()


@pytest.mark.parametrize("block_bytes", [1, 70, 10**6])
def test_all_patches_in_order(two_threads, monkeypatch, block_bytes):
    monkeypatch.setattr(parallel, "BLOCK_BYTES", block_bytes)
    first, second = parallel.map_blocks(squares, 1000, 1)
    assert torch.equal(first, torch.arange(1000) ** 2)
    assert torch.equal(second, torch.arange(1000)[:, None].expand(-1, 3).double())


def test_torch_is_single_threaded_inside_and_as_before_afterwards(two_threads, monkeypatch):
    monkeypatch.setattr(parallel, "BLOCK_BYTES", 10)
    (inside,) = parallel.map_blocks(
        lambda part: (torch.full((part.stop - part.start,), torch.get_num_threads()),), 40, 1
    )
    assert inside.tolist() == [1] * 40
    assert torch.get_num_threads() == 2

    def fail(part: slice) -> tuple[torch.Tensor]:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        parallel.map_blocks(fail, 40, 1)
    assert torch.get_num_threads() == 2


def test_overlapping_calls_leave_torch_as_it_was(two_threads, monkeypatch):
    monkeypatch.setattr(parallel, "BLOCK_BYTES", 10)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: parallel.map_blocks(squares, 1000, 1), range(24)))
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


ONE_IMAGE = 3 * 224 * 224


@pytest.mark.parametrize(
    ("numbers", "inside"),
    [(parallel.FEW_NUMBERS, 1), (parallel.FEW_NUMBERS + 1, 2), (ONE_IMAGE, 1), (32 * ONE_IMAGE, 2)],
)
def test_small_work_is_done_by_one_thread(two_threads, numbers, inside):
    with parallel.one_thread_for(numbers):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == 2
    with pytest.raises(ArithmeticError), parallel.one_thread_for(numbers):
        raise ArithmeticError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("numbers", "inside"), [(parallel.MANY_NUMBERS, 1), (parallel.MANY_NUMBERS + 1, 2)])
def test_an_operation_on_many_numbers_has_all_threads(two_threads, numbers, inside):
    with parallel.one_thread_for(1):
        with parallel.all_threads_for(numbers):
            assert torch.get_num_threads() == inside
        assert torch.get_num_threads() == 1
    with parallel.all_threads_for(numbers):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


def test_single_threads_nest(two_threads, monkeypatch):
    monkeypatch.setattr(parallel, "BLOCK_BYTES", 10)
    with parallel.one_thread_for(1):
        parallel.map_blocks(squares, 1000, 1)
        assert torch.get_num_threads() == 1

    def block(part: slice) -> tuple[torch.Tensor]:
        with parallel.one_thread_for(1), parallel.all_threads_for(2**40):
            pass
        return (torch.full((part.stop - part.start,), torch.get_num_threads()),)

    (inside,) = parallel.map_blocks(block, 40, 1)
    assert inside.tolist() == [1] * 40
    assert torch.get_num_threads() == 2


def test_threads_that_begin_beside_a_single_one_have_all(two_threads):
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with parallel.one_thread_for(1):
            begun.set()
            done.wait(300)

    def request() -> tuple[int, int]:
        with parallel.one_thread_for(1), parallel.all_threads_for(2**40):
            many = torch.get_num_threads()
        torch.ones(100_000).sum()
        return many, torch.get_num_threads()

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait(300)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(request).result() == (2, 2)
    done.set()
    holder.join()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2
    assert torch.get_num_threads() == 2


def test_a_thread_that_has_its_own_number_keeps_it(two_threads):
    """Also where its first work comes while another thread is single."""
    begun, done = threading.Event(), threading.Event()

    def request() -> tuple[int, int]:
        torch.set_num_threads(3)
        torch.get_num_threads()  # or it takes over what another thread says next
        own.set()
        begun.wait(10)
        with parallel.one_thread_for(1), parallel.all_threads_for(2**40):
            many = torch.get_num_threads()
        return many, torch.get_num_threads()

    def hold() -> None:
        own.wait(10)
        torch.set_num_threads(2)
        with parallel.one_thread_for(1):
            begun.set()
            done.wait(10)

    own = threading.Event()
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
        held, asked = other.submit(hold), pool.submit(request)
        assert asked.result() == (3, 3)
        done.set()
        held.result()


FORKED = """
import os, threading, torch
from padim_zoo.core import parallel

def hold():
    with parallel.one_thread_for(1):
        begun.set()
        done.wait()

def count():
    torch.ones(10).sum()
    counts.append(torch.get_num_threads())
    with parallel.one_thread_for(1):
        counts.append(torch.get_num_threads())
    counts.append(torch.get_num_threads())

torch.set_num_threads(2)
begun, done, counts = threading.Event(), threading.Event(), []
holder = threading.Thread(target=hold)
holder.start()
begun.wait()
parallel._lock.acquire()  # as another thread may have it at any moment
child = os.fork()
if child == 0:
    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    thread.join(20)
    os._exit(0 if counts == [2, 1, 2] and parallel._inside == 0 else 1)
parallel._lock.release()
done.set()
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not():
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], timeout=120, check=False).returncode == 0
