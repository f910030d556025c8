"""What a file is by its content, in words, for errors about files that are something else than was expected."""

from __future__ import annotations

from pathlib import Path

_STARTS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x80", "a pickle"),
    (b"\x08", "an ONNX model"),
)
_SEEN = 512


def file_type(path: Path) -> str:
    """A guess at what a file holds, by its first bytes: ``"a PNG image"``, ``"text"``, ``"binary data"``, ``"empty"``.

    It completes a sentence that begins with the name of the file and "is".

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_SEEN)
    if not start:
        return "empty"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "a safetensors file"
    for magic, kind in _STARTS:
        if start.startswith(magic) and not (magic == b"\x08" and b"\x12" not in start[:64]):
            return kind
    # A character may be cut in two by the end of what was read.
    text = start.decode("utf-8", "ignore").lstrip()
    if b"\0" in start or len(text.encode()) < len(start.lstrip()) - 3:
        return "binary data"
    if text.startswith("<"):
        return "HTML" if text[:14].lower().startswith(("<!doctype html", "<html")) else "XML"
    return "JSON" if text.startswith(("{", "[")) else "text"
