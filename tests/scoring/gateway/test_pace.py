"""The limits: budgets are kept to the letter, and an unknown limit is found and used, in simulated and in real time."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from itertools import pairwise
from pathlib import Path

import pytest

from lf_lightning.scoring.gateway.limiter import Limiter
from lf_lightning.scoring.gateway.pace import Budget, Pace
from lf_lightning.scoring.gateway.retries import wait_before_retry
from lf_lightning.scoring.providers.base import ProviderError, RateHeaders
from lf_lightning.scoring.requests import Request
from tests.scoring.gateway.asks import gateway, provider, requests
from tests.scoring.gateway.fault_server import FaultServer


def simulate(limit: float, at_once: float, seconds: float, headers: bool, faults: float = 0.0) -> tuple[float, float]:
    """Returns the share of a server's limit that 64 askers use after ten seconds, and the share that is refused."""
    chance, pace = random.Random(0), Pace()
    left, filled, answered, refused, number = at_once, 0.0, 0, 0, 0
    events: list[tuple[float, int, str, float]] = [(pace.book(0.0), -asker, "send", 0.0) for asker in range(64)]
    while events:
        now, _, what, detail = heapq.heappop(events)
        if now > seconds:
            break
        number += 1
        if what == "send":
            left, filled = min(at_once, left + (now - filled) * limit), now
            if left < 1 or chance.random() < faults:
                heapq.heappush(events, (now + 0.01, number, "refused", now))
            else:
                left -= 1
                heapq.heappush(events, (now + chance.uniform(0.02, 0.06), number, "answered", float(left < 1)))
            continue
        if what == "refused":
            refused += now > 10
            pace.limited(now, detail)
            heapq.heappush(events, (now + chance.uniform(0, 1), number, "again", 0.0))
            continue
        if what == "answered":
            answered += now > 10
            pace.answered(now, headers and detail == 1.0)
        heapq.heappush(events, (pace.book(now), number, "send", now))
    return answered / (seconds - 10) / limit, refused / max(answered + refused, 1)


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize(("limit", "at_once"), [(5, 10), (50, 10), (200, 50), (500, 500)])
def test_an_unknown_limit_is_found_and_used(limit: float, at_once: float, headers: bool) -> None:
    used, refused = simulate(limit, at_once, 60, headers)
    assert used > 0.9
    assert refused < 0.25


def test_a_few_refusals_by_chance_change_little() -> None:
    used, _ = simulate(200, 50, 40, headers=False, faults=0.02)
    assert used > 0.8


def test_no_limit_until_it_is_met() -> None:
    pace = Pace()
    for moment in range(100):
        pace.answered(moment / 100, nothing_left=False)
    assert pace.rate(1.0) is None
    assert not pace.limited(1.0, 0.9)
    assert pace.book(1.0) == 1.0


def test_a_budget_is_never_passed() -> None:
    chance, budget = random.Random(0), Budget(per_second=10.0, at_once=3.0)
    now, booked = 0.0, []
    for _ in range(500):
        now += chance.expovariate(12)
        amount = chance.uniform(0.1, 2)
        booked.append((budget.book(amount, now), amount))
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(booked))
    for first, (begin, _) in enumerate(booked):
        total = 0.0
        for moment, amount in booked[first:]:
            total += amount
            assert total <= 3 + 10 * (moment - begin) + 1e-6 + amount  # what is under way when the window opens


@pytest.mark.parametrize("limits", [{"requests_per_minute": 1200}, {"tokens_per_minute": 1200 * 11}])
def test_own_limits_are_kept(tmp_path: Path, limits: dict[str, int]) -> None:
    with FaultServer() as server:
        begin = time.monotonic()
        gateway(tmp_path, concurrency=32, **limits).ask(provider(server.url), requests(60))
    assert time.monotonic() - begin > (60 - 20) / 20  # 20 a second, and a second's worth at once


def test_a_limit_of_tokens_that_nobody_told_us(tmp_path: Path) -> None:
    long = [Request("", "word " * 100 + str(number), 1) for number in range(24)]  # 126 tokens each, 8 a second
    with FaultServer(tokens_per_minute=60_000) as server:
        answers = gateway(tmp_path, concurrency=8, attempts=12).ask(provider(server.url), long)
        record = server.record()
    assert len(answers.responses) == 24
    assert record["endings"]["limited"] > 0
    assert record["last"] - record["first"] > 1.5


def test_many_short_runs_are_no_way_around_a_limit(tmp_path: Path) -> None:
    with FaultServer() as server:
        asker, begin = gateway(tmp_path, requests_per_minute=60), 0.0
        for number in range(4):
            asker.ask(provider(server.url), requests(1, first=number))
            begin = begin or time.monotonic()
    assert time.monotonic() - begin > 2.9


def test_overload_lowers_the_number_at_once_and_good_replies_raise_it() -> None:
    async def run() -> tuple[int, int]:
        limiter = Limiter(32, Pace())
        for _ in range(30):
            assert await limiter.enter()
            sent = await limiter.go(1, 1.0)
            assert sent is not None
            limiter.overloaded(sent)
            limiter.leave()
        low = limiter.at_once
        for _ in range(32 * 33):
            limiter.answered(RateHeaders())
        return low, limiter.at_once

    low, high = asyncio.run(run())
    assert low < 8
    assert high == 32


def test_never_more_at_once_than_allowed(tmp_path: Path) -> None:
    with FaultServer(latency=0.03) as server:
        gateway(tmp_path, concurrency=5).ask(provider(server.url), requests(60))
        assert server.record()["most_at_once"] == 5


def test_a_server_with_few_places_is_not_overrun(tmp_path: Path) -> None:
    with FaultServer(latency=0.05, slots=8) as server:
        answers = gateway(tmp_path, concurrency=32, attempts=12).ask(provider(server.url), requests(100))
        record = server.record()
    assert len(answers.responses) == 100
    assert record["endings"]["503"] < 100


def test_who_waits_is_told_when_the_limiter_closes() -> None:
    async def run() -> float:
        limiter = Limiter(1, Pace(), Budget.per_minute(1))

        async def admit() -> float | None:
            return await limiter.go(1, 900.0) if await limiter.enter() else None

        assert await admit() is not None
        waiting = [asyncio.create_task(admit()) for _ in range(3)]
        await asyncio.sleep(0.01)
        limiter.leave()  # one now waits for its minute, two for a place
        await asyncio.sleep(0.01)
        begin = time.monotonic()
        limiter.close()
        assert await asyncio.gather(*waiting) == [None] * 3
        return time.monotonic() - begin

    assert asyncio.run(run()) < 1


def test_backoff_grows_with_full_jitter_after_what_is_asked_for() -> None:
    chance = random.Random(0)
    error, asked = ProviderError("unavailable", ""), ProviderError("rate_limited", "", retry_after=7.0)
    for attempt in range(1, 9):
        waits = [wait_before_retry(error, attempt, 10, 0.0, 900.0, chance) for _ in range(200)]
        top = min(60.0, 0.5 * 2 ** (attempt - 1))
        found = [wait for wait in waits if wait is not None]
        assert len(found) == 200
        assert 0 <= min(found) < 0.1 * top
        assert 0.9 * top < max(found) <= top
    later = wait_before_retry(asked, 1, 10, 0.0, 900.0, chance)
    assert later is not None
    assert later >= 7
    assert wait_before_retry(asked, 1, 10, 895.0, 900.0, chance) is None
    assert wait_before_retry(ProviderError("rejected", ""), 1, 10, 0.0, 900.0, chance) is None
