"""The gateway's side of response cache and ledger: off the event loop, many at once, and in the one order that loses nothing.

look in the cache, claim and reserve, look again, send, store the reply durably, settle
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from lf_lightning.errors import LFError
from lf_lightning.responses.accounts import Granted, Held, OverBudget
from lf_lightning.responses.base import Response, ResponseCache
from lf_lightning.responses.ledger import Ledger
from lf_lightning.scoring.gateway.grouped import Grouped
from lf_lightning.scoring.requests import Request


@dataclass
class Item:
    """A request on its way.

    Attributes:
        key: Of the request.
        request: What to ask.
        bound: What it may cost at most, nanodollars.
        tokens: Input, as estimated, and longest output.
        attempts: Times it was sent.
        began: When it was first sent.
    """

    key: str
    request: Request
    bound: int
    tokens: int
    attempts: int = 0
    began: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: its cost, its state in the ledger, and the replies to store."""

    attempt: int
    cost: int
    state: Literal["billed", "free", "unknown"]
    reason: str = ""
    responses: tuple[Response, ...] = ()


class Journal:
    """Claims and settles attempts for one run. Used as an async context manager: leases are renewed meanwhile.

    Args:
        cache: Where replies are kept.
        ledger: Where attempts are.
        provider: Name of the provider.
        model: Name of the model.
        run: Name of the run.
        cap: Nanodollars that the ledger's sum may not pass; None: no cap.
    """

    def __init__(self, cache: ResponseCache, ledger: Ledger, provider: str, model: str, run: str, cap: int | None) -> None:
        self.cache, self.ledger = cache, ledger
        self.provider, self.model, self.run, self.cap = provider, model, run, cap
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="lf-journal")
        self._claims: Grouped[Item, Granted | Held | OverBudget | Response] = Grouped(self._claim_all, self._threads)
        self._ends: Grouped[Ended, None] = Grouped(self._end_all, self._threads)
        self._open: set[int] = set()

    async def __aenter__(self) -> Journal:
        self._heart = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heart.cancel()
        await asyncio.gather(self._heart, return_exceptions=True)
        self._threads.shutdown()

    async def claim(self, item: Item) -> Granted | Held | OverBudget | Response:
        """Returns the reply, if it has come meanwhile; else the attempt to make, who else makes it, or what is left of the cap.

        Raises:
            ResponseCacheError: Cache or ledger cannot be written to, so nothing may be asked.
        """
        claim = await self._claims(item)
        if isinstance(claim, Granted):
            self._open.add(claim.attempt_id)
        return claim

    async def end(self, ended: Ended) -> None:
        """Stores the replies durably, then settles the attempt.

        Raises:
            ResponseCacheError: The replies could not be stored. The attempt is settled at its cost nevertheless.
        """
        try:
            await self._ends(ended)
        finally:
            self._open.discard(ended.attempt)

    def _claim_all(self, group: list[Item]) -> list[Granted | Held | OverBudget | Response]:
        claims = self.ledger.claim(
            [(item.key, item.bound) for item in group], provider=self.provider, model=self.model, run=self.run, cap=self.cap
        )
        found = self.cache.get([item.key for item in group])
        mine = [claim.attempt_id for key in found if isinstance(claim := claims[key], Granted)]
        for attempt in mine:
            self.ledger.settle(attempt, 0, "free", "answered meanwhile")
        if mine:
            self.ledger.recover(self.cache)
        return [found.get(item.key) or claims[item.key] for item in group]

    def _end_all(self, group: list[Ended]) -> list[None]:
        try:
            self.cache.put([response for ended in group for response in ended.responses])
        finally:
            for ended in group:
                self.ledger.settle(ended.attempt, ended.cost, ended.state, ended.reason)
        return [None] * len(group)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.ledger.lease / 3)
            with suppress(LFError):  # a full disk: what writes next says so
                await asyncio.get_running_loop().run_in_executor(self._threads, self.ledger.renew, list(self._open))
