"""What the gateway to LLM providers holds at full size: faults, budget, throughput, kills, processes, and a cache of 100,000.

The other side is the fault server of the tests: real HTTP over loopback, in a process of its own, which keeps its own record of
what it served and billed. Client and server share the machine, so the ceiling is that of both together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.record import ROOT, write
from lf_lightning.responses import Response, SQLiteResponses
from lf_lightning.scoring.providers.base import Provider, Sent
from lf_lightning.scoring.requests import Reply, Request, Usage

sys.path.insert(0, str(ROOT / "tests" / "scoring" / "gateway"))
from asks import KEY_NAME, gateway, provider, requests
from fault_server import KEY, FaultServer, answer_to

TENTH = {"429": 0.02, "500": 0.02, "503": 0.01, "reset": 0.01, "hang": 0.01, "cut": 0.01, "garbled": 0.01, "html": 0.01}


def faults(folder: Path, count: int) -> dict[str, Any]:
    """Requests at 10 % faults: how they end, and what was billed twice."""
    with FaultServer(latency=0.1, faults=TENTH, retry_after=[0.0, 0.5, None], hang=30.0) as server:
        asker = gateway(folder, concurrency=64, timeout=5.0)
        begin = time.perf_counter()
        answers = asker.ask(provider(server.url), requests(count))
        seconds = time.perf_counter() - begin
        record = server.record()
    lines = record["lines"].values()
    total = asker.ledger.total()
    return {
        "requests": count,
        "answered": len(answers.responses),
        "failed": len(answers.failures),
        "seconds": round(seconds, 1),
        "server_endings": record["endings"],
        "billed_twice": sum(line["billed"] > 1 for line in lines),
        "billed_twice_though_the_reply_arrived": sum(line["billed"] != line["served"] + line["lost"] for line in lines)
        + sum(line["served"] > 1 for line in lines),
        "billed_and_lost": sum(line["lost"] for line in lines),
        "unknown_in_the_ledger": total.unknown_attempts,
        "server_bill_usd": record["nanodollars"] / 1e9,
        "ledger_usd": total.spent / 1e9,
    }


def budget(folder: Path, count: int) -> dict[str, Any]:
    """A cap that is reached: at concurrency 64 in one process, and by three processes at once."""
    found = {}
    for name, processes in (("one_process", 1), ("three_processes", 3)):
        cap = 0.004
        with FaultServer(latency=0.05, faults={"hang": 0.01, "500": 0.05}, hang=30.0) as server:
            order = {
                "url": server.url,
                "folder": str(folder / name),
                "count": count,
                "max_cost": cap,
                "gateway": {"concurrency": 64, "timeout": 3.0},
            }
            outcomes = [_outcome(process) for process in [_start(order) for _ in range(processes)]]
            bill = server.record()["nanodollars"] / 1e9
        spent = gateway(folder / name).ledger.total().spent / 1e9
        halts = [outcome["halt"] for outcome in outcomes]
        found[name] = {"cap_usd": cap, "server_bill_usd": bill, "ledger_usd": spent, "halts": halts}
    return found


def throughput(folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Share of a server's own limit that is used, with and without rate headers; and the ceiling without a limit."""
    warm = gateway(folder / "warm", concurrency=64)
    found: dict[str, Any] = {"limit_per_second": rate}
    for name, headers in (("with_headers", True), ("without_headers", False)):
        with FaultServer(latency=0.1, rate=rate, burst=rate / 4, headers=headers) as server:
            warm.ask(provider(server.url), requests(64, first=10**6))
            server.behave(latency=0.1, rate=rate, burst=rate / 4, headers=headers)
            count = int(rate * seconds)
            begin = time.perf_counter()
            gateway(folder / name, concurrency=64).ask(provider(server.url), requests(count))
            took = time.perf_counter() - begin
            refused = server.record()["endings"].get("limited", 0)
        found[name] = {
            "requests": count,
            "seconds": round(took, 2),
            "share_of_limit": round(count / took / rate, 3),
            "refused": refused,
        }
    with FaultServer(latency=0.05) as server:
        count = int(rate * seconds)
        begin, cpu = time.perf_counter(), time.process_time()
        gateway(folder / "ceiling", concurrency=64).ask(provider(server.url), requests(count))
        took, used = time.perf_counter() - begin, time.process_time() - cpu
    found["ceiling"] = {
        "requests": count,
        "per_second": round(count / took, 1),
        "client_cpu_ms_per_request": round(1000 * used / count, 2),
        "share_of_time_the_client_computes": round(used / took, 2),
    }
    return found


class Nothing(Provider):
    """A provider that answers after a while and computes nothing: what is left is the gateway's own work."""

    name: ClassVar[str] = "nothing"
    model = "m"
    identity: ClassVar[dict[str, Any]] = {"model": "m"}  # type: ignore[assignment]

    async def send(self, request: Request, timeout: float) -> Sent:
        await asyncio.sleep(0.02)
        return Sent(answer_to({"model": "m", "logprobs": True, "top_logprobs": 5}, request.prompt))

    def read(self, raw: Mapping[str, Any]) -> Reply:
        return Reply(raw["choices"][0]["message"]["content"], "stop", usage=Usage(raw["usage"]["prompt_tokens"], 1))


def overhead(folder: Path, count: int) -> dict[str, Any]:
    """The gateway without HTTP: claims, budget, limits, durable storing, settling."""
    begin, cpu = time.perf_counter(), time.process_time()
    answers = gateway(folder, concurrency=64).ask(Nothing(), requests(count), max_cost=100.0)
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "answered": len(answers.responses),
        "per_second": round(count / took, 1),
        "cpu_ms_per_request": round(1000 * used / count, 2),
    }


