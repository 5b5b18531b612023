"""What a raw reply is worth: its cost, and the responses that are kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from lf_lightning.responses.base import Response
from lf_lightning.scoring.gateway.journal import Ended, Item
from lf_lightning.scoring.providers.base import Provider, Sent
from lf_lightning.scoring.requests import Request, Usage

Parts = Callable[[Request, Mapping[str, Any]], Mapping[str, Mapping[str, Any]]]
"""Splits the raw reply to a request that is about several texts into raw replies by the keys of the single ones."""
CostOf = Callable[[Usage], int | None]
"""Nanodollars of a usage; None without a price."""


def ended_by_reply(
    provider: Provider, identity: Mapping[str, Any], item: Item, attempt: int, sent: Sent, cost_of: CostOf, parts: Parts | None
) -> Ended:
    """Returns how an attempt ended that got a reply.

    One that does not tell its tokens may have cost as much as it could, and is listed as unknown.

    Args:
        provider: Who replied.
        identity: The provider's.
        item: What was asked.
        attempt: Of the ledger.
        sent: The reply.
        cost_of: See `CostOf`.
        parts: See `Parts`; a reply that it cannot split (ValueError) is kept whole.
    """
    try:
        usage = provider.read(sent.raw).usage
    except ValueError:
        usage = Usage()
    told = usage.input > 0
    cost = cost_of(usage) if told else item.bound
    tokens = {kind: count for kind, count in asdict(usage).items() if count}
    content = item.request.content(identity)
    now = time.time()
    billed = tokens if cost is None else {**tokens, "cost_nanodollars": cost}
    responses = [Response(item.key, provider.name, provider.model, content, sent.raw, billed, now)]
    if parts is not None:
        try:
            split = parts(item.request, sent.raw)
        except ValueError:
            split = {}
        responses += [Response(key, provider.name, provider.model, content, raw, {}, now) for key, raw in split.items()]
    if told:
        return Ended(attempt, cost or 0, "billed", responses=tuple(responses))
    return Ended(attempt, cost or 0, "unknown", "the reply does not tell its tokens", tuple(responses))
