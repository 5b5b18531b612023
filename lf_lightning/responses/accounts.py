"""What the ledger hands out: attempts, claims, batches, sums. Money is whole nano-dollars (1e-9 USD): sums are exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

State = Literal["open", "billed", "free", "unknown"]
"""`open`: being asked. `billed`: a reply came. `free`: surely not billed. `unknown`: may have been; counts its upper bound."""

Column = Literal["provider", "model", "day", "run"]


@dataclass(frozen=True)
class Attempt:
    """One sending of one request.

    Attributes:
        id: Number in this ledger, counted from 1.
        key: Of the request.
        holder: Who sent it: process and ledger object.
        run: The run's name.
        provider: The provider's name.
        model: The model that was asked.
        day: UTC day of the claim, as YYYY-MM-DD.
        reserved: Upper bound of the cost, in nano-dollars.
        cost: What it counts for in nano-dollars once it is settled; 0 while it is open.
        state: See `State`.
        reason: Why it ended so; may be empty.
        started: Time of the claim, in seconds since 1970.
        ended: Time of the settlement; None while open, and where the asking process died, so that nobody knows.
    """

    id: int
    key: str
    holder: str
    run: str
    provider: str
    model: str
    day: str
    reserved: int
    cost: int
    state: State
    reason: str
    started: float
    ended: float | None


@dataclass(frozen=True)
class Granted:
    """The key is ours to ask, and its upper bound is reserved."""

    attempt_id: int


@dataclass(frozen=True)
class Held:
    """Somebody is asking already: wait, then look into the cache again. `until` is infinite while it is in an open batch."""

    until: float


@dataclass(frozen=True)
class OverBudget:
    """Asking might pass the cap: what had been spent, and what was reserved by others and by earlier keys of this claim."""

    spent: int
    reserved: int


Claim: TypeAlias = Granted | Held | OverBudget


@dataclass(frozen=True)
class Batch:
    """A batch that a provider is working on.

    Attributes:
        id: The provider's.
        provider: The provider's name.
        opened: Seconds since 1970.
        attempts: Those of its attempts that are not settled, by key.
        until: While it is not submitted, when it counts as that of a dead process, in seconds since 1970; else 0.
    """

    id: str
    provider: str
    opened: float
    attempts: Mapping[str, int]
    until: float = 0.0


@dataclass(frozen=True)
class Spending:
    """Sums over attempts, in nano-dollars.

    Attributes:
        spent: Cost of all that is settled; `unknown` is part of it.
        reserved: Upper bounds of what is open.
        unknown: Upper bounds of what may have been billed.
        attempts: How many there were.
        unknown_attempts: How many of them may have been billed.
    """

    spent: int = 0
    reserved: int = 0
    unknown: int = 0
    attempts: int = 0
    unknown_attempts: int = 0
