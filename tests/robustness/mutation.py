"""Seeded damage to files and to trees of plain values, for tests of readers."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Sequence
from typing import Any

INSERTS = (
    b'"', b"\n", b"\0", b"\xff\xfe", b"[" * 1200, b"{" * 1200, b"9" * 5000, b"\r", b"NaN", b",,", b"null", b"-1", b"1e999",
    b": {", b"- ", b"\t", b"2026-99-99", b"&a [*a]", b"\n? [a]\n: b\n", b"<<: 1\n",
    b"!!python/object/apply:os.system ['false']",
)  # fmt: skip
ODD: list[Any] = [
    None, True, 0, -3, 1e308, float("nan"), "", "x", "\ud800", [], {}, [None], [[]], [{}], {"a": None}, 10**400, "2026-99-99",
    ["a", "a"], {"": {}},
]  # fmt: skip


def damaged(content: bytes, seed: int) -> bytes:
    """Returns `content` cut short, replaced, or with bytes changed, taken out and put in."""
    chance = random.Random(seed)
    changed = bytearray(content)
    kind = chance.randrange(6)
    if kind == 0:
        return bytes(changed[: chance.randrange(len(changed) + 1)])
    if kind == 1:
        return chance.randbytes(chance.randrange(200))
    for _ in range(chance.choice((1, 1, 3, 10))):
        at = chance.randrange(len(changed) + 1)
        how = chance.randrange(4)
        if how == 0:
            changed[at : at + 1] = chance.randbytes(1)
        elif how == 1:
            del changed[at : at + chance.randrange(1, 9)]
        elif how == 2:
            changed[at:at] = chance.choice(INSERTS)
        elif at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed)


def mutated(tree: Any, seed: int) -> Any:
    """Returns a copy of nested dicts and lists with one to four places taken out or replaced by something odd."""
    chance = random.Random(seed)
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 2, 4))):
        node = tree
        while isinstance(node, (dict, list)) and node:
            place = chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
            inner = node[place]
            if isinstance(inner, (dict, list)) and inner and chance.random() < 0.75:
                node = inner
                continue
            if chance.random() < 0.3:
                del node[place]
            else:
                node[place] = copy.deepcopy(chance.choice(ODD))
            break
    return tree


def without_numbers(text: str, most: int = 100) -> str:
    """Returns a message without its numbers, so that equal failures count as one."""
    return re.sub(r"\d+", "#", text)[:most]


def told(failures: Sequence[tuple[Any, BaseException]]) -> str:
    """Returns what came out that should not have, each kind once, with the first seed of each."""
    kinds = {f"{type(error).__name__}: {without_numbers(str(error))}": where for where, error in reversed(failures)}
    return "; ".join(f"{kind} ({where})" for kind, where in kinds.items())
