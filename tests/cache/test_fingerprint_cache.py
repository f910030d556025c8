"""Fingerprints of files are kept, so that images are not decoded again to find copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from padim_zoo.cache.fingerprints import FingerprintCache, FingerprintsInMemory
from padim_zoo.data import image_hashes
from padim_zoo.data.image_hashes import HashedImages, fingerprint, fingerprint_of_file, hash_of_file, short_hash


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(path)
    return path


def test_a_kept_fingerprint_is_the_one_of_the_pixels(photo: Path, tmp_path: Path, monkeypatch) -> None:
    kept = FingerprintCache(tmp_path / "cache")
    made = fingerprint_of_file(photo, 8, kept)
    monkeypatch.setattr(image_hashes, "read_image", lambda *_: pytest.fail("decoded again"))
    again = fingerprint_of_file(photo, 8, FingerprintCache(tmp_path / "cache"))
    literal = fingerprint(np.asarray(Image.open(photo)))
    for one in (made, again):
        assert one.pixels == literal.pixels
        np.testing.assert_array_equal(one.thumbnail, literal.thumbnail)


@pytest.mark.parametrize("way", ["on disk", "in memory", "by the hash alone", "as fits are"])
def test_a_file_that_is_replaced_while_it_is_decoded_has_the_fingerprint_of_its_new_content(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    kept = {"on disk": FingerprintCache(tmp_path / "cache"), "in memory": FingerprintsInMemory(9)}.get(way)
    new = Image.fromarray(np.full((90, 120, 3), 7, np.uint8))
    new.save(tmp_path / "new.png")
    read = image_hashes.read_image

    def read_and_replace(*arguments: Any) -> np.ndarray:
        pixels = read(*arguments)
        if (tmp_path / "new.png").exists():
            (tmp_path / "new.png").replace(photo)
        return pixels

    monkeypatch.setattr(image_hashes, "read_image", read_and_replace)
    if way == "as fits are":
        hashed = HashedImages([photo], 8)
        for path in hashed:
            hashed.decoded(path, read_and_replace(path, 8))
    for _ in range(2):
        found = hash_of_file(photo, 8, kept)
    assert found == short_hash(np.asarray(new))


def test_another_depth_and_a_damaged_entry_are_absent(photo: Path, tmp_path: Path) -> None:
    kept = FingerprintCache(tmp_path / "cache")
    fingerprint_of_file(photo, 8, kept)
    assert kept.read(photo, 16) is None
    [entry] = kept.folder.glob("*.safetensors")
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    assert kept.read(photo, 8) is None


def test_a_file_that_is_gone_has_none(tmp_path: Path) -> None:
    assert FingerprintCache(tmp_path / "cache").read(tmp_path / "gone.png", 8) is None


@pytest.mark.parametrize(("n", "held"), [(3000, 1 << 16), (3001, 0)])
def test_fingerprints_in_memory(tmp_path: Path, n: int, held: int) -> None:
    path = tmp_path / "x.png"
    pixels = np.full((20, 30, 3), 7, np.uint8)
    Image.fromarray(pixels).save(path)
    kept = FingerprintsInMemory(n)
    assert kept.read(path, 16) is None
    kept.write(path, 16, fingerprint(pixels))
    one = kept.read(path, 16)
    assert one is not None
    assert (one.pixels, one.thumbnail.nbytes) == (fingerprint(pixels).pixels, held)
    assert kept.read(path, 10) is None
    Image.fromarray(pixels[:10]).save(path)
    assert kept.read(path, 16) is None  # the file is another one
    path.unlink()
    assert kept.read(path, 16) is None
    assert [kept.remove(path), kept.remove(path)] == [1, 0]
