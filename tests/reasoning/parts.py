"""The parts of a tiny fit of the reasoning system."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from lf_lightning.callbacks import BestCheckpoint, CollectOutputs, FitCalibrators, LastCheckpoint, LogMetrics
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.systems.reasoning import ReasoningLightningModule

QUIET: dict[str, Any] = {
    "max_epochs": -1,
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}


def trainer_of(root: str | Path, callbacks: Sequence[Callback] = (), last: int | None = None, **options: Any) -> Trainer:
    """A quiet trainer with the callbacks that calibrate and measure; `last`: also `LastCheckpoint(last)` and the best."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    checkpoints = [] if last is None else [BestCheckpoint(), LastCheckpoint(last)]
    given = {"default_root_dir": str(root), "enable_checkpointing": last is not None}
    watching = [CollectOutputs(), FitCalibrators(), LogMetrics(), *callbacks, *checkpoints]
    return Trainer(callbacks=watching, **{**QUIET, **given, **options})


def data_of(world: str | Path, lm: str, **options: Any) -> ScoredTextDataModule:
    folder = Path(world)
    given: dict[str, Any] = {
        "train": str(folder / "train.csv"),
        "validation": str(folder / "validation.csv"),
        "test": str(folder / "test.csv"),
        "tokenizer": lm,
        "reasons": str(folder / "reasons"),
        "batch_size": 8,
        "eval_batch_size": 16,
    }
    return ScoredTextDataModule(**{**given, **options})


def model_of(lm: str, **options: Any) -> ReasoningLightningModule:
    given: dict[str, Any] = {
        "labels": ["politics", "science", "sport"],
        "encoder": lm,
        "epochs": 2,
        "lr": 1e-2,
        "max_reason_tokens": 12,
    }
    return ReasoningLightningModule(**{**given, **options})


def fit(
    world: str | Path,
    lm: str,
    root: str | Path,
    callbacks: Sequence[Callback] = (),
    data: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    ckpt_path: str | Path | None = None,
    last: int | None = None,
    **model: Any,
) -> ReasoningLightningModule:
    """Fits and returns the module, which stays attached to its trainer."""
    module = model_of(lm, **model)
    rows = data_of(world, lm, **(data or {}))
    trainer_of(root, callbacks, last, **(trainer or {})).fit(module, rows, ckpt_path=ckpt_path, weights_only=True)
    return module


def state_of(module: ReasoningLightningModule) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def answered(
    module: ReasoningLightningModule, world: str | Path, lm: str, root: str | Path, trainer: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """The weights, and what is said of the test rows."""
    trainer_of(root, **trainer).test(module, data_of(world, lm), verbose=False)
    outputs = module.evaluated["test"]
    found = {"index": outputs.index, "logits": outputs.logits, **state_of(module)}
    if outputs.rationales is not None:
        found["rationales"] = outputs.rationales
    return found
