"""Text keys: SHA-256 of the exact text, always compared over all 32 bytes."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import DataError

KEY_BYTES = 32

Keys: TypeAlias = NDArray[np.bytes_]
"""(n,) of dtype S32. Items of equal width compare exactly, whatever NUL bytes they end in; one taken out as `bytes` loses
those, so keys stay arrays."""


def text_key(text: str) -> bytes:
    """Returns the key of a text: 32 bytes, the SHA-256 of its UTF-8 (lone surrogates encoded as they are).

    Nothing is normalised: another space, case or Unicode form is another text.

    >>> text_key("abc").hex()[:16]
    'ba7816bf8f01cfea'
    """
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def text_keys(texts: Iterable[str]) -> Keys:
    """Returns the keys of n texts, (n,) of dtype S32.

    Raises:
        DataError: One of them is not a string (for example the NaN of an empty table cell).
    """
    digests = bytearray()
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"texts[{position}] is {text!r} of type {type(text).__name__}, not a string. Drop or fill such rows first."
            )
        digests += sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.frombuffer(digests, dtype=f"S{KEY_BYTES}")


class KeyIndex:
    """Finds the row of a key. Immutable; n distinct keys take 40 n bytes.

    Args:
        keys: (n,) S32, sorted and distinct.
        rows: (n,) int64, the row of each.
    """

    def __init__(self, keys: Keys | None = None, rows: NDArray[np.int64] | None = None) -> None:
        self.keys = np.empty(0, dtype=f"S{KEY_BYTES}") if keys is None else keys
        self.rows = np.empty(0, dtype=np.int64) if rows is None else rows

    def __len__(self) -> int:
        return len(self.keys)

    def extended(self, keys: Keys, first_row: int) -> KeyIndex:
        """Returns an index that also knows `keys`, which lie in the rows from `first_row` on. Of equal keys the last counts."""
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], first_row + order
        last = group_starts(keys[::-1])[::-1]
        keys, rows = keys[last], rows[last]
        if not len(self):
            return KeyIndex(keys, rows)
        places, known = self._places(keys)
        merged = self.rows.copy()
        merged[places[known]] = rows[known]
        fresh = ~known
        return KeyIndex(np.insert(self.keys, places[fresh], keys[fresh]), np.insert(merged, places[fresh], rows[fresh]))

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Returns the rows (n,) int64 of `keys` (n,) S32, -1 where a key is not known. Fastest for sorted keys."""
        if not len(self):
            return np.full(len(keys), -1, dtype=np.int64)
        places, known = self._places(keys)
        return np.where(known, self.rows[np.minimum(places, len(self) - 1)], -1)

    def _places(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        places = np.searchsorted(self.keys, keys)
        return places, self.keys[np.minimum(places, len(self) - 1)] == keys


def group_starts(sorted_keys: Keys) -> NDArray[np.bool_]:
    """Returns (n,) bool, True where a run of equal keys begins."""
    starts = np.ones(len(sorted_keys), dtype=np.bool_)
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=starts[1:])
    return starts
