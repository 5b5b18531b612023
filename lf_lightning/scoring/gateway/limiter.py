"""How many requests are out at once, and when the next one may go."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from lf_lightning.scoring.gateway.pace import Budget, Pace, Share
from lf_lightning.scoring.providers.base import RateHeaders


class Limiter:
    """Lets requests go: never more than `concurrency` at once, within the budgets, and as the provider's replies allow.

    Overload (5xx, timeouts) above 5 % of the replies cuts the number at once by a third, and each whole round of good replies
    adds one (additive increase, multiplicative decrease). 429 sets the pace (`Pace`), and everyone waits as Retry-After says.

    Args:
        concurrency: Most requests at once.
        pace: What is known of the provider's pace.
        requests: Budget of requests; None: no limit of ours.
        tokens: Budget of input and longest output; None: no limit of ours.
    """

    def __init__(self, concurrency: int, pace: Pace, requests: Budget | None = None, tokens: Budget | None = None) -> None:
        self._most = concurrency
        self._allowed = float(concurrency)
        self._out = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pace, self._requests, self._tokens = pace, requests, tokens
        self._overloads = Share()
        self._cut = float("-inf")
        self._open_from = float("-inf")
        self._closed = asyncio.Event()

    @property
    def at_once(self) -> int:
        """How many may be out now."""
        return max(1, int(self._allowed))

    @property
    def pause(self) -> float:
        """Seconds for which the provider wants no request."""
        return max(0.0, self._open_from - time.monotonic())

    async def enter(self) -> bool:
        """Waits for a place among those that may be out at once, to be held until `leave`. False: the limiter was closed."""
        while self._out >= self.at_once and not self._closed.is_set():
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        if self._closed.is_set():
            return False
        self._out += 1
        return True

    async def go(self, tokens: int, patience: float) -> float | None:
        """Waits until a request may be sent and returns that moment. None: not for a long time, or never again.

        Args:
            tokens: Input and longest output of the request.
            patience: Longest pause of the provider that is worth waiting for, in seconds.
        """
        now = time.monotonic()
        moment = self._requests.book(1, now) if self._requests else now
        moment = max(moment, self._tokens.book(tokens, now) if self._tokens else now, self._pace.book(now))
        while moment > (now := time.monotonic()) or self._open_from > now:
            if self.pause > patience or await self._sleep(max(moment, self._open_from) - now):
                return None
            if moment < self._open_from:  # all who waited for the provider go on at the pace, not all at once
                moment = self._pace.book(time.monotonic())
        return None if self._closed.is_set() else now

    def leave(self) -> None:
        """Gives the place back."""
        self._out -= 1
        self._wake(self.at_once - self._out)

    def answered(self, limits: RateHeaders) -> None:
        """Counts a reply and reads its headers."""
        self._overloads.note(False)
        self._allowed = min(self._most, self._allowed + 1 / self._allowed)
        self._pace.answered(time.monotonic(), limits.remaining_requests == 0 or limits.remaining_tokens == 0)

    def limited(self, sent: float, retry_after: float | None) -> None:
        """Counts a 429 of a request that was sent at `sent`."""
        now = time.monotonic()
        if self._pace.limited(now, sent) and retry_after:
            self._open_from = max(self._open_from, now + retry_after)

    def overloaded(self, sent: float) -> None:
        """Counts a 5xx or a timeout of a request that was sent at `sent`."""
        if self._overloads.note(True) > 0.05 and sent > self._cut:
            self._allowed = max(1.0, self._allowed * 2 / 3)
            self._cut = time.monotonic()

    def close(self) -> None:
        """Lets nobody go any more; who waits is told at once."""
        self._closed.set()
        self._wake(len(self._waiting))

    async def _sleep(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
