"""Co-training's rows as vectors of the pretrained encoder: what needs no fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import SelfTrainingClassifier

from lf_lightning.contract import Split
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.encoders import TextEncoder

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def self_training(data: ScoredTextDataModule, encoder: str) -> dict[str, Any]:
    """Returns a cell of scikit-learn's self-training: a regression on frozen vectors, gold rows and unlabelled texts."""
    started = time.perf_counter()
    raw, labels = vectors_of(data, encoder)
    vectors = {split: found / np.linalg.norm(found, axis=1, keepdims=True) for split, found in raw.items()}
    learner = SelfTrainingClassifier(LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced"), threshold=0.8)
    learner.fit(vectors["train"], labels["train"])
    made: dict[str, Any] = {split: learner.predict(vectors[split]).tolist() for split in ("validation", "test")}
    return {
        "system": made["test"],
        "labels": labels["test"].tolist(),
        "validation": {"system": made["validation"], "labels": labels["validation"].tolist()},
        "weights": {},
        "steps": 0,
        "seconds": time.perf_counter() - started,
    }


def vectors_of(
    data: ScoredTextDataModule, encoder: str
) -> tuple[Mapping[str, NDArray[np.float32]], Mapping[str, NDArray[np.int64]]]:
    """Returns the pretrained encoder's vectors (n, d) and the labels (n,), -1 where unknown, by split."""
    data.setup("fit")
    data.setup("test")
    model = TextEncoder(encoder, frozen_layers=-1).eval()
    vectors: dict[str, NDArray[np.float32]] = {}
    labels: dict[str, NDArray[np.int64]] = {}
    for split in SPLITS:
        out = np.zeros((data.number_of_rows(split), model.dim), dtype=np.float32)
        for batch in data.rows_dataloader(split):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                out[batch["index"]] = model(batch["input_ids"], batch["attention_mask"]).float().numpy()
        vectors[split] = out
        labels[split] = data.scores_and_labels(split)[2].numpy()
    return vectors, labels
