"""Items of many callers in one batch: each gets its own results; what is too many, wrong or cancelled harms no other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lf_lightning.serving.batching import Batcher, QueueFullError


def run(test: Callable[[Batcher[int, int]], Coroutine[Any, Any, Any]], batcher: Batcher[int, int]) -> Any:
    async def inner() -> Any:
        batcher.start()
        try:
            return await test(batcher)
        finally:
            await batcher.stop()

    return asyncio.run(asyncio.wait_for(inner(), 60))


class Held:
    """Work that does not go on before it may; it notes what it was given."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.begun.set()
        assert self.may_go_on.wait(30)
        return items

    async def busy(self, batcher: Batcher[int, int], items: list[int]) -> asyncio.Task[list[int]]:
        """A call that is being worked on."""
        call = asyncio.create_task(batcher(items))
        await asyncio.to_thread(self.begun.wait, 30)
        return call


def doubled(items: list[int]) -> list[int]:
    return [2 * item for item in items]


def make(work: Callable[[list[int]], Any] = doubled, sizes: list[int] | None = None, **options: Any) -> Batcher[int, int]:
    given: dict[str, Any] = {"max_batch": 8, "max_wait": 0.0, "max_queue": 100, **options}
    return Batcher(work, seen=(sizes if sizes is not None else []).append, **given)


def test_each_gets_its_own_in_order() -> None:
    sizes: list[int] = []
    calls = [list(range(start, start + length)) for start, length in zip(range(0, 1000, 40), [1, 3, 0, 20, 7] * 5, strict=True)]

    async def test(batcher: Batcher[int, int]) -> Any:
        return await asyncio.gather(*map(batcher, calls))

    assert run(test, make(sizes=sizes, max_queue=1000)) == [doubled(call) for call in calls]
    assert max(sizes) == 8
    assert sum(sizes) == sum(map(len, calls))
    assert len(sizes) < 30


def test_what_arrives_while_it_works_is_the_next_batch() -> None:
    held = Held()

    async def test(batcher: Batcher[int, int]) -> None:
        first = await held.busy(batcher, [0])
        others = [asyncio.create_task(batcher([n])) for n in range(1, 6)]
        await asyncio.sleep(0)
        assert batcher.waiting == 5
        held.may_go_on.set()
        await asyncio.gather(first, *others)

    run(test, make(held))
    assert held.batches == [[0], [1, 2, 3, 4, 5]]


def test_a_first_item_waits_for_others_but_not_for_long() -> None:
    sizes: list[int] = []

    async def test(batcher: Batcher[int, int]) -> float:
        start = time.perf_counter()
        await asyncio.gather(batcher([1]), batcher([2]))
        return time.perf_counter() - start

    assert run(test, make(sizes=sizes, max_wait=0.2)) >= 0.2
    assert sizes == [2]


def test_a_full_batch_and_a_hurry_end_the_wait() -> None:
    sizes: list[int] = []

    async def test(batcher: Batcher[int, int]) -> None:
        await asyncio.gather(batcher([1, 2, 3]), batcher([4, 5, 6, 7, 8]))
        waiting = asyncio.create_task(batcher([9]))
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        batcher.hurry()
        assert await waiting == [18]
        assert await batcher([10]) == [20]

    run(test, make(sizes=sizes, max_wait=3600.0))
    assert sizes == [8, 1, 1]


def test_too_many_are_refused_and_told_when() -> None:
    held = Held()

    async def test(batcher: Batcher[int, int]) -> Any:
        working = await held.busy(batcher, list(range(8)))
        waiting = asyncio.create_task(batcher(list(range(9))))
        await asyncio.sleep(0)
        assert batcher.waiting == 9
        with pytest.raises(QueueFullError) as full:
            await batcher([1, 2])
        assert full.value.seconds >= 1
        alone = asyncio.create_task(batcher([1]))  # there is room for one
        await asyncio.sleep(0)
        held.may_go_on.set()
        return [len(found) for found in await asyncio.gather(working, waiting, alone)]

    assert run(test, make(held, max_queue=10)) == [8, 9, 1]


def test_an_error_is_told_to_its_batch_only() -> None:
    def picky(items: list[int]) -> list[int]:
        if 13 in items:
            raise ArithmeticError("thirteen")
        return items

    async def test(batcher: Batcher[int, int]) -> None:
        with pytest.raises(ArithmeticError, match="thirteen"):
            await batcher(list(range(20)))  # of whose batches the second fails
        assert await batcher([1, 2]) == [1, 2]
        assert batcher.waiting == 0
        assert batcher.is_working

    run(test, make(picky))


def test_a_cancelled_call_leaves_the_queue() -> None:
    held = Held()

    async def test(batcher: Batcher[int, int]) -> None:
        working = await held.busy(batcher, [1])
        given_up = asyncio.create_task(batcher([2, 3]))
        after = asyncio.create_task(batcher([4]))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        held.may_go_on.set()
        await asyncio.gather(working, after)

    run(test, make(held))
    assert held.batches == [[1], [4]]


def test_a_stop_leaves_no_call_waiting() -> None:
    held = Held()

    async def test(batcher: Batcher[int, int]) -> None:
        calls = [await held.busy(batcher, [1]), asyncio.create_task(batcher([2]))]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(held.may_go_on.set)  # the thread is let end, its result is nobody's
        await batcher.stop()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in found] == [asyncio.CancelledError] * 2
        assert not batcher.is_working

    run(test, make(held))
