"""The one way to a provider: cache, ledger, budget, limits, retries. What scorers ask, they ask here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from math import isfinite
from typing import Any, final
from uuid import uuid4

from lf_lightning.errors import BudgetError, ConfigurationError
from lf_lightning.responses.base import Response, ResponseCache
from lf_lightning.responses.ledger import Ledger
from lf_lightning.responses.sqlite import SQLiteResponses
from lf_lightning.scoring.gateway.answers import NANO, Advance, Answers, Estimate
from lf_lightning.scoring.gateway.asking import Asking
from lf_lightning.scoring.gateway.batches import Batching
from lf_lightning.scoring.gateway.interrupts import run_aside, stopping
from lf_lightning.scoring.gateway.journal import Item, Journal
from lf_lightning.scoring.gateway.limiter import Limiter
from lf_lightning.scoring.gateway.pace import Budget, Pace
from lf_lightning.scoring.gateway.replies import CostOf, Parts
from lf_lightning.scoring.prices import Price, estimated_tokens, price_of
from lf_lightning.scoring.providers.base import Provider
from lf_lightning.scoring.providers.batches import BatchInterface
from lf_lightning.scoring.requests import Request, Usage


@final
class Gateway:
    """Asks a provider: each question once ever, never above the budget, as fast as the provider allows.

    A reply is in the cache, durably, before it counts. Any number of gateways, threads and processes may share a folder.

    Args:
        responses: Folder of the response cache and the ledger.
        backend: Makes the response cache of that folder.
        concurrency: Most requests in flight; fewer while the provider says that it is overloaded.
        requests_per_minute: Limit of this process; None: what the provider allows, found by its replies.
        tokens_per_minute: Limit of input and longest output; None: as above.
        timeout: Seconds for a reply; a request that took longer may have been billed, and counts at its upper bound.
        deadline: Seconds after a request's first attempt in which it is tried again.
        attempts: Most attempts of a request.
        price: USD per million tokens; None: as the price table has it.
        batch: Use the provider's batch interface: half the price, and a day's patience.
        lease: Seconds after which the requests of a process that died may be asked again.
        grace: Seconds that requests in flight get after Ctrl-C or SIGTERM.
        poll_seconds: Between two looks at a batch.
    """

    def __init__(
        self,
        responses: str = "responses",
        backend: Callable[[str], ResponseCache] = SQLiteResponses,
        concurrency: int = 32,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        timeout: float = 60.0,
        deadline: float = 900.0,
        attempts: int = 6,
        price: Price | None = None,
        batch: bool = False,
        lease: float = 120.0,
        grace: float = 10.0,
        poll_seconds: float = 30.0,
    ) -> None:
        positive = {
            "concurrency": concurrency,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "timeout": timeout,
            "deadline": deadline,
            "attempts": attempts,
            "poll_seconds": poll_seconds,
        }
        for name, value in positive.items():
            if value is not None and value <= 0:
                raise ConfigurationError(f"{name}={value} must be above 0.")
        self._given: dict[str, Any] = {
            **positive,
            "responses": responses,
            "backend": backend,
            "price": price,
            "batch": batch,
            "lease": lease,
            "grace": grace,
        }
        self.cache = backend(responses)
        self.ledger = Ledger(responses, lease)
        self.concurrency, self.timeout, self.deadline, self.attempts = concurrency, timeout, deadline, attempts
        # Limits outlive a call of `ask`: many short runs are no way around them.
        self._requests, self._tokens = Budget.per_minute(requests_per_minute), Budget.per_minute(tokens_per_minute)
        self._paces: defaultdict[tuple[str, str], Pace] = defaultdict(Pace)
        self.price, self.batch, self.grace, self.poll_seconds = price, batch, grace, poll_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        # Locks, files and what was learnt of the pace belong to a process: a copy begins anew in the same folder.
        return partial(Gateway, **self._given), ()

    def for_workers(self, workers: int) -> Gateway:
        """Returns the gateway for each of so many processes: what they ask together keeps to this one's limits.

        Args:
            workers: How many processes there will be.

        Raises:
            ConfigurationError: A limit cannot be divided among so many, or batches are asked for.
        """
        if self.batch:
            raise ConfigurationError("batch=true: a batch is one process's business. Way out: engine=local.")
        shares: dict[str, Any] = {}
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            limit = self._given[name]
            if limit is not None and limit < workers:
                raise ConfigurationError(
                    f"workers={workers} is above {name}={limit}, which they share. Way out: fewer workers."
                )
            shares[name] = None if limit is None else limit // workers
        return Gateway(**{**self._given, **shares})

    def lookup(self, provider: Provider, requests: Sequence[Request]) -> dict[str, Response]:
        """Returns the replies that are in the cache, by request key; no network.

        Args:
            provider: Who would be asked.
            requests: What would be asked.
        """
        return self.cache.get(list(_by_key(provider.identity, requests)))

    def ask(
        self,
        provider: Provider,
        requests: Sequence[Request],
        *,
        max_cost: float | None = None,
        parts: Parts | None = None,
        advance: Advance | None = None,
    ) -> Answers:
        """Returns a reply to each request, or why there is none. Works where an event loop runs already, as in notebooks.

        On Ctrl-C and SIGTERM nothing more is sent, what is in flight has `grace` seconds, and the answers so far are returned;
        the second signal does what it always does.

        Args:
            provider: Who is asked.
            requests: What is asked; equal ones once.
            max_cost: USD that this folder's ledger may ever add up to, over all runs and processes; None: no cap.
            parts: Splits the reply to a request about several texts, see `Parts`.
            advance: Told how far the run is.

        Raises:
            ConfigurationError: `max_cost` without a known price, or one that is no amount of money.
            ResponseCacheError: The folder cannot be read.
        """
        if max_cost is not None and not (isfinite(max_cost) and max_cost >= 0):
            raise ConfigurationError(f"max_cost={max_cost:g}: expected 0 USD or more. Way out: leave it out for no cap.")
        identity = provider.identity
        wanted = _by_key(identity, requests)
        found = self.cache.get(list(wanted))
        answers = Answers(dict(found), cached=len(found))
        price = self.price or price_of(provider)
        items = [
            Item(
                key,
                request,
                0 if price is None else price.bound(request, self.batch),
                estimated_tokens(request) + request.max_output_tokens,
            )
            for key, request in wanted.items()
            if key not in found
        ]
        cap = None if max_cost is None else int(max_cost * NANO)
        if cap is not None and items:
            answers.halt = _budget_error(provider, items, price, cap)
        if items:
            self.ledger.recover(self.cache)

        def cost_of(usage: Usage) -> int | None:
            return None if price is None else price.cost(usage, self.batch)

        asking = self._batching if self.batch else self._asking
        engine = asking(provider, identity, items, cost_of, parts, advance, answers)
        run = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"

        async def work() -> Answers:
            async with Journal(self.cache, self.ledger, provider.name, provider.model, run, cap) as journal:
                return await engine(journal)

        try:
            with stopping(engine.interrupt):
                return run_aside(work)
        finally:
            self.cache.close()
            self.ledger.close()

    def estimate(self, provider: Provider, requests: Sequence[Request]) -> Estimate:
        """Returns what `ask` would ask and cost; no network, nothing spent.

        Args:
            provider: Who would be asked.
            requests: What would be asked.
        """
        wanted = _by_key(provider.identity, requests)
        found = self.cache.get(list(wanted))
        rest = [request for key, request in wanted.items() if key not in found]
        price = self.price or price_of(provider)
        return Estimate(
            len(found),
            len(rest),
            sum(estimated_tokens(request) for request in rest),
            sum(request.max_output_tokens for request in rest),
            None if price is None else sum(price.estimate(request, batch=self.batch) for request in rest) / NANO,
            None if price is None else sum(price.bound(request, self.batch) for request in rest) / NANO,
        )

    def _asking(
        self,
        provider: Provider,
        identity: Mapping[str, Any],
        items: Sequence[Item],
        cost_of: CostOf,
        parts: Parts | None,
        advance: Advance | None,
        answers: Answers,
    ) -> Asking | Batching:
        return Asking(
            provider,
            identity,
            items,
            cost_of,
            Limiter(self.concurrency, self._paces[provider.name, provider.model], self._requests, self._tokens),
            concurrency=self.concurrency,
            timeout=self.timeout,
            deadline=self.deadline,
            attempts=self.attempts,
            grace=self.grace,
            parts=parts,
            advance=advance,
            answers=answers,
        )

    def _batching(
        self,
        provider: Provider,
        identity: Mapping[str, Any],
        items: Sequence[Item],
        cost_of: CostOf,
        parts: Parts | None,
        advance: Advance | None,
        answers: Answers,
    ) -> Asking | Batching:
        if not isinstance(provider, BatchInterface):
            raise ConfigurationError(f"batch=true: {provider.name!r} has no batch interface. Way out: batch=false.")
        return Batching(provider, identity, items, cost_of, self.poll_seconds, parts, advance, answers)


def _by_key(identity: Mapping[str, Any], requests: Sequence[Request]) -> dict[str, Request]:
    return {request.key(identity): request for request in requests}


def _budget_error(provider: Provider, items: Sequence[Item], price: Price | None, cap: int) -> BudgetError | None:
    if price is None:
        raise ConfigurationError(
            f"max_cost={cap / NANO:g}: the price of {provider.model!r} is not known, so no budget can be held. "
            "Way out: price (USD per million tokens of input, output, cached input) in the gateway, or no max_cost."
        )
    largest = max(items, key=lambda item: item.bound, default=None)
    if largest is None or largest.bound <= cap:
        return None
    return BudgetError(
        f"max_cost={cap / NANO:g} USD: one request alone may cost {largest.bound / NANO:.6f} (key {largest.key[:12]}, "
        f"{largest.request.prompt[:40]!r}...). Nothing was asked. Way out: a higher max_cost, or shorter texts and replies."
    )
