"""Every request ends with a reply or with a reason; none is paid twice; what the ledger says is what the server billed."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from lf_lightning.errors import ConfigurationError, ProviderAccessError
from lf_lightning.responses import SqliteDictResponses
from lf_lightning.scoring.gateway import Progress
from lf_lightning.scoring.providers import OpenAICompatible
from lf_lightning.scoring.requests import Request
from tests.scoring.gateway.asks import KEY_NAME, gateway, provider, requests
from tests.scoring.gateway.fault_server import KEY, FaultServer

MANY = 5000 if os.environ.get("LF_SLOW") else 300
TENTH = {"429": 0.02, "500": 0.02, "503": 0.01, "reset": 0.01, "hang": 0.01, "cut": 0.01, "garbled": 0.01, "html": 0.01}


def test_a_tenth_of_faults(tmp_path: Path) -> None:
    with FaultServer(latency=0.02, faults=TENTH, retry_after=[0.0, 0.2, None], hang=5.0) as server:
        asker = gateway(tmp_path, concurrency=64, timeout=1.0)
        answers = asker.ask(provider(server.url), requests(MANY))
        record = server.record()
    assert answers.halt is None
    assert len(answers.responses) == MANY
    assert not answers.failures
    assert sum(record["endings"].values()) - record["endings"]["answered"] > 0.05 * MANY
    for line in record["lines"].values():
        assert line["served"] == 1
        assert line["billed"] == 1 + line["lost"]  # paid twice only where a reply was paid for and lost
    lost = sum(line["lost"] for line in record["lines"].values())
    attempts = list(asker.ledger.attempts())
    assert lost > 0
    assert answers.unknown == sum(attempt.state == "unknown" for attempt in attempts) >= lost
    assert sum(attempt.cost for attempt in attempts if attempt.state == "billed") == answers.billed_nanodollars
    total = asker.ledger.total()
    assert answers.billed_nanodollars < record["nanodollars"] <= total.spent
    assert total.reserved == 0
    assert total.attempts == sum(line["received"] for line in record["lines"].values())


def test_each_kind_of_fault_is_in_the_ledger_as_what_it_was(tmp_path: Path) -> None:
    expected = {"500": "free", "429": "free", "reset": "unknown", "hang": "unknown", "cut": "unknown", "garbled": "unknown"}
    for kind, state in expected.items():
        with FaultServer(faults={kind: 1.0}, hang=5.0) as server:
            asker = gateway(tmp_path / kind, timeout=0.3, attempts=1)
            answers = asker.ask(provider(server.url), requests(1))
        (attempt,) = asker.ledger.attempts()
        assert attempt.state == state, kind
        assert attempt.cost == (attempt.reserved if state == "unknown" else 0), kind
        (failure,) = answers.failures.values()
        assert failure.kind == attempt.reason, kind


@pytest.mark.parametrize("kind", ["empty", "refusal", "filtered", "length"])
def test_a_reply_without_an_answer_is_paid_kept_and_never_asked_again(tmp_path: Path, kind: str) -> None:
    with FaultServer(faults={kind: 1.0}) as server:
        asker = gateway(tmp_path)
        answers = asker.ask(provider(server.url), requests(3))
        again = asker.ask(provider(server.url), requests(3))
        record = server.record()
    assert len(answers.responses) == 3
    assert again.asked == 0
    assert record["nanodollars"] <= answers.billed_nanodollars == asker.ledger.total().spent


@pytest.mark.parametrize(("fault", "retry_after"), [("503", None), ("429", 0.0), ("html", None)])
def test_attempts_are_bounded(tmp_path: Path, fault: str, retry_after: float | None) -> None:
    with FaultServer(faults={fault: 1.0}, retry_after=[retry_after]) as server:
        answers = gateway(tmp_path, attempts=3).ask(provider(server.url), requests(4))
        record = server.record()
    assert [line["received"] for line in record["lines"].values()] == [3] * 4
    assert len(answers.failures) == 4
    assert not answers.responses


def test_a_long_retry_after_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    begin = time.monotonic()
    with FaultServer(faults={"429": 1.0}, retry_after=[600.0]) as server:
        answers = gateway(tmp_path, deadline=5.0, concurrency=4).ask(provider(server.url), requests(40))
    assert time.monotonic() - begin < 10
    assert {failure.kind for failure in answers.failures.values()} == {"rate_limited"}
    assert len(answers.failures) == 40


def test_one_long_text_fails_alone(tmp_path: Path) -> None:
    long = Request("", "long " * 100, 1)
    with FaultServer(longest=200) as server:
        answers = gateway(tmp_path).ask(provider(server.url), [*requests(5), long])
        record = server.record()
    assert len(answers.responses) == 5
    (failure,) = answers.failures.values()
    assert failure.kind == "rejected"
    assert record["lines"][long.prompt]["received"] == 1


def test_equal_requests_are_asked_once_and_a_second_run_asks_nothing(tmp_path: Path) -> None:
    with FaultServer() as server:
        first = gateway(tmp_path).ask(provider(server.url), requests(20) * 3)
        second = gateway(tmp_path).ask(provider(server.url), requests(20) + requests(5, first=20))
        record = server.record()
    assert first.asked == len(first.responses) == 20
    assert (second.cached, second.asked) == (20, 5)
    assert {line["received"] for line in record["lines"].values()} == {1}


def test_hits_are_not_throttled(tmp_path: Path) -> None:
    with FaultServer() as server:
        gateway(tmp_path, concurrency=64).ask(provider(server.url), requests(200))
        begin = time.monotonic()
        answers = gateway(tmp_path, requests_per_minute=1).ask(provider(server.url), requests(200))
    assert answers.cached == 200
    assert time.monotonic() - begin < 1


def test_a_run_after_failures_asks_only_for_the_rest(tmp_path: Path) -> None:
    with FaultServer(faults={"500": 0.5}) as server:
        first = gateway(tmp_path, attempts=1).ask(provider(server.url), requests(40))
        server.behave()
        second = gateway(tmp_path).ask(provider(server.url), requests(40))
        record = server.record()
    assert 5 < len(first.failures) < 35
    assert second.asked == len(first.failures)
    assert len(second.responses) == 40
    assert all(line["billed"] == 1 for line in record["lines"].values())


def test_a_damaged_reply_is_asked_again_and_no_other(tmp_path: Path) -> None:
    with FaultServer() as server:
        gateway(tmp_path).ask(provider(server.url), requests(10))
        with closing(sqlite3.connect(tmp_path / "responses.sqlite")) as file, file:
            changed = file.execute(
                "UPDATE responses SET value = replace(value, 'text 3', 'text 4') WHERE value LIKE '%text 3%'"
            )
            assert changed.rowcount == 1
        answers = gateway(tmp_path).ask(provider(server.url), requests(10))
        record = server.record()
    assert (answers.asked, len(answers.responses)) == (1, 10)
    assert record["lines"]["text 3"]["received"] == 2


def test_with_the_backend_that_sqlitedict_writes(tmp_path: Path) -> None:
    pytest.importorskip("sqlitedict")
    with FaultServer(faults={"500": 0.1}) as server:
        first = gateway(tmp_path, backend=SqliteDictResponses).ask(provider(server.url), requests(40))
        second = gateway(tmp_path).ask(provider(server.url), requests(40))
    assert len(first.responses) == 40
    assert (second.asked, second.cached) == (0, 40)
    assert second.responses == first.responses


def test_a_wrong_key_stops_the_run_and_is_repeated_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, "sk-wrong-canary-77")
    with FaultServer() as server:
        asker = gateway(tmp_path, concurrency=4)
        answers = asker.ask(provider(server.url), requests(200))
        record = server.record()
    assert isinstance(answers.halt, ProviderAccessError)
    assert record["endings"]["401"] <= 4
    assert asker.ledger.total().reserved == 0
    assert asker.ledger.total().spent == 0
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"canary" not in kept
    assert "canary" not in f"{answers.halt} {answers.failures}"


def test_no_credit_stops_the_run_and_keeps_what_was_paid(tmp_path: Path) -> None:
    with FaultServer(quota=200_000, latency=0.01) as server:
        asker = gateway(tmp_path, concurrency=4)
        answers = asker.ask(provider(server.url), requests(200))
        record = server.record()
        assert isinstance(answers.halt, ProviderAccessError)
        assert record["endings"]["quota"] <= 8
        assert len(answers.responses) == record["endings"]["answered"]
        server.behave()
        assert gateway(tmp_path).ask(provider(server.url), requests(200)).asked == 200 - len(answers.responses)


def test_a_request_that_the_model_cannot_take_stops_the_run(tmp_path: Path) -> None:
    wrong = OpenAICompatible("m", "http://127.0.0.1:9/nothing", api_key_env=None)
    with FaultServer() as server:
        wrong = OpenAICompatible("m", server.url + "/nothing", api_key_env=None)
        asker = gateway(tmp_path, concurrency=4)
        answers = asker.ask(wrong, requests(50))
    assert isinstance(answers.halt, (ConfigurationError, ProviderAccessError))
    assert asker.ledger.total().reserved == 0


def test_nobody_there(tmp_path: Path) -> None:
    nobody = OpenAICompatible("m", "http://127.0.0.1:9/v1", api_key_env=None)
    asker = gateway(tmp_path, attempts=2)
    answers = asker.ask(nobody, requests(3))
    assert {failure.kind for failure in answers.failures.values()} == {"unavailable"}
    assert asker.ledger.total().spent == 0


def test_within_a_running_loop_and_twice_at_once(tmp_path: Path) -> None:
    with FaultServer(latency=0.05) as server:
        asker = gateway(tmp_path)

        async def notebook() -> int:
            return len(asker.ask(provider(server.url), requests(5)).responses)

        assert asyncio.run(notebook()) == 5
        counts: list[int] = []
        threads = [
            threading.Thread(target=lambda: counts.append(len(asker.ask(provider(server.url), requests(30)).responses)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        record = server.record()
    assert counts == [30] * 3
    assert {line["billed"] for line in record["lines"].values()} == {1}


def test_a_lease_is_renewed_while_a_reply_is_awaited(tmp_path: Path) -> None:
    with FaultServer(latency=1.5) as server:
        found: list[int] = []

        def ask() -> None:
            asker = gateway(tmp_path, lease=0.4, timeout=10.0)
            found.append(len(asker.ask(provider(server.url), requests(1)).responses))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.record()["lines"]["text 0"]["received"] == 1
    assert found == [1, 1]


def test_one_reply_about_several_texts_is_kept_in_parts(tmp_path: Path) -> None:
    with FaultServer() as server:
        who = provider(server.url)
        group, single = Request("", "both", 8), requests(2)
        keys = [request.key(who.identity) for request in single]

        def parts(request: Request, raw: object) -> dict[str, dict[str, str]]:
            assert request == group
            return {key: {"part_of": group.key(who.identity)} for key in keys}

        asker = gateway(tmp_path)
        answers = asker.ask(who, [group], parts=parts)
        assert answers.responses.keys() == {group.key(who.identity), *keys}
        assert asker.lookup(who, single).keys() == set(keys)
        assert asker.ask(who, single).asked == 0


def test_progress_and_estimate(tmp_path: Path) -> None:
    told: list[Progress] = []
    with FaultServer(latency=0.01) as server:
        asker = gateway(tmp_path, concurrency=2)
        before = asker.estimate(provider(server.url), requests(40) * 2)
        asker.ask(provider(server.url), requests(10))
        answers = asker.ask(provider(server.url), requests(40), advance=told.append)
        after = asker.estimate(provider(server.url), requests(40))
        record = server.record()
    assert (before.cached, before.to_ask, after.cached, after.to_ask) == (0, 40, 40, 0)
    assert before.cost_usd is not None
    assert before.upper_bound_usd is not None
    assert before.cost_usd < before.upper_bound_usd
    assert record["nanodollars"] < before.upper_bound_usd * 1e9
    assert after.cost_usd == 0
    last = told[-1]
    assert (last.total, last.done, last.cached, last.failed, last.to_go_usd) == (40, 40, 10, 0, 0.0)
    assert last.cost_usd == pytest.approx(answers.billed_nanodollars / 1e9)
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)


def test_a_mistake_of_the_caller_is_raised_and_nothing_stays_reserved(tmp_path: Path) -> None:
    def parts(*_: object) -> dict[str, dict[str, str]]:
        raise KeyError("mistake")

    with FaultServer() as server:
        asker = gateway(tmp_path)
        with pytest.raises(KeyError, match="mistake"):
            asker.ask(provider(server.url), requests(3), parts=parts)
    assert asker.ledger.total().reserved == 0


def test_a_mistake_in_the_progress_bar_is_raised_and_what_was_paid_is_kept(tmp_path: Path) -> None:
    def advance(_: Progress) -> None:
        raise KeyError("mistake")

    with FaultServer(latency=0.05) as server:
        asker = gateway(tmp_path, concurrency=8)
        with pytest.raises(KeyError, match="mistake"):
            asker.ask(provider(server.url), requests(40), advance=advance)
        billed = sum(line["billed"] for line in server.record()["lines"].values())
    total = asker.ledger.total()
    assert len(asker.lookup(provider(server.url), requests(40))) == billed > 0
    assert (total.reserved, total.unknown) == (0, 0)


@pytest.mark.parametrize("arguments", [{"concurrency": 0}, {"timeout": 0.0}, {"requests_per_minute": 0}, {"attempts": 0}])
def test_numbers_that_cannot_be(tmp_path: Path, arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        gateway(tmp_path, **arguments)


def test_nothing_of_the_key_is_kept(tmp_path: Path) -> None:
    with FaultServer(faults={"500": 0.3}) as server:
        answers = gateway(tmp_path).ask(provider(server.url), requests(20))
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(kept) > 1000
    assert KEY.encode() not in kept
    assert KEY not in json.dumps([vars(response) for response in answers.responses.values()], default=str)
