"""Training and prediction throughput of the fusion system against three rivals with the same model and the same rows.

    python -m benchmarks.throughput

* `loop`: a hand-written PyTorch loop.
* `transformers_trainer`: `transformers.Trainer` with padding to the longest text of a batch (needs accelerate).
* `loop_padded_to_256`: the same loop with every text padded to 256 tokens.

All sides are served the same batches of texts of similar length (see `throughput_rows`). The rivals train the same encoder,
classifier and head with the same loss and fused AdamW, and none of what the system does beside it: logs, checks, calibration,
the members' own opinions. The four take turns of a few batches in one process, in an order drawn anew for each turn, so that
what else the machine does hits all alike; a round is one pass over the rows, and the figures are quartiles of the rounds'
ratios, over several processes. The first round of a process warms up. What happens once an epoch (validation, checkpoints,
tables) is not timed on any side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import ROOT, write
from benchmarks.throughput_rows import ENCODER, MAX_LENGTH, rows_of
from benchmarks.throughput_sides import hand_written, ours, transformers_trainer
from benchmarks.turns import Turns, take_turns
from lf_lightning.data.tokenizer import load_tokenizer

OURS = "lf_lightning"
TURN = 4
"""Batches of a turn."""
TARGETS = {"loop": 0.97, "transformers_trainer": 1.0, "loop_padded_to_256": 4.0}


def figures_of(processes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns, for training and prediction, ratios of rows a second, ours over each rival's, over the rounds of all processes.

    Args:
        processes: What `measure` returned in each.
    """
    figures: dict[str, Any] = {}
    for kind in ("training", "prediction"):
        passes = {name: np.concatenate([p[kind][name] for p in processes]).T for name in processes[0][kind]}
        speed = {name: rows / seconds for name, (rows, seconds, _) in passes.items()}
        busy = {name: rows / cpu for name, (rows, _, cpu) in passes.items()}
        rivals = [name for name in passes if name != OURS]
        figures[kind] = {
            "ratio": {name: _quartiles(speed[OURS] / speed[name]) for name in rivals},
            "ratio_by_processor_time": {name: _quartiles(busy[OURS] / busy[name]) for name in rivals},
            "rows_per_second": {name: round(float(np.median(value)), 1) for name, value in speed.items()},
        }
    return figures


def _quartiles(ratios: Iterable[float]) -> dict[str, float]:
    low, median, high = np.percentile(list(ratios), [25, 50, 75])
    return {"median": round(float(median), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def measure(
    folder: Path, batches: int, batch_size: int, rounds: int, seed: int = 0, encoder: str = ENCODER, with_trainer: bool = True
) -> dict[str, Any]:
    """Runs the comparison in this process; returns what it ran on, and rows, seconds and processor time of each side's passes.

    Args:
        folder: For what the sides write.
        batches: Batches of a round.
        batch_size: Rows in a batch.
        rounds: Number of rounds that count.
        seed: Of texts and orders.
        encoder: Name of the encoder.
        with_trainer: Whether `transformers.Trainer` takes part.
    """
    data, passes = rows_of(folder, batches, batch_size, encoder, seed), rounds + 1
    width = min(MAX_LENGTH, int(load_tokenizer(encoder).model_max_length))
    sides = {
        OURS: Turns(ours(data, passes, folder / "ours"), TURN),
        "loop": Turns(hand_written(data, passes), TURN),
        "transformers_trainer": Turns(transformers_trainer(data, passes, folder / "trainer"), TURN),
        "loop_padded_to_256": Turns(hand_written(data, passes, width, share=TURN), 1),  # its batches all cost the same
    }
    if not with_trainer:
        del sides["transformers_trainer"]
    take_turns(list(sides.values()), 2 * passes * -(-batches // TURN), seed)
    padded = np.mean([data.lengths[batch].max() for batch in data.batches])
    return {
        "rounds": rounds,
        "batches": batches,
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "mean_tokens": round(float(data.lengths.mean()), 1),
        "mean_tokens_with_padding": round(float(padded), 1),
        "training": {name: side.passes[1:passes] for name, side in sides.items()},
        "prediction": {name: side.passes[passes + 1 : 2 * passes] for name, side in sides.items()},
    }


def main() -> None:
    """Runs the benchmark once for each seed, in processes whose threads sleep while they wait, and writes its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=12, help="batches of a round")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8, help="rounds of a process that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one process for each")
    parser.add_argument("--out", default="benchmarks/results/throughput.json", help="the record to write")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        warnings.filterwarnings("ignore")
        (seed,) = options.seeds
        found = measure(options.here.parent, options.batches, options.batch_size, options.rounds, seed)
        options.here.write_text(json.dumps(found), encoding="utf-8")
        return
    processes = [_in_its_own_process(seed, options) for seed in options.seeds]
    figures = {key: value for key, value in processes[0].items() if key not in ("training", "prediction")}
    figures |= {**figures_of(processes), "processes": len(processes), "targets": TARGETS}
    said = []
    for verb, kind in (("trains", "training"), ("predicts", "prediction")):
        print(kind, figures[kind], flush=True)
        loop, trainer, padded = (figures[kind]["ratio"][rival]["median"] for rival in TARGETS)
        said.append(
            f"{verb} at {loop:.2f} times the speed of a hand-written loop, {trainer:.2f} times that of transformers.Trainer "
            f"and {padded:.1f} times that of padding to 256 tokens"
        )
    claim = f"On texts as long as those of AG News the fusion system {said[0]}; it {said[1]}."
    write(options.out, claim, figures, "python -m benchmarks.throughput", options.seeds)


def _in_its_own_process(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    # Where a process's weights lie in memory favours one side or the other by a few percent, the same ones to its end. And a
    # thread has an arena of its own, which may give memory back after each step and fault it in again, 44 ms of processor time
    # a step on one side and nothing on another: all sides share the main thread's, as each has it where it runs alone.
    settings = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    settings |= {"MALLOC_ARENA_MAX": "1"}
    numbers = {"batches": options.batches, "batch-size": options.batch_size, "rounds": options.rounds, "seeds": seed}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        arguments = [f"--{name}={number}" for name, number in numbers.items()]
        command = [sys.executable, "-m", "benchmarks.throughput", f"--here={file}", *arguments]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **settings})
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
