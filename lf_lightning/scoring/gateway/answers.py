"""What a run of the gateway gives back, and what it tells on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lf_lightning.errors import LFError
from lf_lightning.responses.base import Response
from lf_lightning.scoring.providers.base import FailureKind

NANO = 1_000_000_000
"""Nanodollars in a dollar; money is counted in whole nanodollars."""


@dataclass(frozen=True)
class Failure:
    """A request that ends without a reply, after all attempts that were worth it. Asked again by the next run.

    Attributes:
        kind: What its last attempt ended by.
        message: For people; holds no key.
    """

    kind: FailureKind
    message: str


@dataclass
class Answers:
    """What became of the requests of one run. A request that is in neither mapping was not asked, because the run was halted.

    Attributes:
        responses: The raw replies, by request key, whether paid for now or before.
        failures: The requests that failed, by key.
        halt: Why the run stopped before all were asked; None: it did not.
        asked: Requests that were sent, each counted once, however often it was tried.
        cached: Replies that were there before, or that another process put there meanwhile.
        billed_nanodollars: What the replies cost that came now.
        unknown: Attempts that may have been billed although no reply arrived (timeouts, cut replies).
        unknown_nanodollars: Their upper bound, which counts towards `max_cost`.
    """

    responses: dict[str, Response] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    halt: LFError | None = None
    asked: int = 0
    cached: int = 0
    billed_nanodollars: int = 0
    unknown: int = 0
    unknown_nanodollars: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a run is; requests that are equal count once.

    Attributes:
        total: Requests.
        done: Those with a reply, cached ones included.
        cached: Those whose reply was there before.
        failed: Those that failed for good.
        cost_usd: What this run cost so far, attempts with an unknown end at their upper bound.
        to_go_usd: What the rest may cost, by the mean so far; None while nothing is known of the price.
    """

    total: int
    done: int
    cached: int
    failed: int
    cost_usd: float
    to_go_usd: float | None


Advance = Callable[[Progress], object]
"""Told how far the run is, some times a second and at its end, in a thread of the gateway's own."""


@dataclass(frozen=True)
class Estimate:
    """What a run would ask and cost; made without a network.

    Attributes:
        cached: Distinct requests whose reply is there.
        to_ask: Distinct requests that would be sent.
        input_tokens: Of those, estimated from their length.
        output_tokens: Of those, as many as each may have.
        cost_usd: At these tokens; None without a price.
        upper_bound_usd: No bill is higher, unless attempts time out; None without a price.
    """

    cached: int
    to_ask: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    upper_bound_usd: float | None
