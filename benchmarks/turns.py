"""Timing several ways to do one thing side by side: they take turns batch by batch, so that other load hits all alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np


class Turns:
    """One side of the comparison: works in a thread of its own, a batch at a turn, and times its turns.

    Args:
        work: What it does; it tells `begin` at the start of each pass and `batch` after each batch.
    """

    def __init__(self, work: Callable[[Turns], None]) -> None:
        self.passes: list[tuple[int, float, float]] = []
        """Rows, seconds and seconds of processor time of each pass."""
        self._mine, self._others = threading.Semaphore(0), threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._since = (0.0, 0.0)
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
        self._start()

    def batch(self, rows: int, last: bool) -> None:
        """Says that a batch of so many rows is done."""
        wall, cpu = time.perf_counter() - self._since[0], time.process_time() - self._since[1]
        done, seconds, used = self.passes[-1]
        self.passes[-1] = (done + rows, seconds + wall, used + cpu)
        if not last:
            self._wait()
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


def take_turns(sides: dict[str, Turns], passes: int, batches: dict[str, int], seed: int) -> None:
    """Runs all sides through the passes of training, then those of prediction, batch by batch in drawn order.

    Args:
        sides: By name.
        passes: Of each kind.
        batches: Of a pass, by name.
        seed: Of the orders.
    """
    rng = np.random.default_rng(seed)
    for side in sides.values():
        side.advance()
    most = max(batches.values())
    for _ in range(2 * passes):
        for place in range(most):
            # A side with fewer batches has its turns spread over the pass.
            due = [name for name, n in batches.items() if place * n // most != (place - 1) * n // most]
            for name in rng.permutation(due):
                sides[name].advance()
