"""A process of its own that appends made-up rows to a store, and says so on its standard output.

Run as `python writer.py STORE FIRST STOP STEP SIZE`: the numbers of range(FIRST, STOP, STEP) are texts, SIZE an append.
After each append a line: the number of texts handed over so far, and the number of rows newly written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lf_lightning.store import ScorerCard, ScoreStore

CARD = ScorerCard("s", ("a", "b"), "multilabel", {})


def values_of(numbers: Sequence[int]) -> NDArray[np.float32]:
    """Returns (n, 2) made-up probabilities."""
    return np.array([[number % 97 / 97, number % 89 / 89] for number in numbers], dtype=np.float32)


if __name__ == "__main__":
    path = sys.argv[1]
    first, stop, step, size = map(int, sys.argv[2:])
    store = ScoreStore(path, create=True)
    print("ready", flush=True)
    numbers = range(first, stop, step)
    for start in range(0, len(numbers), size):
        part = numbers[start : start + size]
        written = store.append(CARD, [f"{number}" for number in part], values_of(part))
        print(start + len(part), written, flush=True)
