"""Blocking work for many at once: what waits while a group is at work becomes the next group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Grouped(Generic[Item, Result]):
    """Calls `work` with groups of items in another thread, one at a time, so that many share one transaction and one fsync.

    Args:
        work: Items in, as many results out, in their order; what it raises, all of the group get.
        threads: Where it runs.
        at_most: Items in a group.
    """

    def __init__(self, work: Callable[[list[Item]], Sequence[Result]], threads: Executor, at_most: int = 500) -> None:
        self._work = work
        self._threads = threads
        self._at_most = at_most
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Returns the item's result, once its group is done."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting[: self._at_most], self._waiting[self._at_most :]
            try:
                results = await loop.run_in_executor(self._threads, self._work, [item for item, _ in group])
            except Exception as error:  # noqa: BLE001  raised where each of the group waits
                for _, future in group:
                    if not future.cancelled():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(group, results, strict=True):
                    if not future.cancelled():
                        future.set_result(result)
        self._running = None
