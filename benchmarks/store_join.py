"""How long, and how much memory, it takes to open a score store and join it to N texts (3 scorers, 10 labels).

Each size runs in processes of its own: one writes the store, another opens it and joins. Extra memory is the peak of resident
memory while opening and joining, mapped files included, less what was resident before: the interpreter and the texts.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, write
from lf_lightning.store import ScorerCard, ScoreStore

SCORERS = 3
LABELS = tuple(f"label {number}" for number in range(10))
SHARD_ROWS = 50_000
CHARACTERS = 240
"""As long as a text of AG News."""
MISSING = 0.01
"""Share of the texts that a scorer has no row for."""


def texts_of(rows: int, seed: int) -> list[str]:
    """Returns `rows` distinct texts of about `CHARACTERS` characters."""
    rng = np.random.default_rng(seed)
    words = [f"{'aeiou'[i % 5]}{i:x}" for i in range(5000)]
    pool = " ".join(np.array(words)[rng.integers(0, len(words), 200_000)])
    starts = rng.integers(0, len(pool) - CHARACTERS, rows).tolist()
    return [f"{row} {pool[start : start + CHARACTERS]}" for row, start in enumerate(starts)]


def card_of(scorer: int) -> ScorerCard:
    """Returns the card of a made-up scorer."""
    return ScorerCard(f"scorer {scorer}", LABELS, "multiclass", {"model": f"made-up-{scorer}"})


def fill(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    """Writes a store of random scores for all but `MISSING` of the texts, in an order that is not the texts'."""
    texts = texts_of(rows, seed)
    store = ScoreStore(folder, create=True)
    begin = time.perf_counter()
    stored = 0
    for scorer in range(SCORERS):
        for part, scores in _shards(rows, seed + scorer):
            stored += store.append(card_of(scorer), [texts[row] for row in part], scores)
    return {"append_seconds": round(time.perf_counter() - begin, 3), "stored_rows": stored}


def _shards(rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    kept = rng.permutation(rows)[: round(rows * (1 - MISSING))]
    for start in range(0, len(kept), SHARD_ROWS):
        part = kept[start : start + SHARD_ROWS]
        yield part, rng.dirichlet(np.full(len(LABELS), 0.3), len(part)).astype(np.float32)


def measure(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    """Opens the store and joins it."""
    texts = texts_of(rows, seed)
    before = resident("VmRSS")
    begin = time.perf_counter()
    store = ScoreStore(folder)
    joined = store.join(texts, [f"scorer {scorer}" for scorer in range(SCORERS)], LABELS[::-1])
    seconds = time.perf_counter() - begin
    result = joined.scores.nbytes + joined.scored.nbytes + joined.status.nbytes
    return {
        "seconds": round(seconds, 3),
        "extra_mb": round((resident("VmHWM") - before) / 1e6, 1),
        "result_mb": round(result / 1e6, 1),
        "scored_rows": int(joined.scored.sum()),
    }


def resident(field: str) -> int:
    """Returns resident memory in bytes: `VmRSS` now, `VmHWM` at its peak; without /proc the peak for both.

    `ru_maxrss` alone would mislead on Linux, where a child begins with its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Runs the benchmark for every size and writes its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of texts")
    parser.add_argument("--seed", type=int, default=0, help="seed of texts and scores")
    parser.add_argument("--out", default="benchmarks/results/store_join.json", help="the record to write")
    parser.add_argument("--step", choices=["fill", "measure"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step = fill if arguments.step == "fill" else measure
        print(json.dumps(step(arguments.folder, arguments.rows[0], arguments.seed)))
        return
    figures: dict[str, Any] = {"scorers": SCORERS, "labels": len(LABELS), "rows": {}}
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            figures["rows"][str(rows)] = _in_process("fill", folder, rows, arguments.seed) | _in_process(
                "measure", folder, rows, arguments.seed
            )
        print(rows, figures["rows"][str(rows)], flush=True)
    largest = figures["rows"][str(max(arguments.rows))]
    write(
        arguments.out,
        f"Opening a score store and joining {max(arguments.rows):,} texts with {SCORERS} scorers of {len(LABELS)} labels takes "
        f"{largest['seconds']:.1f} s and {largest['extra_mb']:.0f} MB beside the texts.",
        figures,
        f"python -m benchmarks.store_join --rows {' '.join(map(str, arguments.rows))} --seed {arguments.seed}",
        seeds=[arguments.seed],
    )


def _in_process(step: str, folder: str, rows: int, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.store_join", "--step", step, "--folder", folder, "--rows", str(rows)]
    done = subprocess.run([*command, "--seed", str(seed)], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
