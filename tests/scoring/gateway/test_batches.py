"""Batches are submitted once, found again after a crash, collected days later, and cost half."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lf_lightning.errors import BudgetError, ConfigurationError, Interrupted, ProviderAccessError
from lf_lightning.responses import Ledger
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.gateway.batches import Batching
from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent
from lf_lightning.scoring.providers.batches import BatchInterface, BatchState
from lf_lightning.scoring.providers.wire import failure_of
from lf_lightning.scoring.requests import Reply, Request, Usage
from tests.scoring.gateway.asks import PRICE, gateway, provider, requests
from tests.scoring.gateway.fault_server import FaultServer


class Slow(Provider, BatchInterface):
    """A provider in memory whose batches are done after some polls."""

    name: ClassVar[str] = "slow"
    batch_requests: ClassVar[int] = 10
    batch_bytes: ClassVar[int] = 10**6
    can_find: ClassVar[bool] = True

    def __init__(self, polls: int = 1) -> None:
        self.model, self.polls = "m", polls
        self.batches: dict[str, tuple[str, list[str]]] = {}
        self.polled: dict[str, int] = {}
        self.outcomes: dict[str, Sent | ProviderError] = {}
        self.state: BatchState = "done"
        self.dies_after_submit = False
        self.refuses: Exception | None = None

    @property
    def identity(self) -> dict[str, Any]:
        return {"model": self.model}

    async def send(self, request: Request, timeout: float) -> Sent:
        raise AssertionError

    def read(self, raw: Mapping[str, Any]) -> Reply:
        return Reply(raw["text"], "stop", usage=Usage(10, 1))

    def batch_entry(self, key: str, request: Request) -> dict[str, Any]:
        return {"key": key, "prompt": request.prompt}

    async def submit(self, requests: Mapping[str, Request], label: str) -> str:
        if self.refuses:
            raise self.refuses
        name = f"batch-{len(self.batches)}"
        self.batches[name] = (label, list(requests))
        if self.dies_after_submit:
            raise asyncio.CancelledError
        return name

    async def poll(self, batch: str) -> BatchState:
        self.polled[batch] = self.polled.get(batch, 0) + 1
        return self.state if self.polled[batch] >= self.polls else "running"

    async def collect(self, batch: str) -> list[tuple[str, Sent | ProviderError]]:
        return [(key, self.outcomes.get(key, Sent({"text": key}))) for key in self.batches[batch][1] if key not in ("missing",)]

    async def find(self, label: str) -> str | None:
        return next((name for name, (known, _) in self.batches.items() if known == label), None)


def batching(folder: Path, **arguments: Any) -> Gateway:
    return gateway(folder, batch=True, poll_seconds=0.01, **arguments)


def test_batches_are_collected_at_half_the_price(tmp_path: Path) -> None:
    slow, asker = Slow(polls=3), batching(tmp_path)
    answers = asker.ask(slow, requests(25) * 2)
    assert [len(keys) for _, keys in slow.batches.values()] == [10, 10, 5]
    assert answers.halt is None
    assert len(answers.responses) == answers.asked == 25
    assert answers.billed_nanodollars == asker.ledger.total().spent == 25 * PRICE.cost(Usage(10, 1)) // 2
    assert asker.ledger.total().reserved == 0
    assert asker.ledger.batches("slow") == []
    assert asker.ask(slow, requests(25)).cached == 25
    assert len(slow.batches) == 3


def test_stopped_while_waiting_and_collected_by_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(polls=10**9)
    tell = Batching._tell

    def stop(self: Batching) -> None:
        tell(self)
        self.interrupt(Interrupted("stopped"))

    monkeypatch.setattr(Batching, "_tell", stop)
    first = batching(tmp_path, lease=0.1).ask(slow, requests(15))
    monkeypatch.setattr(Batching, "_tell", tell)
    assert isinstance(first.halt, Interrupted)
    assert not first.responses
    slow.polls = 0
    later = batching(tmp_path, lease=0.1).ask(slow, requests(20))  # 5 are new
    assert len(later.responses) == 20
    assert later.asked == 5
    assert sorted(len(keys) for _, keys in slow.batches.values()) == [5, 5, 10]


@pytest.mark.parametrize("arrived", [True, False])
def test_killed_between_submitting_and_noting(tmp_path: Path, arrived: bool) -> None:
    slow = Slow()
    slow.dies_after_submit = True
    with pytest.raises(asyncio.CancelledError):
        batching(tmp_path, lease=0.1).ask(slow, requests(5))
    if not arrived:
        slow.batches.clear()
    slow.dies_after_submit = False
    answers = batching(tmp_path).ask(slow, requests(5))
    assert len(answers.responses) == 5
    assert len(slow.batches) == 1
    assert answers.asked == (0 if arrived else 5)
    assert batching(tmp_path).ledger.total().unknown == 0


def test_killed_between_noting_and_closing_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    slow = Slow()
    monkeypatch.setattr(Ledger, "close_batch", killed)
    with pytest.raises(RuntimeError, match="killed"):
        batching(tmp_path).ask(slow, requests(5))
    monkeypatch.undo()
    asker = batching(tmp_path)
    answers = asker.ask(slow, requests(6))
    assert (answers.halt, len(answers.responses), answers.asked) == (None, 6, 1)
    assert asker.ledger.batches("slow") == []


@pytest.mark.parametrize("first", [0, 100])
def test_a_batch_that_another_process_is_about_to_submit_is_left_alone(tmp_path: Path, first: int) -> None:
    slow, looked = Slow(), threading.Event()
    submit, others = slow.submit, []

    def ask() -> None:
        others.append(batching(tmp_path).ask(slow, requests(5, first), advance=lambda _: looked.set()))

    beside = threading.Thread(target=ask)

    async def upload(part: Mapping[str, Any], label: str) -> str:
        if beside.ident is None:
            beside.start()
            assert await asyncio.to_thread(looked.wait, 30)
        return await submit(part, label)

    slow.submit = upload  # type: ignore[method-assign]
    asker = batching(tmp_path)
    answers = asker.ask(slow, requests(5))
    beside.join()
    assert len(answers.responses) == len(others[0].responses) == 5
    assert not answers.failures
    assert len(slow.batches) == (1 if first == 0 else 2)
    total = asker.ledger.total()
    assert (total.unknown, total.reserved) == (0, 0)


def test_what_was_lost_at_another_address_is_left_to_it(tmp_path: Path) -> None:
    slow = Slow()
    slow.dies_after_submit = True
    with pytest.raises(asyncio.CancelledError):
        batching(tmp_path, lease=0.05).ask(slow, requests(5))
    time.sleep(0.06)
    assert len(batching(tmp_path).ask(Slow(), requests(3, 100)).responses) == 3
    slow.dies_after_submit = False
    answers = batching(tmp_path).ask(slow, requests(5))
    assert (len(answers.responses), answers.asked, len(slow.batches)) == (5, 0, 1)


def test_nothing_is_submitted_once_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = Batching._submit

    async def then_stop(self: Batching, part: Mapping[str, Any], attempts: list[int]) -> None:
        await submit(self, part, attempts)
        self.interrupt(Interrupted("stopped"))
        await self._halted.wait()

    monkeypatch.setattr(Batching, "_submit", then_stop)
    slow, asker = Slow(), batching(tmp_path)
    assert isinstance(asker.ask(slow, requests(25)).halt, Interrupted)
    assert len(slow.batches) == 1
    assert len(list(asker.ledger.attempts("open"))) == 10
    assert len(list(asker.ledger.attempts("free"))) == 15


@pytest.mark.parametrize("step", ["split", "submit"])
def test_what_the_provider_cannot_take_costs_nothing(tmp_path: Path, step: str) -> None:
    def refuse(*_: object) -> None:
        raise ConfigurationError("no such path")

    slow, asker = Slow(), batching(tmp_path)
    if step == "split":
        slow.split = refuse  # type: ignore[method-assign,assignment]
    else:
        slow.refuses = ConfigurationError("no such path")
    answers = asker.ask(slow, requests(12))
    assert isinstance(answers.halt, ConfigurationError)
    assert {attempt.state for attempt in asker.ledger.attempts()} == {"free"}
    assert asker.ledger.batches("slow") == []


def test_what_failed_inside_a_batch_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    slow, who = Slow(), requests(4)
    keys = [request.key(slow.identity) for request in who]
    slow.outcomes = {keys[0]: ProviderError("rejected", "too long"), keys[1]: ProviderError("unavailable", "expired")}
    asker = batching(tmp_path)
    answers = asker.ask(slow, who)
    assert {key: failure.kind for key, failure in answers.failures.items()} == {keys[0]: "rejected", keys[1]: "unavailable"}
    assert asker.ledger.total().spent == answers.billed_nanodollars
    slow.outcomes = {}
    assert asker.ask(slow, who).asked == 2


@pytest.mark.parametrize("status", [404, 400])
def test_a_batch_that_the_provider_has_no_longer_names_the_way_out(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(self: Slow, batch: str) -> BatchState:
        raise failure_of(status, "", "No such batch", {}, "slow")

    slow, asker = Slow(), batching(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Slow, "poll", gone)
        answers = asker.ask(slow, requests(5))
    assert isinstance(answers.halt, ConfigurationError)
    assert "lf cache close-batch --batch batch-0" in str(answers.halt)
    asker.ledger.close_batch("batch-0")
    assert len(batching(tmp_path).ask(slow, requests(5)).responses) == 5
    assert asker.ledger.total().unknown_attempts == 5


def test_a_failed_batch_costs_nothing(tmp_path: Path) -> None:
    slow, asker = Slow(), batching(tmp_path)
    slow.state = "failed"
    answers = asker.ask(slow, requests(3))
    assert len(answers.failures) == 3
    assert (asker.ledger.total().spent, asker.ledger.total().reserved) == (0, 0)


def test_no_credit_and_no_batch_interface(tmp_path: Path) -> None:
    slow, asker = Slow(), batching(tmp_path)
    slow.refuses = ProviderError("quota", "no credit")
    assert isinstance(asker.ask(slow, requests(12)).halt, ProviderAccessError)
    assert asker.ledger.total().reserved == 0
    with pytest.raises(ConfigurationError, match="batch"):
        asker.ask(provider("http://127.0.0.1:9/v1"), requests(1))


def test_a_batch_stays_below_the_cap(tmp_path: Path) -> None:
    slow, asker = Slow(), batching(tmp_path)
    bound = PRICE.bound(requests(1)[0], batch=True)
    answers = asker.ask(slow, requests(10), max_cost=4.5 * bound / 1e9)
    assert isinstance(answers.halt, BudgetError)
    assert len(answers.responses) == 4


def test_what_a_batch_reserves_for_days_is_not_waited_for(tmp_path: Path) -> None:
    slow = Slow()
    slow.dies_after_submit = True
    with pytest.raises(asyncio.CancelledError):
        batching(tmp_path).ask(slow, requests(4))
    bound = PRICE.bound(requests(1)[0])
    with FaultServer() as server:
        answers = gateway(tmp_path, lease=0.3).ask(provider(server.url), requests(1), max_cost=2.5 * bound / 1e9)
    assert isinstance(answers.halt, BudgetError)
    assert answers.asked == 0


def test_what_a_batch_asks_is_not_asked_beside_it(tmp_path: Path) -> None:
    slow = Slow(polls=10**9)
    asker = batching(tmp_path)

    async def stop(_: str) -> BatchState:
        raise ProviderError("denied", "no key any more")

    slow.poll = stop  # type: ignore[method-assign]
    asker.ask(slow, requests(3))
    answers = gateway(tmp_path).ask(slow, requests(3))  # `send` of this provider fails the test
    assert {failure.kind for failure in answers.failures.values()} == {"unavailable"}
