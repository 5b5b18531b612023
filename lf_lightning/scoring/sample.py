"""Choosing texts by their content, so that scoring and benchmark agree on the rows without a list of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256


def balanced_sample(texts: Sequence[str], groups: Sequence[str], size: int, seed: int) -> list[int]:
    """Returns the positions, ascending, of `size` distinct texts, equally many of each group as far as they go.

    Within a group the texts with the smallest SHA-256 of `seed:text` are taken, so the choice depends neither on the order of
    the rows nor on a library's random numbers. Groups are filled from the smallest; of equal texts the first row counts.

    Args:
        texts: n texts.
        groups: Their n groups, such as labels.
        size: How many to take; all that there are if they are fewer.
        seed: Another seed, another sample.

    >>> balanced_sample(["a", "b", "c", "a", "d"], ["x", "x", "y", "x", "x"], size=3, seed=0)
    [0, 2, 4]
    """
    members: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
    seen: set[str] = set()
    for position, (text, group) in enumerate(zip(texts, groups, strict=True)):
        if text not in seen:
            seen.add(text)
            members[group].append((sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest(), position))
    chosen: list[int] = []
    by_size = sorted(members, key=lambda group: (len(members[group]), group))
    for rank, group in enumerate(by_size):
        share = (size - len(chosen)) // (len(by_size) - rank)
        chosen.extend(position for _, position in sorted(members[group])[:share])
    return sorted(chosen)
