"""The parts of a tiny co-training, for tests and the processes that they start; see `parts`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor

from lf_lightning.data import ScoredTextDataModule
from lf_lightning.systems.cotraining import CoTrainingLightningModule

# A process started by a test finds this file's neighbour by its bare name.
try:
    from tests.systems.parts import data_of, trainer_of
except ImportError:
    from parts import data_of, trainer_of  # type: ignore[no-redef]


def rows_of(world: str | Path, **options: Any) -> ScoredTextDataModule:
    """Six gold rows a class, the other 43 of 61 train rows unlabelled; the scores of one scorer."""
    given: dict[str, Any] = {
        "labels_per_class": 6,
        "keep_unlabelled": True,
        "on_missing": "mask",
        "scorers": ["good"],
        "labels": ["politics", "science", "sport"],
    }
    return data_of(world, **{**given, **options})


def pair_of(world: str | Path, data: ScoredTextDataModule | None = None, **options: Any) -> CoTrainingLightningModule:
    """A pair of the world's encoder: 2 epochs of weights, 3 of co-training, 2 of fine-tuning; linked to `data` as in `lf`."""
    given: dict[str, Any] = {
        "labels": data.labels if data else ["politics", "science", "sport"],
        "task": data.task if data else "multiclass",
        "scorers": data.scorer_names if data else ["good"],
        "encoder": str(Path(world) / "encoder"),
        "weights_epochs": 2,
        "cotrain_epochs": 3,
        "finetune_epochs": 2,
        "encoder_lr": 1e-3,
        "classifier_lr": 1e-2,
    }
    return CoTrainingLightningModule(**{**given, **options})


def fit_pair(
    world: str | Path,
    root: str | Path,
    callbacks: Sequence[Callback] = (),
    data: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    ckpt_path: str | Path | None = None,
    last: int | None = None,
    **model: Any,
) -> CoTrainingLightningModule:
    """Fits and returns the module, which stays attached to its trainer."""
    rows = rows_of(world, **(data or {}))
    module = pair_of(world, rows, **model)
    trainer_of(root, callbacks, last, **(trainer or {})).fit(module, rows, ckpt_path=ckpt_path, weights_only=True)
    return module


def state_of(module: CoTrainingLightningModule) -> dict[str, Tensor]:
    """All that a fit leaves: parameters and buffers, history and weights."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    state |= {f"history.{name}": value for name, value in module.history.kept().items()}
    state["row_weights"] = module.row_weights
    state["steps"] = torch.tensor(module.trainer.global_step)
    return state
