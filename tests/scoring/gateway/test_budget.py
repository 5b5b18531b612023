"""`max_cost` is never passed: by many requests at once, by processes, over runs; and without a price there is no budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lf_lightning.errors import BudgetError, ConfigurationError
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.requests import Request
from tests.scoring.gateway.asks import PRICE, gateway, provider, requests
from tests.scoring.gateway.conftest import Start
from tests.scoring.gateway.fault_server import FaultServer


def test_the_cap_holds_at_concurrency_64_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    with FaultServer(latency=0.02, faults={"hang": 0.01, "500": 0.03}, hang=5.0) as server:
        asker = gateway(tmp_path, concurrency=64, timeout=1.5)
        caps = [0.001, 0.0014, 0.02]
        answers = []
        for cap in caps:
            answers.append(asker.ask(provider(server.url), requests(200), max_cost=cap))
            assert server.record()["nanodollars"] <= asker.ledger.total().spent <= cap * 1e9
        record = server.record()
    assert isinstance(answers[0].halt, BudgetError)
    assert isinstance(answers[1].halt, BudgetError)
    assert answers[2].halt is None
    assert 20 < len(answers[0].responses) < len(answers[1].responses) < len(answers[2].responses) == 200
    assert all(line["billed"] == 1 + line["lost"] for line in record["lines"].values())
    # What is left is less than the bound of one request, of 269 bytes or fewer of input and 1 token of output.
    assert caps[0] * 1e9 - asker.ledger.spent("run")[next(iter(asker.ledger.spent("run")))].spent < 400_000


def test_three_processes_share_one_cap(tmp_path: Path, start: Start) -> None:
    with FaultServer(latency=0.02) as server:
        order = {"url": server.url, "folder": tmp_path, "count": 200, "max_cost": 0.0012, "gateway": {"concurrency": 8}}
        outcomes = [
            json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in [start(**order) for _ in range(3)]
        ]
        record = server.record()
    total = gateway(tmp_path).ledger.total()
    assert [outcome["halt"] for outcome in outcomes] == ["BudgetError"] * 3
    assert 0.0008e9 < record["nanodollars"] == total.spent <= 0.0012e9
    assert total.reserved == 0
    assert max(line["billed"] for line in record["lines"].values()) == 1


def test_one_request_above_the_cap_is_named_and_nothing_is_asked(tmp_path: Path) -> None:
    with FaultServer() as server:
        long = Request("", "word " * 5000, 1)
        answers = gateway(tmp_path).ask(provider(server.url), [*requests(3), long], max_cost=0.01)
        assert server.record()["lines"] == {}
    assert isinstance(answers.halt, BudgetError)
    assert long.key(provider(server.url).identity)[:12] in str(answers.halt)


def test_no_price_no_budget(tmp_path: Path) -> None:
    who = provider("http://127.0.0.1:9/v1")
    with pytest.raises(ConfigurationError, match="price of 'm' is not known"):
        Gateway(str(tmp_path)).ask(who, requests(1), max_cost=1.0)
    estimate = Gateway(str(tmp_path)).estimate(who, requests(1))
    assert (estimate.to_ask, estimate.cost_usd, estimate.upper_bound_usd) == (1, None, None)


def test_a_timeout_counts_at_its_upper_bound_and_over_restarts(tmp_path: Path) -> None:
    with FaultServer(faults={"hang": 1.0}, hang=5.0) as server:
        gateway(tmp_path, timeout=0.2, attempts=1).ask(provider(server.url), requests(2))
        (*unknown,) = gateway(tmp_path).ledger.attempts("unknown")
        assert [attempt.cost for attempt in unknown] == [PRICE.bound(request) for request in requests(2)]
        cap = 2.5 * unknown[0].cost / 1e9
        server.behave()
        answers = gateway(tmp_path).ask(provider(server.url), requests(2), max_cost=cap)
    assert isinstance(answers.halt, BudgetError)
    assert answers.asked == 0


@pytest.mark.parametrize("max_cost", [float("nan"), float("inf"), -1.0])
def test_a_cap_that_is_no_amount_of_money_is_refused(tmp_path: Path, max_cost: float) -> None:
    with pytest.raises(ConfigurationError, match=f"max_cost={max_cost:g}"):
        gateway(tmp_path).ask(provider("http://127.0.0.1:9/v1"), requests(1), max_cost=max_cost)