def kills(folder: Path, count: int, times: int, seed: int) -> dict[str, Any]:
    """`kill -9` at random moments, each time started again."""
    chance, in_flight = random.Random(seed), 32
    with FaultServer(latency=0.1) as server:
        order = {"url": server.url, "folder": str(folder), "count": count, "gateway": {"concurrency": in_flight, "lease": 2.0}}
        kept_before: dict[str, int] = {}
        asked_again = lost = 0
        for _ in range(times):
            process = _start(order)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 1.5))
            process.kill()
            process.wait()
            record = server.record()["lines"]
            there = gateway(folder).lookup(provider(server.url), requests(count))
            kept = {response.request["prompt"]: record[response.request["prompt"]]["received"] for response in there.values()}
            lost += len(kept_before.keys() - kept.keys())
            asked_again += sum(kept[text] != received for text, received in kept_before.items())
            kept_before = kept
        outcome = _outcome(_start(order))
        record = server.record()
    total = gateway(folder).ledger.total()
    return {
        "kills": times,
        "texts": count,
        "answered": outcome["answered"],
        "stored_replies_lost": lost,
        "stored_replies_asked_again": asked_again,
        "billed_twice": sum(line["billed"] - 1 for line in record["lines"].values()),
        "in_flight_when_killed_by_the_ledger": total.unknown_attempts,
        "at_most_in_flight": times * in_flight,
        "server_bill_usd": record["nanodollars"] / 1e9,
        "ledger_usd": total.spent / 1e9,
    }


def processes(folder: Path, count: int) -> dict[str, Any]:
    """Two and four processes that ask the same."""
    found = {}
    for number in (2, 4):
        with FaultServer(latency=0.1) as server:
            order = {"url": server.url, "folder": str(folder / str(number)), "count": count, "gateway": {"concurrency": 16}}
            outcomes = [_outcome(process) for process in [_start(order) for _ in range(number)]]
            lines = server.record()["lines"].values()
        damage = gateway(folder / str(number)).cache.verify()
        found[str(number)] = {
            "texts": count,
            "answered": [outcome["answered"] for outcome in outcomes],
            "billed": sum(line["billed"] for line in lines),
            "damaged_rows": len(damage),
        }
    return found


def cached(folder: Path, count: int) -> dict[str, Any]:
    """A run whose replies are all there. The cache is filled directly; the run that is timed is a process of its own."""
    who, now = provider("http://127.0.0.1:9/v1"), time.time()
    asked = requests(count)
    cache = SQLiteResponses(str(folder))
    for first in range(0, count, 5000):
        cache.put(
            [
                Response(
                    request.key(who.identity),
                    who.name,
                    who.model,
                    request.content(who.identity),
                    answer_to({"model": "m", "logprobs": True, "top_logprobs": 5}, request.prompt),
                    {"input": 5, "output": 1, "cost_nanodollars": 9000},
                    now,
                )
                for request in asked[first : first + 5000]
            ]
        )
    cache.close()
    begin = time.perf_counter()
    # Nobody listens at that address: a request would fail.
    outcome = _outcome(_start({"url": "http://127.0.0.1:9/v1", "folder": str(folder), "count": count}))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {
        "texts": count,
        "answered": outcome["answered"],
        "asked": outcome["asked"],
        "seconds": round(seconds, 1),
        "peak_mb": round(peak),
    }


def _start(order: dict[str, Any]) -> subprocess.Popen[str]:
    script = ROOT / "tests" / "scoring" / "gateway" / "asks.py"
    return subprocess.Popen([sys.executable, str(script), json.dumps(order)], stdout=subprocess.PIPE, text=True)


def _outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.communicate()[0].splitlines()[-1])
    return found


def main() -> None:
    """Runs the parts and writes their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, help="requests of the faults and of the budget")
    parser.add_argument("--rate", type=float, default=100.0, help="the server's limit, requests per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a throughput run at that rate")
    parser.add_argument("--cached", type=int, default=100_000, help="texts of the run that asks nothing")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills")
    parser.add_argument("--only", nargs="+", help="only these parts, and no record")
    parser.add_argument("--out", default="benchmarks/results/gateway.json", help="the record to write")
    arguments = parser.parse_args()
    os.environ[KEY_NAME] = KEY
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "overhead": lambda folder: overhead(folder, arguments.requests),
        "throughput": lambda folder: throughput(folder, arguments.rate, arguments.seconds),
        "faults": lambda folder: faults(folder, arguments.requests),
        "budget": lambda folder: budget(folder, arguments.requests),
        "kills": lambda folder: kills(folder, 3000, 10, arguments.seed),
        "processes": lambda folder: processes(folder, 1000),
        "cached": lambda folder: cached(folder, arguments.cached),
    }
    figures: dict[str, Any] = {}
    for name, part in parts.items():
        if arguments.only and name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = part(Path(folder))
        print(name, json.dumps(figures[name]), flush=True)
    if arguments.only:
        return
    end, used = figures["faults"], figures["throughput"]
    write(
        arguments.out,
        f"Of {end['requests']:,} requests at 10 % faults {end['answered']:,} are answered; "
        f"{end['billed_twice_though_the_reply_arrived']} are billed twice though their reply arrived; "
        f"{100 * used['without_headers']['share_of_limit']:.0f} % of a limit of {arguments.rate:g} a second are used.",
        figures,
        f"python -m benchmarks.gateway --requests {arguments.requests} --rate {arguments.rate:g} "
        f"--seconds {arguments.seconds:g} --cached {arguments.cached} --seed {arguments.seed}",
        seeds=[arguments.seed],
    )


if __name__ == "__main__":
    main()
