"""The parts of a tiny fit, for tests and the processes that they start: all that they share lies in one folder, the world."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from lf_lightning.callbacks import (
    BestCheckpoint,
    CollectOutputs,
    FitCalibrators,
    FitDeferral,
    LastCheckpoint,
    LogMetrics,
    WritePredictions,
)
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.store import ScorerCard, ScoreStore
from lf_lightning.systems.fusion import FusionLightningModule

SCORERS = {"good": 1.2, "weak": 0.4}


def add_scores(
    folder: Path, name: str, strength: float, table: pd.DataFrame, labels: Sequence[str], rows: slice | None = None
) -> None:
    """Adds a scorer whose log-odds are the truth times `strength`, and noise."""
    store = ScoreStore(folder, create=True)
    multilabel = table["label"].str.contains("|", regex=False).any()
    rng = np.random.default_rng([len(name), len(table)])
    truth = np.array([[label in cell.split("|") for label in labels] for cell in table["label"]], dtype=float)
    logits = strength * (2 * truth - 1) + rng.normal(size=truth.shape)
    p = 1 / (1 + np.exp(-logits)) if multilabel else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    card = ScorerCard(name, tuple(labels), "multilabel" if multilabel else "multiclass", {"model": name})
    chosen = rows or slice(None)
    store.append(card, table["text"].tolist()[chosen], p.astype(np.float32)[chosen])


def data_of(world: str | Path, **options: Any) -> ScoredTextDataModule:
    """The world's rows with two scorers, eight to a batch; training and evaluation batches are uneven."""
    folder = Path(world)
    given: dict[str, Any] = {
        "train": str(folder / "train.csv"),
        "validation": str(folder / "validation.csv"),
        "test": str(folder / "test.csv"),
        "tokenizer": str(folder / "encoder"),
        "scores": str(folder / "scores"),
        "batch_size": 8,
        "eval_batch_size": 16,
    }
    return ScoredTextDataModule(**{**given, **options})


def without_dropout(world: Path, folder: Path) -> Path:
    """Copies the world into a folder, and takes dropout out of its encoder: two processes draw other units than one."""
    copied = Path(shutil.copytree(world, folder))
    config = json.loads((copied / "encoder/config.json").read_text(encoding="utf-8"))
    config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (copied / "encoder/config.json").write_text(json.dumps(config), encoding="utf-8")
    return copied


def model_of(world: str | Path, data: ScoredTextDataModule | None = None, **options: Any) -> FusionLightningModule:
    """A fusion of the world's encoder and scorers, cross-fitted in two folds; linked to `data` as `lf` does it."""
    given: dict[str, Any] = {
        "labels": data.labels if data else ["politics", "science", "sport"],
        "task": data.task if data else "multiclass",
        "scorers": data.scorer_names if data else list(SCORERS),
        "encoder": str(Path(world) / "encoder"),
        "folds": 2,
        "encoder_epochs": 1,
        "head_epochs": 2,
        "encoder_lr": 1e-3,
        "classifier_lr": 1e-2,
        "head_lr": 1e-2,
    }
    return FusionLightningModule(**{**given, **options})


def trainer_of(root: str | Path, callbacks: Sequence[Callback] = (), last: int | None = None, **options: Any) -> Trainer:
    """A quiet trainer with the callbacks that calibrate and measure; `last`: also `LastCheckpoint(last)` and the best."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    checkpoints = [] if last is None else [BestCheckpoint(), LastCheckpoint(last)]
    given: dict[str, Any] = {
        "max_epochs": -1,
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": str(root),
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": last is not None,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    watching = [CollectOutputs(), FitCalibrators(), FitDeferral(), LogMetrics(), *callbacks, *checkpoints]
    return Trainer(callbacks=watching, **{**given, **options})


def fit(
    world: str | Path,
    root: str | Path,
    callbacks: Sequence[Callback] = (),
    data: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    ckpt_path: str | Path | None = None,
    last: int | None = None,
    **model: Any,
) -> FusionLightningModule:
    """Fits and returns the module, which stays attached to its trainer."""
    rows = data_of(world, **(data or {}))
    module = model_of(world, rows, **model)
    trainer_of(root, callbacks, last, **(trainer or {})).fit(module, rows, ckpt_path=ckpt_path, weights_only=True)
    return module


def test_logits(world: str | Path, root: str | Path, module: FusionLightningModule, **data: Any) -> Tensor:
    """The module's calibrated logits (n, K) of the test rows."""
    trainer_of(root).test(module, data_of(world, **data), verbose=False)
    with torch.no_grad():
        calibrated: Tensor = module.calibrator(module.evaluated["test"].logits)
    return calibrated


def final_state(world: str | Path, root: str | Path, module: FusionLightningModule, **data: Any) -> dict[str, Tensor]:
    """All that a fit leaves: parameters, buffers (calibrators, decisions), evidence, and calibrated test logits."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    if module.evidence.logits is not None:
        state["evidence"] = module.evidence.logits.clone()
    state["test_logits"] = test_logits(world, root, module, **data)
    return state


def evaluated(world: str | Path, checkpoint: str, out: Path, trainer: dict[str, Any], **data: Any) -> dict[str, Any]:
    """Metrics and gathered outputs of the test rows from a checkpoint, and the predictions in `out`."""
    rows = data_of(world, **data)
    module, runner = model_of(world, rows), trainer_of(out, [WritePredictions()], **trainer)
    runner.test(module, rows, ckpt_path=checkpoint, verbose=False, weights_only=True)
    outputs = module.evaluated["test"]
    return {
        "metrics": {name: float(value) for name, value in runner.callback_metrics.items()},
        "index": outputs.index,
        "logits": outputs.logits,
        "members": outputs.members,
    }


def trained(world: str | Path, out: Path, trainer: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What a fit leaves on this rank."""
    module = fit(world, out, trainer=trainer, last=0, **options)
    return {
        "evidence": module.evidence.logits,
        "state": {name: value.clone() for name, value in module.state_dict().items()},
        "steps": module.trainer.global_step,
        "metrics": {name: float(value) for name, value in module.trainer.callback_metrics.items()},
    }


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Names whose values are not the same bit for bit (a NaN is the same as a NaN)."""
    if one.keys() != other.keys():
        return sorted(one.keys() ^ other.keys())
    return [
        name
        for name, value in one.items()
        if value.shape != other[name].shape or not torch.allclose(value, other[name], rtol=0, atol=0, equal_nan=True)
    ]


test_logits.__test__ = False  # type: ignore[attr-defined]  # its name says what it returns
