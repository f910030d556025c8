"""A seeded generator of files and folders that were made to do harm, each written into a folder of its own."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PPM")
_MODES = ("L", "RGB", "RGBA", "P", "I;16", "I", "F", "LA", "CMYK", "1")

NAMES = (
    *("a\nb", "a\r", "\x1b[31mred", "[bold]x", "[link=x]y", "x[y", "=1+1", "@sum", "+1", "-1", "--help"),
    *(
        "\t",
        " ",
        "'",
        '"',
        "<img src=x onerror=alert(1)>",
        "&amp;",
        "%s%n",
        "{0}",
        "{{x}}",
        "*",
        "?",
        "[a-z]",
        "~",
        "$(touch pwned)",
    ),
    *(
        ";touch pwned",
        "|touch pwned",
        "con",
        "a" * 240,
        "é" * 100,
        "\u202egnp",
        "\u0000"[1:] or "\u200b",
        "\ufeff",
        "💥",
    ),
    *(b"\xff\xfe".decode(errors="surrogateescape"), "a,b", "a;b", "..x", "...", ".hidden", "x.png", "x.csv", "-o"),
)
"""Names of files, without suffix."""


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, color: int, pixels: bytes, *more: bytes) -> bytes:
    """A PNG that says what it likes of its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def image_bytes(rng: random.Random) -> bytes:
    """An image file of any kind, some of them bombs, some of them broken."""
    kind = rng.choice(["bomb", "lie", "odd", "frames", "texts", "tiff", "exif", "cut", "cut", "mixed"])
    if kind == "bomb":
        width, height = rng.choice(
            [(32_000, 32_000), (10_000, 9_000), (1, 90_000_000), (2**31 - 1, 2**31 - 1), (60_000, 1)]
        )
        few = zlib.compress(bytes(min(width * height // 8 + height, 12_000_000)), 9)
        return png(width, height, rng.choice([1, 8, 16]), rng.choice([0, 2, 6]), few)
    if kind == "lie":
        width, height = (rng.choice([0, 1, 31, 32, 33, 2**16, 2**31 - 1]) for _ in range(2))
        return png(
            width, height, rng.choice([1, 2, 8, 16, 99]), rng.choice([0, 2, 3, 4, 6, 7]), zlib.compress(bytes(4000))
        )
    if kind == "frames":
        frames = [Image.new("L", (32, 32), shade) for shade in range(rng.choice([2, 300]))]
        return _saved(frames[0], rng.choice(["GIF", "TIFF", "WEBP", "PNG"]), save_all=True, append_images=frames[1:])
    if kind == "texts":
        long = rng.choice([10, 10**6, 10**8])
        text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(long), 9))
        return png(32, 32, 8, 0, zlib.compress(bytes(33 * 32)), *[text] * rng.choice([1, 30]))
    if kind == "tiff":
        return _tiff(rng)
    content = bytearray(_odd(rng))
    if kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = rng.choice([0, 1, 6, 8, 9, 65535])
        return _saved(
            Image.new("RGB", (32, rng.choice([32, 16]))), rng.choice(["PNG", "JPEG", "TIFF", "WEBP"]), exif=exif
        )
    if kind == "cut":
        del content[rng.choice([rng.randrange(1, len(content)), *_boundaries(bytes(content))]) :]
    if kind == "mixed":
        content[rng.randrange(len(content)) :] = _odd(rng)
    return bytes(content)


def _odd(rng: random.Random) -> bytes:
    """A sound image of an odd mode, size or range."""
    size = rng.choice([(32, 32), (32, 32), (1, 1), (33, 31), (1, 3000), (3000, 1)])
    image = Image.new(rng.choice(_MODES), size)
    if image.mode == "F":
        image = Image.fromarray(np.full(size[::-1], rng.choice([np.nan, np.inf, 0.5, -1, 1e30]), np.float32))
    for form in rng.sample(_FORMATS, len(_FORMATS)):
        with suppress(OSError, ValueError, KeyError):  # of a mode that the format does not have
            return _saved(image, form)
    return _saved(image.convert("RGB"), "PNG")


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def _tiff(rng: random.Random) -> bytes:
    """A TIFF whose entries are as they should not be: folders in a circle, no pixels, gigabytes."""
    numbers = [0, 1, 8, 32, 65535, 2**31, 2**32 - 1]
    fields = {256: 32, 257: 32, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 32, 279: 1024}
    for tag in rng.sample(sorted(fields), rng.choice([0, 1, 2])):
        fields[tag] = rng.choice(numbers)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    following = rng.choice([0, 8, 4, 10**6])
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + struct.pack("<I", following) + bytes(1024)


def _boundaries(content: bytes) -> list[int]:
    """Where the parts of some formats begin."""
    marks = (
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"\xff\xda",
        b"\xff\xc0",
        b"\xff\xd9",
        b"VP8",
        b"PK\x03\x04",
        b"PK\x01\x02",
        b"PK\x05\x06",
        b"{",
        b"}",
    )
    found = [at + shift for mark in marks if (at := content.find(mark)) > 0 for shift in (0, len(mark))]
    if len(content) > 8 and (length := int.from_bytes(content[:8], "little")) < len(content):
        found += [1, 7, 8, 8 + length - 1, 8 + length, 8 + length + 1, len(content) - 1]
    return found or [len(content) // 2]


def cut_at_boundary(content: bytes, rng: random.Random) -> bytes:
    """A file that ends where one of its parts does."""
    return content[: rng.choice(_boundaries(content))]


def odd_name(suffix: str, rng: random.Random) -> str:
    """A name that terminals, tables, shells or file systems take for something else."""
    return rng.choice(NAMES) + suffix


def odd_folder(folder: Path, image: bytes, rng: random.Random) -> None:
    """Fill a folder with sound images and one thing that should not be among them."""
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.png").write_bytes(image)
    kind = rng.choice(["fifo", "device", "loop", "self", "broken", "folder", "deep", "many", "empty", "up", "secret"])
    odd = folder / "odd.png"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "device":
        odd.symlink_to(rng.choice(["/dev/zero", "/dev/stdin", "/dev/full", "/proc/self/mem", "/dev/tty"]))
    elif kind == "loop":
        odd.symlink_to("other.png")
        (folder / "other.png").symlink_to("odd.png")
    elif kind == "self":
        (folder / "inner").symlink_to(folder)
    elif kind == "broken":
        odd.symlink_to("nowhere.png")
    elif kind == "folder":
        odd.mkdir()
    elif kind == "deep":
        deep = folder.joinpath(*["d"] * rng.choice([50, 800]))
        deep.mkdir(parents=True)
        (deep / "x.png").write_bytes(image)
    elif kind == "many":
        for number in range(40):
            (folder / f"{odd_name('', rng)}{number}.png").write_bytes(image) if number % 2 else None
    elif kind == "empty":
        odd.touch()
    elif kind == "up":
        (folder / "up").symlink_to("..")
    else:
        odd.write_bytes(image)
        odd.chmod(0)


class _Command:
    """What runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def hostile_pickle(target: Path, rng: random.Random) -> bytes:
    """A pickle that would run a command, call something, or take all memory."""
    kind = rng.choice(["command", "global", "bytes", "deep", "memo"])
    if kind == "command":
        return pickle.dumps([_Command(target)], protocol=rng.choice([0, 2, 4]))
    if kind == "global":
        name = rng.choice(
            ["os system", "builtins eval", "torch load", "torch.hub load", "numpy.core.multiarray _reconstruct"]
        )
        text = f"touch {target}".encode()
        return b"c" + name.replace(" ", "\n").encode() + b"\n(S'" + text + b"'\ntR."
    if kind == "bytes":
        return b"\x80\x04cbuiltins\nbytearray\n(J" + struct.pack("<i", 2**31 - 1) + b"tR."
    if kind == "deep":
        return b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b"."
    return b"\x80\x02]" + b"".join(b"q" + bytes([n % 256]) + b"h" + bytes([n % 256]) + b"a" for n in range(1000)) + b"."


def weights_bytes(whole: bytes, state: dict[str, np.ndarray], target: Path, rng: random.Random) -> bytes:
    """A ``.pth`` file with odd tensors, or one that runs a command when it is loaded by pickle."""
    import torch

    kind = rng.choice(["tensors", "tensors", "tensors", "pickle", "record", "nested"])
    made = io.BytesIO()
    if kind == "pickle":
        return hostile_pickle(target, rng)
    if kind == "record":
        with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(made, "w") as archive:
            for info in source.infolist():
                content = source.read(info)
                hostile = info.filename.endswith("data.pkl") and rng.random() < 0.5
                archive.writestr(info.filename, hostile_pickle(target, rng) if hostile else content)
            archive.writestr(rng.choice(["../../pwned", str(target), "archive/constants.pkl"]), b"x")
        return made.getvalue()
    whole_tensors = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
    name = rng.choice(sorted(whole_tensors))
    usual = whole_tensors[name]
    odd = (
        *(torch.tensor(float("nan")), torch.zeros(0), torch.zeros(3, 3), torch.zeros(2, 2, dtype=torch.complex64)),
        *(torch.zeros(1).expand(50_000, 50_000), torch.full_like(usual, float("nan")), None, "text", [1, 2]),
        *(torch.full_like(usual, 1e38), torch.zeros_like(usual), torch.eye(3).to_sparse(), 10**400),
    )
    tensors: dict[str, object] = {**whole_tensors}
    if kind == "nested":
        outer: object = tensors
        for _ in range(rng.choice([1, 3, 300])):
            outer = {rng.choice(["state_dict", "model", "x"]): outer}
        torch.save(outer, made)
        return made.getvalue()
    if rng.random() < 0.3:
        del tensors[name]
        name = rng.choice(["extra", "../x", "a\nb", ""])
    tensors[name] = rng.choice(odd)
    torch.save(tensors, made)
    return made.getvalue()
