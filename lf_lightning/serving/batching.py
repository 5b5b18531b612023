"""Dynamic batching: items of many callers, worked on together as soon as the worker is free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """More items wait than may.

    Attributes:
        seconds: After which there should be room, by the pace so far.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the queue is full, try again in {seconds:.0f} s")
        self.seconds = seconds


@dataclass
class _Call(Generic[Item, Result]):
    items: Sequence[Item]
    future: asyncio.Future[list[Result]]
    arrived: float
    taken: int = 0
    results: list[Result] = field(default_factory=list)


class Batcher(Generic[Item, Result]):
    """Gives the items of concurrent calls to one worker thread, first come first served, several calls' items at once.

    What arrives while the worker is busy is the next batch, so a wait is not what makes batches: with `max_wait` 0 an idle
    worker begins at once. Otherwise a batch begins when it is full, or when its first item has waited so long. A call that was
    cancelled leaves the queue.

    Args:
        work: Items to as many results, in the worker's thread. What it raises is raised to every call of the batch.
        max_batch: Items at once.
        max_wait: Seconds that a first item waits for others.
        max_queue: Items that may wait.
        seen: Told the size of each batch.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result]],
        max_batch: int,
        max_wait: float,
        max_queue: int,
        seen: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.work, self.max_batch, self.max_wait, self.max_queue, self.seen = work, max_batch, max_wait, max_queue, seen
        self._calls: deque[_Call[Item, Result]] = deque()
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._task: asyncio.Task[None] | None = None
        self._pace = 0.01
        """Seconds an item, smoothed."""

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return sum(len(call.items) - call.taken for call in self._calls if not call.future.done())

    @property
    def is_working(self) -> bool:
        """Whether calls are answered."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begins; needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def hurry(self) -> None:
        """Lets no item wait for others any more."""
        self.max_wait = 0.0
        self._arrival.set()

    async def stop(self) -> None:
        """Ends; calls without all their results are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for call in self._calls:
            call.future.cancel()
        self._thread.shutdown()

    async def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Returns the results of the items, in their order.

        Raises:
            QueueFullError: No room for all of them; none was taken.
        """
        if not items:
            return []
        waiting = self.waiting
        if waiting + len(items) > self.max_queue:
            raise QueueFullError(max(waiting * self._pace, 1.0))
        loop = asyncio.get_running_loop()
        call: _Call[Item, Result] = _Call(items, loop.create_future(), loop.time())
        self._calls.append(call)
        self._arrival.set()
        return await call.future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._arrival.clear()
            waiting = self.waiting
            if waiting == 0:
                self._calls.clear()
                await self._arrival.wait()
                continue
            first = next(call for call in self._calls if not call.future.done())
            left = first.arrived + self.max_wait - loop.time()
            if waiting < self.max_batch and left > 0:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._arrival.wait(), left)
                continue
            await self._work_on(self._take())

    def _take(self) -> list[tuple[_Call[Item, Result], Sequence[Item]]]:
        """The items of the next batch, by call."""
        taken, room = [], self.max_batch
        while self._calls and room:
            call = self._calls[0]
            part = call.items[call.taken : call.taken + room] if not call.future.done() else []
            if part:
                taken.append((call, part))
                call.taken += len(part)
                room -= len(part)
            if call.future.done() or call.taken == len(call.items):
                self._calls.popleft()
        return taken

    async def _work_on(self, batch: list[tuple[_Call[Item, Result], Sequence[Item]]]) -> None:
        loop = asyncio.get_running_loop()
        items = [item for _, part in batch for item in part]
        self.seen(len(items))
        start = loop.time()
        try:
            results = await loop.run_in_executor(self._thread, self.work, items)
        except asyncio.CancelledError:
            for call, _ in batch:
                call.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001  raised again to who asked
            for call, _ in batch:
                if not call.future.done():
                    call.future.set_exception(error)
            return
        self._pace += 0.2 * ((loop.time() - start) / len(items) - self._pace)
        position = 0
        for call, part in batch:
            call.results += results[position : position + len(part)]
            position += len(part)
            if len(call.results) == len(call.items) and not call.future.done():
                call.future.set_result(call.results)
