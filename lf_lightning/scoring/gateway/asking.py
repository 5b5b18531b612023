"""One run: every request that is not in the cache is claimed, sent, stored and settled, or fails for a reason."""

from __future__ import annotations

import asyncio
import time
from asyncio import AbstractEventLoop
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from random import Random
from typing import Any

from lf_lightning.errors import BudgetError, LFError, ProviderAccessError
from lf_lightning.responses.accounts import Granted, Held, OverBudget
from lf_lightning.responses.base import Response
from lf_lightning.scoring.gateway.answers import NANO, Advance, Answers, Failure, Progress
from lf_lightning.scoring.gateway.journal import Ended, Item, Journal
from lf_lightning.scoring.gateway.limiter import Limiter
from lf_lightning.scoring.gateway.replies import CostOf, Parts, ended_by_reply
from lf_lightning.scoring.gateway.retries import wait_before_retry
from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent

_GUARD = 5.0
_LOOK_AGAIN = 0.25
_TELL_EVERY = 0.1


@dataclass(frozen=True)
class _Outcome:
    attempt: int
    sent_at: float
    reply: Sent | ProviderError


class Asking:
    """Asks for all items; workers take them one by one, retried ones first.

    Args:
        provider: Who is asked.
        identity: The provider's.
        items: What is asked, no key twice.
        cost_of: See `CostOf`.
        limiter: When a request may go.
        concurrency: Requests at once.
        timeout: Seconds for a reply.
        deadline: Seconds from a request's first attempt to its last.
        attempts: Most attempts.
        grace: Seconds that requests in flight get when the run is interrupted.
        parts: See `Parts`.
        advance: Told how far the run is.
        answers: What is known already; it is completed and returned.
    """

    def __init__(
        self,
        provider: Provider,
        identity: Mapping[str, Any],
        items: Sequence[Item],
        cost_of: CostOf,
        limiter: Limiter,
        *,
        concurrency: int,
        timeout: float,
        deadline: float,
        attempts: int,
        grace: float,
        parts: Parts | None,
        advance: Advance | None,
        answers: Answers,
    ) -> None:
        self._provider, self._identity, self._items, self._cost_of, self._limiter = provider, identity, items, cost_of, limiter
        self._concurrency, self._timeout, self._deadline, self._attempts = concurrency, timeout, deadline, attempts
        self._grace, self._parts, self._advance, self._answers = grace, parts, advance, answers
        self._left = len(items)
        self._total = len(items) + len(answers.responses)
        self._told = 0.0
        self._replies = 0
        self._chance = Random()  # noqa: S311  jitter
        self._crash: Exception | None = None
        self._loop: AbstractEventLoop | None = None
        self._sending: set[asyncio.Task[Sent]] = set()
        self._stuck: tuple[int, int, float] = (-1, -1, 0.0)

    async def __call__(self, journal: Journal) -> Answers:
        """Returns the answers when all is done, or when the run was halted and nothing is in flight any more."""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.PriorityQueue[tuple[int, int, Item | None]] = asyncio.PriorityQueue()
        self._settled = asyncio.Semaphore(0)
        self._poor = 0
        self._journal = journal
        for number, item in enumerate(self._items):
            self._ready.put_nowait((1, number, item))
        try:
            if self._answers.halt is None and self._left:
                # Twice as many as may be out: the others store meanwhile.
                workers = min(2 * self._concurrency, self._left)
                await asyncio.gather(*(self._work() for _ in range(workers)))
        finally:
            await self._provider.close()
        if self._crash is not None:
            raise self._crash
        self._tell(last=True)
        return self._answers

    def interrupt(self, halt: LFError) -> None:
        """Sends nothing more; what is in flight has a grace. May be called from any thread and by signal handlers."""
        if self._loop is None:
            self._answers.halt = self._answers.halt or halt
            return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_up_after_grace, halt)

    def _give_up_after_grace(self, halt: LFError) -> None:
        self._halt(halt)

        def give_up() -> None:
            for task in self._sending:
                task.cancel()

        asyncio.get_running_loop().call_later(self._grace, give_up)

    def _halt(self, halt: LFError | None) -> None:
        self._answers.halt = self._answers.halt or halt
        self._stop()

    def _stop(self) -> None:
        self._limiter.close()
        for _ in range(2 * self._concurrency):
            self._ready.put_nowait((0, -1, None))

    @property
    def _stopped(self) -> bool:
        return self._answers.halt is not None or self._crash is not None

    async def _work(self) -> None:
        while self._left and not self._stopped:
            _, _, item = await self._ready.get()
            if item is None or self._stopped:
                return
            try:
                wait = await self._ask(item)
                if wait is None:
                    self._left -= 1
                    self._tell()
            except LFError as error:
                self._halt(error)
                return
            except Exception as error:  # noqa: BLE001  somebody's mistake: raised when nothing is in flight any more
                self._crash = error
                self._stop()
                return
            for _ in range(min(2, self._poor)):
                self._settled.release()
            if wait is not None:
                asyncio.get_running_loop().call_later(wait, self._ready.put_nowait, (0, id(item), item))
            elif not self._left:
                self._stop()

    async def _ask(self, item: Item) -> float | None:
        """Returns the seconds after which to try again; None: the item is done."""
        if self._limiter.pause > self._deadline:
            self._fail(item, ProviderError("rate_limited", f"no request is wanted for {self._limiter.pause:.0f} s."))
            return None
        if not await self._limiter.enter():
            return 0.0
        try:
            found = await self._claim_and_send(item)
        finally:
            self._limiter.leave()
        if found is None:
            return 0.0
        if isinstance(found, Response):
            self._answers.responses[item.key] = found
            self._answers.cached += 1
            return None
        if isinstance(found, Held):
            if isfinite(found.until):
                return _LOOK_AGAIN
            self._fail(item, ProviderError("unavailable", "a batch that is out asks it. Way out: batch=true, to wait for it."))
            return None
        if isinstance(found, OverBudget):
            return await self._wait_for_budget(item, found)
        if isinstance(found.reply, ProviderError):
            return await self._failed(item, found.attempt, found.reply, found.sent_at)
        self._limiter.answered(found.reply.limits)
        await self._keep(item, found.attempt, found.reply)
        return None

    async def _claim_and_send(self, item: Item) -> _Outcome | Response | Held | OverBudget | None:
        """Returns how the attempt ended, or why there was none; None: the limits let nothing go."""
        claim = await self._journal.claim(item)
        if not isinstance(claim, Granted):
            return claim
        sent_at = None if self._stopped else await self._limiter.go(item.tokens, self._deadline)
        if sent_at is None or self._stopped:
            await self._journal.end(Ended(claim.attempt_id, 0, "free", "not sent"))
            return None
        item.began = item.began or sent_at
        item.attempts += 1
        self._answers.asked += item.attempts == 1
        try:
            return _Outcome(claim.attempt_id, sent_at, await self._send(item))
        except ProviderError as error:
            return _Outcome(claim.attempt_id, sent_at, error)
        except LFError as error:
            await self._journal.end(Ended(claim.attempt_id, 0, "free", type(error).__name__))
            raise
        except Exception as error:
            await self._unknown(item, claim.attempt_id, type(error).__name__)
            raise

    async def _send(self, item: Item) -> Sent:
        # A copy: whatever a provider or its SDK does to a request, its key stays the one that it was claimed under.
        task = asyncio.create_task(self._provider.send(deepcopy(item.request), self._timeout))
        self._sending.add(task)
        try:
            return await asyncio.wait_for(task, self._timeout + _GUARD)
        except asyncio.TimeoutError:
            raise ProviderError("timeout", f"no whole reply within {self._timeout:g} s.") from None
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            raise ProviderError("timeout", "given up when the run was interrupted.") from None
        finally:
            self._sending.discard(task)

    async def _keep(self, item: Item, attempt: int, sent: Sent) -> None:
        try:
            ended = ended_by_reply(self._provider, self._identity, item, attempt, sent, self._cost_of, self._parts)
        except Exception:
            await self._journal.end(ended_by_reply(self._provider, self._identity, item, attempt, sent, self._cost_of, None))
            raise
        self._replies += 1
        self._answers.billed_nanodollars += ended.cost
        await self._journal.end(ended)
        self._answers.responses.update((response.key, response) for response in ended.responses)

    async def _failed(self, item: Item, attempt: int, error: ProviderError, sent_at: float) -> float | None:
        if error.kind == "rate_limited":
            self._limiter.limited(sent_at, error.retry_after)
        elif error.kind in ("unavailable", "timeout"):
            self._limiter.overloaded(sent_at)
        if error.maybe_billed:
            await self._unknown(item, attempt, error.kind)
        else:
            await self._journal.end(Ended(attempt, 0, "free", error.kind))
        if error.fatal:
            raise ProviderAccessError(str(error))
        spent = time.monotonic() - item.began
        wait = wait_before_retry(error, item.attempts, self._attempts, spent, self._deadline, self._chance)
        if wait is None:
            self._fail(item, error)
        return wait

    async def _unknown(self, item: Item, attempt: int, reason: str) -> None:
        self._answers.unknown += 1
        self._answers.unknown_nanodollars += item.bound
        await self._journal.end(Ended(attempt, item.bound, "unknown", reason))

    def _fail(self, item: Item, error: ProviderError) -> None:
        self._answers.failures[item.key] = Failure(error.kind, str(error))

    async def _wait_for_budget(self, item: Item, over: OverBudget) -> float:
        """Waits a little if what is in flight, here or in another process, may leave enough when it is settled."""
        cap = self._journal.cap or 0
        now = time.monotonic()
        if self._stuck[:2] != (over.spent, over.reserved):
            self._stuck = (over.spent, over.reserved, now)
        nothing_moves = now - self._stuck[2] > self._journal.ledger.lease + _LOOK_AGAIN
        if over.spent + item.bound > cap or over.reserved == 0 or nothing_moves:
            raise BudgetError(
                f"max_cost={cap / NANO:g} USD: {over.spent / NANO:.6f} are spent, {over.reserved / NANO:.6f} reserved, and the "
                f"next request may cost {item.bound / NANO:.6f}. {self._left:,} requests are left; what was paid for is kept. "
                "Way out: a higher max_cost, and the same command."
            )
        self._poor += 1
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._settled.acquire(), _LOOK_AGAIN)
        self._poor -= 1
        return 0.0

    def _tell(self, last: bool = False) -> None:
        now = time.monotonic()
        if self._advance is None or (now < self._told + _TELL_EVERY and not last):
            return
        self._told = now
        answers = self._answers
        done = self._total - self._left - len(answers.failures)
        mean = answers.billed_nanodollars / self._replies if self._replies else None
        cost = answers.billed_nanodollars + answers.unknown_nanodollars
        to_go = None if mean is None else self._left * mean / NANO
        self._advance(Progress(self._total, done, answers.cached, len(answers.failures), cost / NANO, to_go))
