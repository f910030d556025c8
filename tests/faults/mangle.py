"""A seeded generator of damaged and hostile files: bytes that changed, and documents rewritten with valid hashes."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

from padim_zoo.bench.store import digest_of

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**9, 10**400, 1e308, -1e308, 0.5, "", "text", "=1+1", "\x1b[31m", "[bold]", "a\nb"),
    *([], [1], [1, 2], [[10**6, 10**6]], [None], {}, {"a": 1}, [[]], "../../x", "\ud800", 10**6),
)


def damage(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one accident: a flipped bit, a lost end, zeros, a part twice, a part lost, two parts exchanged."""
    spoilt, n = bytearray(content), len(content)
    # Files differ by some bytes from one machine to another: the same draws hit the same parts of them.
    first, second = sorted(int(n * rng.random()) for _ in range(2))
    kind = rng.choice(["flip"] * 4 + ["cut", "zeros", "twice", "lost", "noise"])
    if kind == "flip":
        spoilt[first] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del spoilt[first:]
    elif kind == "zeros":
        spoilt[first:second] = bytes(second - first)
    elif kind == "twice":
        spoilt[first:first] = spoilt[first : first + 100]
    elif kind == "lost":
        del spoilt[first : first + 100]
    else:
        spoilt[first : first + 8] = rng.randbytes(8)
    return bytes(spoilt)


def flip_header(content: bytes, rng: random.Random) -> bytes:
    """A flipped bit in the first bytes, where formats keep what the rest means."""
    spoilt = bytearray(content)
    spoilt[int(min(len(content), 8000) * rng.random())] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def rewrite(document: Any, rng: random.Random) -> Any:
    """A JSON document in which one value, at any depth, is another, is absent or is there twice."""
    copied = json.loads(json.dumps(document))
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key in list(part) if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                walk(part[key])

    walk(copied)
    part, key = rng.choice(places)
    if isinstance(part, dict) and rng.random() < 0.2:
        del part[key]
    else:
        part[key] = rng.choice(ODD_VALUES)
    return copied


def with_document(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """A detector file with another content block, under a digest that is right."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header["__metadata__"]["padim_zoo"])
    document["content"] = change(document["content"])
    text = json.dumps(document)
    header["__metadata__"] = {"padim_zoo": text, "digest": hashlib.sha256(text.encode()).hexdigest()}
    made = json.dumps(header).encode()
    made += b" " * (-len(made) % 8)
    return len(made).to_bytes(8, "little") + made + content[8 + length :]


def rewritten_model(content: bytes, rng: random.Random) -> bytes:
    """A detector file with one value of its header rewritten, and valid hashes."""
    return with_document(content, lambda document: rewrite(document, rng))


def rewritten_run(content: bytes, rng: random.Random) -> bytes:
    """A run document with one value rewritten, and a valid digest."""
    document = rewrite(json.loads(content), rng)
    return json.dumps(document | {"digest": digest_of(document)}).encode()
