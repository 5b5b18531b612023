"""Timing several ways to do one thing side by side: they take short turns, so that other load hits all alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np


class Turns:
    """One side of the comparison: works in a thread of its own, a few batches at a turn, and times its turns.

    Args:
        work: What it does; it tells `begin` at the start of each pass and `batch` after each batch.
        length: Batches of a turn. Longer turns work from warm caches, shorter ones share other load more evenly.
    """

    def __init__(self, work: Callable[[Turns], None], length: int = 1) -> None:
        self.length = length
        self.passes: list[tuple[int, float, float]] = []
        """Rows, seconds and seconds of processor time of each pass."""
        self._mine, self._others = threading.Semaphore(0), threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._since = (0.0, 0.0)
        self._batches = 0
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def advance(self) -> None:
        """Lets it work to its next turn; the first call takes it to the start of the first pass."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._mine.release()
        self._others.acquire()
        if self._failure is not None:
            raise self._failure

    def begin(self) -> None:
        """Says that a pass begins."""
        self._wait()
        self.passes.append((0, 0.0, 0.0))
        self._batches = 0
        self._start()

    def batch(self, rows: int, last: bool) -> None:
        """Says that a batch of so many rows is done."""
        self._batches += 1
        wall, cpu = time.perf_counter() - self._since[0], time.process_time() - self._since[1]
        done, seconds, used = self.passes[-1]
        self.passes[-1] = (done + rows, seconds + wall, used + cpu)
        if not last and self._batches % self.length == 0:
            self._wait()
        if not last:
            self._start()

    def _start(self) -> None:
        self._since = time.perf_counter(), time.process_time()

    def _wait(self) -> None:
        self._others.release()
        self._mine.acquire()

    def _run(self, work: Callable[[Turns], None]) -> None:
        try:
            work(self)
        except BaseException as failure:  # noqa: BLE001  raised again where the turn was given
            self._failure = failure
        finally:
            self._others.release()


def take_turns(sides: Sequence[Turns], turns: int, seed: int) -> None:
    """Gives each side so many turns, in an order drawn anew for each.

    Args:
        sides: The sides.
        turns: Of each.
        seed: Of the orders.
    """
    rng = np.random.default_rng(seed)
    for side in sides:
        side.advance()
    for _ in range(turns):
        for place in rng.permutation(len(sides)):
            sides[place].advance()
