"""A process of its own that stores made-up responses, or claims and settles, and says so on its standard output.

`python worker.py put BACKEND FOLDER FIRST STOP STEP SIZE`: stores the responses of range(FIRST, STOP, STEP), SIZE at a time,
and prints how many were acknowledged so far.
`python worker.py spend FOLDER KEYS CAP THREADS LEASE SEED`: asks in THREADS threads for KEYS keys each, what costs 7 of at most
10, and prints what it asked.
`python worker.py claim FOLDER FIRST`: claims one key after the other, settles each, and prints both, until it is killed.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from lf_lightning.responses import Granted, Held, Ledger, Response, ResponseCache, SqliteDictResponses, SQLiteResponses

BACKENDS: dict[str, type[ResponseCache]] = {backend.__name__: backend for backend in (SQLiteResponses, SqliteDictResponses)}
SAME = {"provider": "openai", "model": "gpt", "run": "r"}
BOUND, COST = 10, 7


def key_of(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def response(number: int, words: int = 40, by: str = "") -> Response:
    return Response(
        key_of(number),
        "openai",
        "gpt",
        {"prompt": f"text {number} " * words, "temperature": None},
        {"choices": [{"text": f"é \ud800 \x00 {number}", "logprob": -0.1}], "by": by},
        {"input": 10 + number, "output": 1, "cost_nanodollars": 7},
        1.5e9 + number,
    )


def put(backend: str, folder: str, *numbers: str) -> None:
    first, stop, step, size = map(int, numbers)
    cache = BACKENDS[backend](folder)
    print("ready", flush=True)
    todo = range(first, stop, step)
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        cache.put([response(number) for number in part])
        print(start + len(part), flush=True)


def spend(folder: str, *numbers: str) -> None:
    keys, cap, threads = map(int, numbers[:3])
    ledger, cache = Ledger(folder, lease=float(numbers[3])), SQLiteResponses(folder)
    print("ready", flush=True)

    def ask(order: Sequence[int]) -> list[int]:
        asked = []
        for number in order:
            (claim,) = ledger.claim([(key_of(number), BOUND)], cap=cap, **SAME).values()
            total = ledger.total()
            assert total.spent + total.reserved <= cap
            if isinstance(claim, Granted):
                if cache.get([key_of(number)]):
                    ledger.settle(claim.attempt_id, 0, "free")
                else:
                    asked.append(number)
                    cache.put([response(number)])
                    ledger.settle(claim.attempt_id, COST, "billed")
        return asked

    rng = random.Random(int(numbers[4]))
    with ThreadPoolExecutor(threads) as pool:
        orders = [rng.sample(range(keys * thread, keys * (thread + 1)), keys) for thread in range(threads)]
        for asked in pool.map(ask, orders):
            print(*asked, flush=True)


def claim(folder: str, first: str) -> None:
    ledger = Ledger(folder, lease=0.3)
    print("ready", flush=True)
    number = int(first)
    while True:
        (found,) = ledger.claim([(key_of(number), BOUND)], cap=None, **SAME).values()
        while isinstance(found, Held):
            time.sleep(0.02)
            (found,) = ledger.claim([(key_of(number), BOUND)], cap=None, **SAME).values()
        assert isinstance(found, Granted)
        print("granted", number, flush=True)
        ledger.settle(found.attempt_id, COST, "billed")
        print("settled", number, flush=True)
        number += 1


if __name__ == "__main__":
    {"put": put, "spend": spend, "claim": claim}[sys.argv[1]](*sys.argv[2:])
