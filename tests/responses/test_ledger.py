"""Claims, reservations, attempts and batches: nothing asked twice, nothing spent above the cap, nothing forgotten."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lf_lightning.errors import ConfigurationError, ResponseCacheError
from lf_lightning.responses import Granted, Held, Ledger, OverBudget, Response, Spending, SQLiteResponses
from lf_lightning.responses.database import DiskFullError
from lf_lightning.responses.ledger import DIED, RECOVERED
from lf_lightning.responses.ledger_layout import LAYOUT

SAME = {"provider": "openai", "model": "gpt", "run": "r"}
KILLS = 20 if os.environ.get("LF_SLOW") == "1" else 10


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    assert ledger.verify() == []
    ledger.close()


@pytest.fixture
def dead(tmp_path: Path, ledger: Ledger) -> Callable[..., int]:
    """Returns a function that claims a key as a process that died since."""

    def claim(key: str, bound: int = 10) -> int:
        other = Ledger(tmp_path, lease=1e-6)
        (granted,) = other.claim([(key, bound)], cap=None, **SAME).values()
        other.close()
        time.sleep(0.001)
        return granted.attempt_id

    return claim


def reply(key: str, cost: int | None = 7, created: float | None = None, **raw: object) -> Response:
    usage = {} if cost is None else {"cost_nanodollars": cost}
    return Response(key, "openai", "gpt", {}, raw, usage, time.time() if created is None else created)


def test_a_claim_is_granted_once_and_free_again_when_settled(ledger: Ledger, tmp_path: Path) -> None:
    claims = ledger.claim([("a", 5), ("b", 6), ("a", 9)], cap=None, **SAME)
    assert claims == {"a": Granted(1), "b": Granted(2)}
    other = Ledger(tmp_path)
    held = other.claim([("a", 5), ("c", 1)], cap=None, **SAME)
    assert isinstance(held["a"], Held)
    assert 100 < held["a"].until - time.time() <= 120
    assert held["c"] == Granted(3)
    assert isinstance(ledger.claim([("a", 5)], cap=None, **SAME)["a"], Held)
    assert ledger.settle(1, 4, "billed")
    assert other.claim([("a", 5)], cap=None, **SAME) == {"a": Granted(4)}
    other.close()


def test_the_cap_counts_spent_and_reserved(ledger: Ledger) -> None:
    claims = ledger.claim([("a", 40), ("b", 40), ("c", 40), ("d", 20)], cap=100, **SAME)
    assert claims == {"a": Granted(1), "b": Granted(2), "c": OverBudget(0, 80), "d": Granted(3)}
    assert ledger.claim([("e", 1)], cap=100, **SAME) == {"e": OverBudget(0, 100)}
    ledger.settle(1, 10, "billed")
    ledger.settle(2, 0, "free")
    assert ledger.claim([("e", 70), ("f", 1)], cap=100, **SAME) == {"e": Granted(4), "f": OverBudget(10, 90)}


def test_the_cap_spans_runs_and_a_higher_one_goes_on(ledger: Ledger, tmp_path: Path) -> None:
    (claim,) = ledger.claim([("a", 60)], cap=60, **SAME).values()
    ledger.settle(claim.attempt_id, 60, "billed")
    ledger.close()
    again = Ledger(tmp_path)
    assert again.claim([("b", 1)], cap=60, **{**SAME, "run": "another"}) == {"b": OverBudget(60, 0)}
    assert isinstance(again.claim([("b", 1)], cap=61, **{**SAME, "run": "another"})["b"], Granted)
    assert again.spent("run") == {("r",): Spending(60, 0, 0, 1, 0), ("another",): Spending(0, 1, 0, 1, 0)}
    again.close()


@pytest.mark.parametrize(("state", "cost"), [("billed", 7), ("free", 0), ("unknown", 10)])
def test_each_state_counts_what_it_should(ledger: Ledger, state: Any, cost: int) -> None:
    ledger.claim([("a", 10)], cap=None, **SAME)
    assert ledger.settle(1, 7, state, "why")
    (attempt,) = ledger.attempts(state)
    assert (attempt.cost, attempt.reserved, attempt.state, attempt.reason) == (cost, 10, state, "why")
    assert attempt.ended is not None
    assert attempt.started <= attempt.ended <= time.time()
    assert attempt.day == time.strftime("%Y-%m-%d", time.gmtime(attempt.started))
    assert attempt.holder.startswith(f"{os.getpid()}-")
    unknown = state == "unknown"
    assert ledger.total() == Spending(cost, 0, cost * unknown, 1, int(unknown))
    assert list(ledger.attempts("open")) == []
    # An unknown one may yet be known; a known one stays.
    assert ledger.settle(1, 3, "billed") == unknown
    assert ledger.total().spent == (3 if unknown else cost)


def test_a_dead_claimer_is_taken_over_and_counts_as_unknown(ledger: Ledger, dead: Callable[..., int]) -> None:
    dead("a")
    assert isinstance(ledger.claim([("a", 10)], cap=19, **SAME)["a"], OverBudget)
    assert isinstance(ledger.claim([("a", 10)], cap=20, **SAME)["a"], Granted)
    (attempt,) = ledger.attempts("unknown")
    assert (attempt.cost, attempt.ended, attempt.reason) == (10, None, DIED)
    assert ledger.total() == Spending(10, 10, 10, 2, 1)


def test_a_renewed_lease_holds(tmp_path: Path) -> None:
    holder, other = Ledger(tmp_path, lease=0.5), Ledger(tmp_path)
    holder.claim([("a", 1), ("b", 1)], cap=None, **SAME)
    for _ in range(4):
        time.sleep(0.2)
        holder.renew([1])
    claims = other.claim([("a", 1), ("b", 1)], cap=None, **SAME)
    assert isinstance(claims["a"], Held)
    assert claims["b"] == Granted(3)
    holder.renew([2])  # too late: it has been taken over
    assert [attempt.id for attempt in other.attempts("unknown")] == [2]
    # The slow process was alive after all and settles what it did.
    assert holder.settle(2, 1, "billed")
    for ledger in (holder, other):
        ledger.close()


def test_a_dead_attempt_whose_reply_is_stored_costs_what_it_cost(
    ledger: Ledger, dead: Callable[..., int], tmp_path: Path
) -> None:
    cache = SQLiteResponses(str(tmp_path))
    for key in ("stored", "no price", "lost", "part", "older"):
        dead(key)
    ledger.claim([("alive", 10)], cap=None, **SAME)
    cache.put(
        [reply("stored"), reply("no price", None), reply("part", part_of="w"), reply("older", created=1.0), reply("alive")]
    )
    assert ledger.recover(cache) == 2
    assert ledger.recover(cache) == 0
    assert {attempt.key: attempt.cost for attempt in ledger.attempts("billed")} == {"stored": 7, "no price": 10}
    assert {attempt.reason for attempt in ledger.attempts("billed")} == {RECOVERED}
    assert [attempt.key for attempt in ledger.attempts("unknown")] == ["lost", "part", "older"]
    assert [attempt.key for attempt in ledger.attempts("open")] == ["alive"]
    cache.close()


def test_only_the_attempt_that_brought_the_reply_is_settled_by_it(
    ledger: Ledger, dead: Callable[..., int], tmp_path: Path
) -> None:
    cache = SQLiteResponses(str(tmp_path))
    dead("a")
    (timed_out,) = ledger.claim([("a", 10)], cap=None, **SAME).values()
    ledger.settle(timed_out.attempt_id, 0, "unknown", "timeout")
    third = dead("a")
    cache.put([reply("a")])
    (looked_again,) = ledger.claim([("a", 10)], cap=None, **SAME).values()
    ledger.settle(looked_again.attempt_id, 0, "free", "in the cache by now")
    assert ledger.recover(cache) == 1
    assert [attempt.id for attempt in ledger.attempts("billed")] == [third]
    assert [attempt.id for attempt in ledger.attempts("unknown")] == [1, timed_out.attempt_id]
    cache.close()


def test_batches_hold_their_attempts_for_days(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, lease=0.01)
    claims = ledger.claim([(key, 10) for key in "abc"], cap=None, **SAME)
    ledger.open_batch("batch_1", "openai", [claim.attempt_id for claim in claims.values()])
    time.sleep(0.02)
    ledger.close()
    later = Ledger(tmp_path)
    assert later.claim([("a", 10)], cap=None, **SAME) == {"a": Held(math.inf)}
    (batch,) = later.batches("openai")
    assert (batch.id, batch.attempts) == ("batch_1", {"a": 1, "b": 2, "c": 3})
    assert later.batches("anthropic") == []
    later.open_batch("batch_2", "openai", [1, 2, 3])  # as where its own name is known only after it was sent
    later.close_batch("batch_1")
    (batch,) = later.batches("openai")
    assert (batch.id, batch.attempts) == ("batch_2", {"a": 1, "b": 2, "c": 3})
    later.renew([1])
    later.settle(1, 5, "billed")
    later.settle(2, 0, "free", "expired at the provider")
    assert later.batches("openai")[0].attempts == {"c": 3}
    later.close_batch("batch_2")
    assert later.batches("openai") == []
    assert [attempt.key for attempt in later.attempts("unknown")] == ["c"]
    assert later.total() == Spending(15, 0, 10, 3, 1)
    assert later.claim([("a", 10)], cap=None, **SAME) == {"a": Granted(4)}
    later.open_batch("batch_1", "openai", [4])  # as where a process was killed once it had noted it, and another finds it
    (batch,) = later.batches("openai")
    assert (batch.id, batch.attempts) == ("batch_1", {"a": 4})
    later.close()


def test_a_batch_that_is_not_submitted_keeps_its_leases(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, lease=0.5)
    ledger.claim([("a", 10)], cap=None, **SAME)
    ledger.open_batch("label", "openai", [1], submitted=False)
    (batch,) = ledger.batches("openai")
    assert time.time() < batch.until <= time.time() + 0.5
    time.sleep(0.51)
    assert ledger.claim([("a", 10)], cap=None, **SAME) == {"a": Held(math.inf)}  # the provider may be asked about it
    assert ledger.batches("openai")[0].until == batch.until
    ledger.renew([1])
    assert ledger.batches("openai")[0].until > time.time()
    ledger.open_batch("batch", "openai", [1])
    assert {batch.id: (batch.attempts, batch.until) for batch in ledger.batches("openai")} == {
        "batch": ({"a": 1}, 0.0),
        "label": ({}, 0.0),
    }
    ledger.close()


def test_a_batch_whose_reply_is_stored_costs_what_it_cost(ledger: Ledger, tmp_path: Path) -> None:
    cache = SQLiteResponses(str(tmp_path))
    ledger.claim([("stored", 10), ("out", 10), ("single", 10)], cap=None, **SAME)
    ledger.open_batch("batch", "openai", [1, 2])
    cache.put([reply("stored"), reply("single")])
    assert ledger.recover(cache) == 1
    assert [(attempt.key, attempt.cost) for attempt in ledger.attempts("billed")] == [("stored", 7)]
    assert [attempt.key for attempt in ledger.attempts("open")] == ["out", "single"]
    assert ledger.batches("openai")[0].attempts == {"out": 2}
    cache.close()


def test_a_batch_is_noted_and_closed_on_a_full_disk(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.claim([("a", 10)], cap=None, **SAME)
    transaction = ledger._database.transaction

    def full(durable: bool) -> Any:
        if (tmp_path / "ballast").exists():
            raise DiskFullError("the disk is full")
        return transaction(durable=durable)

    monkeypatch.setattr(ledger._database, "transaction", full)
    ledger.open_batch("batch", "openai", [1])
    assert ledger.batches("openai")[0].attempts == {"a": 1}
    (tmp_path / "ballast").touch()
    ledger.close_batch("batch")
    assert ledger.batches("openai") == []


def test_sums_by_columns(ledger: Ledger) -> None:
    for model in ("small", "large"):
        for claim in ledger.claim([(f"{model}{n}", 10) for n in range(3)], cap=None, **{**SAME, "model": model}).values():
            ledger.settle(claim.attempt_id, 2, "billed" if claim.attempt_id % 3 else "unknown")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    group = Spending(14, 0, 10, 3, 1)
    assert ledger.spent("model", "day") == {("large", today): group, ("small", today): group}
    assert ledger.spent("provider") == {("openai",): Spending(28, 0, 20, 6, 2)}
    assert ledger.spent() == {(): ledger.total()}


def test_many_pages_of_attempts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lf_lightning.responses.ledger._PAGE", 7)
    claims = ledger.claim([(str(n), 1) for n in range(28)], cap=None, **SAME)
    assert [attempt.id for attempt in ledger.attempts()] == [claim.attempt_id for claim in claims.values()]
    assert all(isinstance(claim, Held) for claim in ledger.claim([(str(n), 1) for n in range(28)], cap=None, **SAME).values())


@pytest.mark.parametrize("bound", [-1, -(10**9)])
def test_a_negative_bound_is_refused(ledger: Ledger, bound: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{bound} nano-dollars"):
        ledger.claim([("a", bound)], cap=None, **SAME)


def test_a_lease_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lease=0"):
        Ledger(tmp_path, lease=0)


def test_a_rejected_claim_leaves_nothing_behind(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lf_lightning.responses.ledger._decide", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ledger.claim([("a", 1)], cap=None, **SAME)
    monkeypatch.undo()
    assert ledger.total() == Spending()
    assert ledger.claim([("a", 1)], cap=None, **SAME) == {"a": Granted(1)}


def test_processes_and_threads_never_pass_the_cap_nor_ask_twice(tmp_path: Path, start: Callable[..., Any], worker: Any) -> None:
    keys, threads, processes = 12, 8, 3
    cap = worker.COST * keys * threads - 50
    started = [start("spend", tmp_path, keys, cap, threads, 120, seed) for seed in range(processes)]
    asked: list[int] = []
    for process in started:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        asked += map(int, output.split())
    assert len(asked) == len(set(asked))
    ledger = Ledger(tmp_path)
    total = ledger.total()
    assert total.spent == worker.COST * len(asked) <= cap
    assert total.spent > cap - worker.BOUND * threads * processes  # what was reserved at the end may have cost less
    assert total.reserved == 0
    assert ledger.verify() == []
    ledger.close()


def test_a_killed_process_loses_no_attempt(tmp_path: Path, start: Callable[..., Any], worker: Any) -> None:
    rng = random.Random(0)
    granted: set[int] = set()
    settled: set[int] = set()
    for kill in range(KILLS):
        process = start("claim", tmp_path, 10_000 * kill)
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 60))]
        time.sleep(rng.random() * 0.01)
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        for line in lines:
            if line.endswith("\n"):
                word, number = line.split()
                (granted if word == "granted" else settled).add(int(number))
    time.sleep(0.35)
    ledger = Ledger(tmp_path)
    ledger.claim([("new", 0)], cap=None, **SAME)
    states = {attempt.key: attempt for attempt in ledger.attempts()}
    assert {worker.key_of(number) for number in granted} <= states.keys()
    assert all(states[worker.key_of(number)].cost == worker.COST for number in settled)
    unknown = [attempt for attempt in states.values() if attempt.state == "unknown"]
    assert len(unknown) <= KILLS
    assert all(attempt.cost == worker.BOUND for attempt in unknown)
    assert ledger.verify() == []
    ledger.close()


def test_nothing_is_asked_without_room_for_the_reply(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ledger.claim([("a", 1)], cap=None, **SAME)
    assert (tmp_path / "ballast").stat().st_size >= 2**20
    (tmp_path / "ballast").unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResponseCacheError, match=r"No space left.*nothing more is asked.*goes on where it stopped"):
        ledger.claim([("b", 1)], cap=None, **SAME)
    assert not list(tmp_path.glob("ballast*"))
    assert ledger.settle(1, 1, "billed")
    monkeypatch.undo()
    assert ledger.claim([("b", 1)], cap=None, **SAME) == {"b": Granted(2)}


def test_a_damaged_ledger_is_named_and_repaired(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.claim([(f"key {n}", 10) for n in range(500)], cap=None, **SAME)
    ledger.open_batch("b", "openai", [8])
    for number in range(1, 501, 2):
        ledger.settle(number, 4, "billed")
    ledger.close()
    file = tmp_path / "ledger.sqlite"
    content = bytearray(file.read_bytes())
    at = content.index(b"key 250")
    content[at - at % 4096 : at - at % 4096 + 4096] = bytes(4096)
    file.write_bytes(content)
    assert ledger.verify()
    ledger.close()
    lost = ledger.repair()
    attempts = list(ledger.attempts())
    assert 0 < lost == 500 - len(attempts) < 60
    assert ledger.verify() == []
    assert ledger.total().spent == sum(attempt.cost for attempt in attempts)
    assert ledger.batches("openai")[0].attempts == {"key 7": 8}
    assert len(list(tmp_path.glob("ledger.sqlite.damaged-*"))) == 1
    ledger.close()


def test_a_changed_sum_is_noticed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.claim([("a", 10)], cap=None, **SAME)
    ledger.settle(1, 10, "billed")
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection, connection:
        connection.execute("UPDATE sums SET spent = 3")
    (damage,) = ledger.verify()
    assert "(10, 0), noted are (3, 0)" in damage.problem
    ledger.repair()
    assert ledger.verify() == []
    assert ledger.claim([("b", 1)], cap=10, **SAME) == {"b": OverBudget(10, 0)}
    ledger.close()


def test_what_another_process_settles_meanwhile_is_no_damage(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, reading = Ledger(tmp_path), ledger._database.reading
    left = list(other.claim([(str(n), 10) for n in range(20)], cap=None, **SAME).values())

    @contextmanager
    def then_one_is_settled() -> Iterator[sqlite3.Connection]:
        with reading() as connection:
            yield connection
        other.settle(left.pop().attempt_id, 4, "billed")

    monkeypatch.setattr(ledger._database, "reading", then_one_is_settled)
    assert ledger.verify() == []
    assert len(left) < 20
    monkeypatch.undo()
    other.close()


def test_a_newer_ledger_and_a_response_cache_are_no_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.total()
    ledger.close()
    for pragma, message in ((f"user_version={LAYOUT.version + 1}", "Upgrade"), ("application_id=5", "another SQLite file")):
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
            connection.execute(f"PRAGMA {pragma}")
        with pytest.raises(ResponseCacheError, match=message):
            ledger.claim([("a", 1)], cap=None, **SAME)
