"""One transaction for what several threads want written at the same moment, because each would wait for the disk alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from lf_lightning.errors import LFError
from lf_lightning.responses.forks import ClosedOnFork

T = TypeVar("T")


class Together(Generic[T]):
    """Calls `write` with the items of all threads that wait: the first to get the lock writes for the others.

    Args:
        write: Writes all of the items or none.
        guard: Whose lock is held meanwhile.
    """

    def __init__(self, write: Callable[[list[T]], None], guard: ClosedOnFork) -> None:
        self._write = write
        self._guard = guard
        self._waiting: deque[_Order[T]] = deque()

    def __call__(self, items: list[T]) -> None:
        """Writes all of the items or none.

        Raises:
            LFError: As `write`, for these items alone. What else `write` raises reaches all whose items it was given.
        """
        order = _Order(items)
        self._waiting.append(order)
        with self._guard.lock:
            if not order.done:
                self._write_all()
        if order.error is not None:
            raise order.error

    def _write_all(self) -> None:
        orders: list[_Order[T]] = []
        while self._waiting:
            orders.append(self._waiting.popleft())
        try:
            self._write_orders(orders)
        except BaseException as error:
            for order in orders:
                if not order.done:  # its thread may not take it for written
                    order.error, order.done = error, True
            raise

    def _write_orders(self, orders: list[_Order[T]]) -> None:
        try:
            self._write([item for order in orders for item in order.items])
        except LFError:
            for order in orders:
                try:
                    self._write(order.items)
                except LFError as error:
                    order.error = error
                order.done = True
        for order in orders:
            order.done = True


class _Order(Generic[T]):
    def __init__(self, items: list[T]) -> None:
        self.items = items
        self.done = False
        self.error: BaseException | None = None
