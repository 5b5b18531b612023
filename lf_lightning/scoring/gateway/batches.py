"""A run through a provider's batch interface: noted, submitted, polled, collected; days later too, by running it again.

A batch is noted in the ledger under our label before it is submitted and under the provider's id after. A process that dies in
between leaves a batch that is found again (`BatchInterface.find`) once its leases have run out, or attempts that count as
unknown where it cannot be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar
from uuid import uuid4

from lf_lightning.errors import BudgetError, ConfigurationError, LFError, ProviderAccessError
from lf_lightning.responses.accounts import Batch, Granted, OverBudget
from lf_lightning.responses.base import Response
from lf_lightning.scoring.gateway.answers import NANO, Advance, Answers, Failure, Progress
from lf_lightning.scoring.gateway.journal import Ended, Item, Journal
from lf_lightning.scoring.gateway.replies import CostOf, Parts, ended_by_reply
from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent
from lf_lightning.scoring.providers.batches import BatchInterface

Result = TypeVar("Result")
_LABEL = "label:"
_PATIENCE = 20


class Batching:
    """Collects the batches that are out, submits what is left, and waits for all.

    Args:
        provider: Who is asked; a `BatchInterface` too.
        identity: The provider's.
        items: What is asked, no key twice.
        cost_of: See `CostOf`, at the batch's price.
        poll_seconds: Between two looks at the batches that are out.
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
        poll_seconds: float,
        parts: Parts | None,
        advance: Advance | None,
        answers: Answers,
    ) -> None:
        assert isinstance(provider, BatchInterface)
        self._provider, self._interface, self._identity = provider, provider, identity
        self._items = {item.key: item for item in items}
        self._total = len(items) + len(answers.responses)
        self._cost_of, self._poll_seconds, self._parts, self._advance = cost_of, poll_seconds, parts, advance
        self._answers = answers
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, journal: Journal) -> Answers:
        """Returns the answers when no batch is out any more, or when the run was halted; batches go on without us."""
        self._loop, self._halted, self._journal = asyncio.get_running_loop(), asyncio.Event(), journal
        try:
            # Again, as what another process had may come free: it died, or its batch was refused.
            while self._answers.halt is None and self._left():
                await self._find_lost()
                await self._submit_rest()
                await self._collect_all()
        except ProviderError as error:
            self._answers.halt = self._answers.halt or ProviderAccessError(f"{error} What was paid for is kept.")
        except LFError as error:
            self._answers.halt = self._answers.halt or error
        finally:
            await self._provider.close()
        self._tell()
        return self._answers

    def interrupt(self, halt: LFError) -> None:
        """Stops waiting. May be called from any thread and from a signal's handler."""
        self._answers.halt = self._answers.halt or halt
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._halted.set)

    async def _find_lost(self) -> None:
        """Batches that a process submitted, or was about to, when it died."""
        ledger = self._journal.ledger
        for batch in await self._out():
            if not batch.id.startswith(_LABEL) or batch.until > time.time():
                continue  # its process is alive, and about to submit it
            if not batch.attempts:
                await asyncio.to_thread(ledger.close_batch, batch.id)  # killed once the provider's id was noted
                continue
            if not batch.attempts.keys() & self._items.keys():
                continue  # perhaps of another account or address: not to be found there says nothing
            found = await self._patiently(self._interface.find, batch.id.removeprefix(_LABEL))
            if found is not None:
                await asyncio.to_thread(ledger.open_batch, found, self._provider.name, list(batch.attempts.values()))
            elif self._interface.can_find:
                for attempt in batch.attempts.values():
                    await self._journal.end(Ended(attempt, 0, "free", "its batch was never submitted"))
            await asyncio.to_thread(ledger.close_batch, batch.id)

    async def _submit_rest(self) -> None:
        out = {key for batch in await self._out() for key in batch.attempts}
        todo = [item for item in self._left() if item.key not in out]
        claims = await asyncio.gather(*(self._journal.claim(item) for item in todo))
        granted: dict[str, int] = {}
        over: OverBudget | None = None
        for item, claim in zip(todo, claims, strict=True):
            if isinstance(claim, Granted):
                granted[item.key] = claim.attempt_id
            elif isinstance(claim, Response):
                self._answers.responses[item.key] = claim
                self._answers.cached += 1
            elif isinstance(claim, OverBudget):
                over = over or claim
            else:
                self._answers.failures[item.key] = Failure(
                    "unavailable", "another process asks it. Way out: the same command again."
                )
        try:
            for part in self._interface.split({key: deepcopy(self._items[key].request) for key in granted}):
                if self._halted.is_set():
                    break
                await self._submit(part, [granted.pop(key) for key in part])
        finally:
            await self._not_billed(granted.values(), "not submitted")
        if over is not None:
            self._answers.halt = BudgetError(
                f"max_cost={(self._journal.cap or 0) / NANO:g} USD: {over.spent / NANO:.6f} are spent, "
                f"{over.reserved / NANO:.6f} reserved, and requests are left. Way out: a higher max_cost, and the same command."
            )

    async def _submit(self, part: Mapping[str, Any], attempts: list[int]) -> None:
        ledger, label = self._journal.ledger, f"lf-{uuid4().hex}"
        try:
            await asyncio.to_thread(ledger.open_batch, _LABEL + label, self._provider.name, attempts, submitted=False)
            batch = await self._interface.submit(part, label)
        except LFError:  # the ledger cannot be written, or the provider has no such path or model
            await self._not_billed(attempts, "not submitted")
            await asyncio.to_thread(ledger.close_batch, _LABEL + label)
            raise
        except ProviderError as error:
            if not error.maybe_billed:
                await self._not_billed(attempts, error.kind)
                await asyncio.to_thread(ledger.close_batch, _LABEL + label)
            raise  # one that may have arrived stays noted: a run looks for it once its leases have run out
        self._answers.asked += len(attempts)
        await asyncio.to_thread(ledger.open_batch, batch, self._provider.name, attempts)
        await asyncio.to_thread(ledger.close_batch, _LABEL + label)

    async def _not_billed(self, attempts: Iterable[int], reason: str) -> None:
        await asyncio.gather(*(self._journal.end(Ended(attempt, 0, "free", reason)) for attempt in attempts))

    async def _collect_all(self) -> None:
        while not self._halted.is_set():
            for batch in await self._mine():
                if not batch.id.startswith(_LABEL):
                    await self._collect(batch)
            self._tell()
            await self._find_lost()
            if not await self._mine():
                return
            try:
                await asyncio.wait_for(self._halted.wait(), self._poll_seconds)
            except asyncio.TimeoutError:
                continue

    async def _collect(self, batch: Batch) -> None:
        try:
            state = await self._patiently(self._interface.poll, batch.id)
            if state == "running":
                return
            outcomes = {} if state == "failed" else dict(await self._patiently(self._interface.collect, batch.id))
        except (ProviderError, ConfigurationError) as error:  # the latter: there is no such path (404)
            if isinstance(error, ProviderError) and error.kind != "rejected":
                raise
            raise ConfigurationError(
                f"The batch {batch.id} of {len(batch.attempts)} requests: {error} "
                f"If the provider has it no longer: lf cache close-batch --batch {batch.id}"
            ) from error
        await asyncio.gather(*(self._end(key, attempt, outcomes.get(key), state) for key, attempt in batch.attempts.items()))
        if batch.attempts.keys() <= self._items.keys():
            await asyncio.to_thread(self._journal.ledger.close_batch, batch.id)

    async def _end(self, key: str, attempt: int, outcome: Sent | ProviderError | None, state: str) -> None:
        item = self._items.get(key)
        if item is None:
            return  # of another scorer, whose run collects it
        if isinstance(outcome, Sent):
            ended = ended_by_reply(self._provider, self._identity, item, attempt, outcome, self._cost_of, self._parts)
            await self._journal.end(ended)
            self._answers.billed_nanodollars += ended.cost
            self._answers.responses.update((response.key, response) for response in ended.responses)
            return
        error = outcome or ProviderError("unavailable", f"its batch ended ({state}) without it.")
        unknown = error.maybe_billed or (outcome is None and state == "done")
        self._answers.unknown += unknown
        self._answers.unknown_nanodollars += item.bound if unknown else 0
        await self._journal.end(Ended(attempt, item.bound if unknown else 0, "unknown" if unknown else "free", error.kind))
        self._answers.failures[key] = Failure(error.kind, str(error))

    def _left(self) -> list[Item]:
        answers = self._answers
        return [item for key, item in self._items.items() if key not in answers.responses and key not in answers.failures]

    async def _mine(self) -> list[Batch]:
        return [batch for batch in await self._out() if batch.attempts.keys() & self._items.keys()]

    async def _out(self) -> list[Batch]:
        return await asyncio.to_thread(self._journal.ledger.batches, self._provider.name)

    async def _patiently(self, call: Callable[[str], Awaitable[Result]], name: str) -> Result:
        """Asks again while it is worth it: nothing here costs anything, and the batch goes on meanwhile."""
        for attempt in range(_PATIENCE):
            try:
                return await call(name)
            except ProviderError as error:
                if not error.retryable or attempt + 1 == _PATIENCE or self._halted.is_set():
                    raise
                await asyncio.sleep(error.retry_after or min(self._poll_seconds, 2.0**attempt))
        raise AssertionError

    def _tell(self) -> None:
        if self._advance is not None:
            answers = self._answers
            cost = (answers.billed_nanodollars + answers.unknown_nanodollars) / NANO
            self._advance(Progress(self._total, len(answers.responses), answers.cached, len(answers.failures), cost, None))
