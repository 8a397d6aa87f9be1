"""Seeded damage to files, as disks, copies, editors and other programs do it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

HANG_S = 30
TIMES = int(os.environ.get("VOCL_FUZZ", "1"))  # how many times as many inputs; each has its number as seed
ALIENS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    0.5,
    1e308,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "word",
    "7",
    "\ud800",
    "a\0b",
    "../../etc",
    "[/b]\x1b[31m\n|&%",
    "x" * 5000,
    [],
    [[]],
    [1, "a", None],
    {},
    {"a": {"b": []}},
]
VALUES = ["", "null", "true", "7", "[1, 2]", "{a: 1}", "'x", "1e-4", "é→中", "~", "*a"]
LINES = [
    "a: [",
    "- b",
    "{",
    "}",
    "\ttab: 1",
    "x: &x {y: 1}",
    "<<: *x",
    "? [a]",
    "!!python/object/apply:os.getpid []",
    "%YAML 9.9",
    "---",
    "...",
    "1: 2",
    "null: 3",
    "on: off",
    "d: 2026-99-99",
    "n: 0b",
    "i: ${oc.env:HOME}",
    "r: ${x}",
    "k: '",
    "b: |",
    "e: 1e999",
    "m: .nan",
    "u: \ud83d\ude00",
    "c: 中文",
    "z: \0",
    "q: " + "[" * 200,
    "lr: [1e-4]",
    "defaults: [nothing]",
    "_target_: os.system",
]


def numbers(count: int) -> range:
    """Seeds of so many inputs, or of more in a long run."""
    return range(count * TIMES)


def in_bytes(content: bytes, seed: int) -> bytes:
    """`content` with one to three places cut, flipped, doubled, moved or overwritten."""
    rng, out = random.Random(seed), bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(out) + 1)
        size = rng.choice((1, 1, 2, 4, 16, 64, 512))
        part = out[at : at + size]
        match rng.randrange(8):
            case 0:
                del out[at:]
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = part
            case 3:
                out[at : at + size] = bytes(len(part))
            case 4:
                out[at : at + size] = rng.randbytes(len(part))
            case 5:
                out[at:at] = rng.randbytes(size)
            case 6 if part:
                out[at] ^= 1 << rng.randrange(8)
            case _:
                out[at : at + size] = part[::-1]
    return bytes(out)


def in_json(content: bytes, seed: int) -> bytes:
    """A JSON text in which one value is alien, or one key is gone or has another name."""
    rng, root = random.Random(seed), {"": json.loads(content)}
    places = list(_places(root))
    node, key = rng.choice(places)
    match rng.randrange(6):
        case 0 if isinstance(node, dict) and node is not root:
            node[f"{key}_"] = node.pop(key)
        case 1 if node is not root:
            del node[key]
        case _:
            node[key] = rng.choice(ALIENS)
    return json.dumps(root.get("")).encode()


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from _places(value)


def in_lines(text: str, seed: int) -> bytes:
    """A YAML text with one to three lines gone, doubled, moved, indented, cut or strange."""
    rng, lines = random.Random(seed), text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines) + 1)
        there = at < len(lines)
        match rng.randrange(8):
            case 0 if there:
                del lines[at]
            case 1 if there:
                lines.insert(at, lines[at])
            case 2 if there:
                lines[at] = " " * rng.randrange(1, 5) + lines[at]
            case 3 if there:
                lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
            case 4 if there:
                head, sign, _ = lines[at].partition(": ")
                lines[at] = f"{head}{sign}{rng.choice(VALUES)}"
            case 5 if there:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case _:
                lines.insert(at, rng.choice(LINES))
    return "\n".join(lines).encode(errors="surrogatepass") + b"\n"
