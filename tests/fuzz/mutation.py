"""Changed inputs, each from a random number generator of a known seed: the same seed gives the same inputs.

Bytes are flipped, cut, doubled and put together as fuzzers do; where an input is lines of JSON, values in them are
exchanged as well, so that most of what comes out is JSON still and gets as far as the code behind the parser.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

__all__ = ["mutations"]

_LONGEST: Final = 20_000
_NUMBERS: Final = (0, 1, 2, 3, 4, 7, 8, 16, 32, 63, 64, 65, 100, 127, 128, 254, 255)
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**62, 2**63, 2**64, 10**70, 0.0, -0.5, 1e18, 1e308, "", "0", "x" * 300,
    "\0", "\x1b[31m", "\ud800", "😀", "1e9", "2024-01-01", [], {}, [[]], [{}], {"": 0}, "\n", "null",
)  # fmt: skip


def mutations(seeds: Sequence[bytes], words: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Changed inputs without end."""
    rng = random.Random(seed)
    trees = [one for one in seeds if _is_json(one)]
    while True:
        if trees and rng.random() < 0.5:
            data = _json_changed(rng, rng.choice(trees))
            if rng.random() < 0.9:
                yield data
                continue
        else:
            data = rng.choice(seeds) if rng.random() < 0.95 else rng.randbytes(rng.randrange(64))
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 4, 8, 16))):
            rng.choice(_CHANGES)(rng, changed, seeds, words)
        yield bytes(changed[:_LONGEST])


def _flip(rng: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _put(rng: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(_NUMBERS)


def _number(rng: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    size = rng.choice((2, 4, 8))
    place = rng.randrange(len(data) + 1)
    data[place : place + size] = rng.choice((0, 1, 0x7F, 0xFF, 1 << (8 * size - 1), (1 << 8 * size) - 1)).to_bytes(
        size, rng.choice(("big", "little"))
    )


def _cut(rng: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    place = rng.randrange(len(data) + 1)
    del data[place : place + rng.choice((1, 1, 2, 4, 16, 256, len(data)))]


def _double(rng: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    place = rng.randrange(len(data) + 1)
    piece = bytes(data[place : place + rng.choice((1, 2, 4, 16, 64, 1024))])
    data[place:place] = piece * rng.choice((1, 1, 2, 8, 64))


def _word(rng: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    place = rng.randrange(len(data) + 1)
    word = rng.choice(words) if words else rng.randbytes(rng.randrange(8))
    data[place : place + rng.choice((0, len(word)))] = word


def _join(rng: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    place, begin = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    data[place:] = other[begin:]


_CHANGES: Final[tuple[Callable[[random.Random, bytearray, Sequence[bytes], Sequence[bytes]], None], ...]] = (
    _flip,
    _flip,
    _put,
    _number,
    _cut,
    _double,
    _word,
    _word,
    _join,
)


# ---- JSON ----------------------------------------------------------------------------------------------------------


def _is_json(data: bytes) -> bool:
    try:
        return all(isinstance(json.loads(line), dict | list) for line in data.splitlines()) and bool(data)
    except (ValueError, RecursionError):
        return False


def _json_changed(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        number = rng.randrange(len(lines)) if lines else 0
        if not lines or rng.random() < 0.1:
            lines[number:number] = [rng.choice(data.splitlines(keepends=True))]
        elif rng.random() < 0.05:
            del lines[number]
        else:
            value = _changed(rng, [json.loads(lines[number])])[0]
            lines[number] = json.dumps(value).encode() + (b"\n" if lines[number].endswith(b"\n") else b"")
    return b"".join(lines)


def _changed(rng: random.Random, whole: list[Any]) -> list[Any]:
    """One place of a tree, chosen evenly among all."""
    places = list(_places(whole))
    parent, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.6:
        parent[key] = rng.choice(_VALUES)
    elif kind < 0.75:
        other, name = rng.choice(places)
        parent[key] = other[name] if json.dumps(other[name]) != json.dumps(parent[key]) else rng.choice(_VALUES)
    elif kind < 0.85 and parent is not whole:
        del parent[key]
    elif isinstance(parent, list):
        parent.insert(key, parent[key])
    else:
        parent[rng.choice((f"{key}2", key.upper(), "", "x"))] = parent[key]
    # Where it has become part of itself, it is no JSON any more.
    try:
        json.dumps(whole)
    except ValueError:
        return [{}]
    return whole or [{}]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from _places(value[index])
