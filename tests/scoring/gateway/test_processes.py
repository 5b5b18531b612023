"""Processes that are killed, stopped, or many at once on one folder."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lf_lightning.errors import ResponseCacheError
from tests.scoring.gateway.asks import gateway, provider, requests
from tests.scoring.gateway.conftest import Start
from tests.scoring.gateway.fault_server import FaultServer

KILLS, TEXTS = (10, 1500) if os.environ.get("LF_SLOW") else (4, 400)


def last_line(process: subprocess.Popen[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(process.communicate(timeout=300)[0].splitlines()[-1])
    return found


def test_killed_and_started_again(tmp_path: Path, start: Start) -> None:
    """No reply that was stored is lost or asked again; what is paid twice was in flight when the process was killed."""
    chance = random.Random(0)
    in_flight = 16
    with FaultServer(latency=0.05) as server:
        settings = {"concurrency": in_flight, "lease": 1.0}
        order = {"url": server.url, "folder": tmp_path, "count": TEXTS, "gateway": settings}
        for _ in range(KILLS):
            process = start(**order)
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            time.sleep(chance.uniform(0, 1))
            process.kill()
            process.wait()
            kept = gateway(tmp_path).lookup(provider(server.url), requests(TEXTS))
            paid = sum(line["billed"] for line in server.record()["lines"].values())
            assert 0 < len(kept) <= paid
        before = server.record()
        outcome = last_line(start(**order))
        record = server.record()
    assert (outcome["answered"], outcome["failed"], outcome["halt"]) == (TEXTS, 0, None)
    twice = sum(line["billed"] - 1 for line in record["lines"].values())
    ledger = gateway(tmp_path).ledger
    unknown = list(ledger.attempts("unknown"))
    assert twice <= len(unknown) <= KILLS * 2 * in_flight  # being sent, or being stored
    assert record["nanodollars"] <= ledger.total().spent
    assert ledger.total().reserved == 0
    for request in requests(TEXTS):  # what was stored before the last start was not received again
        if request.key(provider(server.url).identity) in kept:
            assert record["lines"][request.prompt]["received"] == before["lines"][request.prompt]["received"]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_on_the_same_keys(tmp_path: Path, start: Start, count: int) -> None:
    with FaultServer(latency=0.03) as server:
        order = {"url": server.url, "folder": tmp_path, "count": 100, "gateway": {"concurrency": 8}}
        outcomes = [last_line(process) for process in [start(**order) for _ in range(count)]]
        record = server.record()
    assert [outcome["answered"] for outcome in outcomes] == [100] * count
    assert {line["billed"] for line in record["lines"].values()} == {1}
    asker = gateway(tmp_path)
    assert asker.ledger.total().spent == record["nanodollars"]
    assert asker.cache.verify() == []
    assert asker.ledger.verify() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(tmp_path: Path, start: Start, number: signal.Signals) -> None:
    with FaultServer(latency=0.3) as server:
        process = start(url=server.url, folder=tmp_path, count=400, gateway={"concurrency": 8, "grace": 60.0})
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        outcome = last_line(process)
        record = server.record()
    assert process.returncode == 128 + number
    assert outcome["halt"] == "Interrupted"
    # All that was in flight arrived and was kept.
    assert 0 < outcome["answered"] == sum(line["billed"] for line in record["lines"].values()) < 400  # type: ignore[operator]
    assert gateway(tmp_path).ledger.total().unknown == 0


def test_in_flight_beyond_the_grace_is_given_up_as_unknown(tmp_path: Path, start: Start) -> None:
    with FaultServer(latency=0.05, faults={"hang": 0.1}, hang=30.0) as server:
        process = start(url=server.url, folder=tmp_path, count=400, gateway={"concurrency": 8, "timeout": 60.0, "grace": 0.5})
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        outcome = last_line(process)
        assert time.monotonic() - begin < 25  # the server hangs for 30
        record = server.record()
    total = gateway(tmp_path).ledger.total()
    assert outcome["halt"] == "Interrupted"
    assert total.unknown_attempts >= 1
    assert total.reserved == 0
    assert record["nanodollars"] <= total.spent


def test_a_full_disk_stops_the_run_and_keeps_what_was_paid(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        with FaultServer(latency=0.01) as server:
            asker = gateway(disk, concurrency=16)
            who = provider(server.url)
            asker.ask(who, requests(20))
            with (disk / "other").open("wb") as file:
                file.write(bytes(2_000_000))
            answers = asker.ask(who, requests(3000))
            assert isinstance(answers.halt, ResponseCacheError)
            record = server.record()
            assert 20 < len(answers.responses) == sum(line["billed"] for line in record["lines"].values()) < 3000
            assert gateway(disk).lookup(who, requests(3000)).keys() == answers.responses.keys()
            (disk / "other").unlink()
            paid = len(answers.responses)
            again = gateway(disk, concurrency=16).ask(who, requests(paid + 100))
            assert len(again.responses) >= paid
            assert {line["billed"] for line in server.record()["lines"].values()} == {1}
        asker.cache.close()
        asker.ledger.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
