"""How soon a command line answers: ours beside what it stands on, each in a fresh process, in turns.

    python -m benchmarks.startup

`lf --help` must import no torch. `lf fit --help-all` builds every option; `import lightning.pytorch` alone is what
it stands on. Times are of the wall and of the processor: the second is hardly touched by what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, write

LF = [sys.executable, "-m", "lf_lightning"]
SIDES: dict[str, list[str]] = {
    "python": [sys.executable, "-c", "pass"],
    "lf --help": [*LF, "--help"],
    "lf fit --help": [*LF, "fit", "--help"],
    "lf fit --help-all": [*LF, "fit", "--help-all"],
    "import lf_lightning": [sys.executable, "-c", "import lf_lightning"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import lightning.pytorch": [sys.executable, "-c", "import lightning.pytorch"],
    "import transformers, its Trainer": [sys.executable, "-c", "from transformers import Trainer"],
    "import sklearn, its LogisticRegression": [sys.executable, "-c", "from sklearn.linear_model import LogisticRegression"],
    "import setfit": [sys.executable, "-c", "import setfit"],
}


def once(command: list[str]) -> tuple[float, float]:
    """Runs a command and returns its seconds of wall and processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Runs every side in turns, the first of which warms up, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0, help="of the order within a turn")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/startup.json"))
    options = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    left_out = []
    rng = np.random.default_rng(options.seed)
    for turn in range(options.turns + 1):
        for name in rng.permutation(list(times)).tolist():
            try:
                found = once(SIDES[name])
            except subprocess.CalledProcessError:
                if name != "import setfit":
                    raise
                del times[name]
                left_out.append(name)
                continue
            if turn:
                times[name].append(found)
    figures: dict[str, Any] = {"turns": options.turns, "left_out": left_out, "sides": {}}
    for name, pairs in times.items():
        kinds = {}
        for kind, values in zip(("wall", "cpu"), np.array(pairs).T, strict=True):
            low, median, high = np.percentile(values, [25, 50, 75])
            kinds[kind] = {"median": round(float(median), 3), "low": round(float(low), 3), "high": round(float(high), 3)}
        figures["sides"][name] = kinds
        print(name, kinds, flush=True)
    ours, bare = (figures["sides"][name]["cpu"]["median"] for name in ("lf --help", "import lightning.pytorch"))
    write(
        options.out,
        f"lf --help takes {ours:.2f} s of the processor, import lightning.pytorch alone {bare:.2f} s.",
        figures,
        "python -m benchmarks.startup",
        [options.seed],
    )


if __name__ == "__main__":
    main()
