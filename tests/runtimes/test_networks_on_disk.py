"""Converted networks share the limit of the cache, and are opened once by all threads."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from padim_zoo.runtimes.converted_network import ConvertedNetwork
from padim_zoo.runtimes.network_files import Entry, read_entry, write_entry


def test_a_network_that_is_kept_trims_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", "1MB")
    write_entry("old", Entry((bytes(600_000),), {}))
    (path,) = (tmp_path / "networks").iterdir()
    os.utime(path, (1, 1))
    write_entry("new", Entry((bytes(600_000),), {}))
    assert read_entry("old") is None
    assert read_entry("new") is not None


def test_threads_that_ask_at_once_open_one_session() -> None:
    opened = []

    class Slow:
        def open(self, files: object, precision: str, threads: int) -> object:
            opened.append(threads)
            time.sleep(0.2)
            return lambda images: [images]

    network = ConvertedNetwork(Slow(), Entry((b"",), {"any_size": True}), "float32")  # type: ignore[arg-type]
    images = torch.zeros(1, 3, 2, 2)
    calls = [threading.Thread(target=network, args=(images,)) for _ in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert len(opened) == 1
    np.testing.assert_array_equal(network(images)[0], images)
